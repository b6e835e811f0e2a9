from __future__ import annotations

import pytest

from gateway.batches.eta import WINDOW, Pace, estimate


def test_nothing_is_known_at_the_beginning() -> None:
    pace = Pace()
    assert pace.rate == 0.0
    pace.observe(0.0, 0)
    assert pace.rate == 0.0


def test_the_rate_is_that_of_the_last_minute() -> None:
    pace = Pace()
    for second in range(200):
        pace.observe(float(second), 1_000 if second < 100 else 1_000 + (second - 100) * 10)
    assert pace.rate == pytest.approx(10, rel=0.05)
    assert pace._samples[0][0] >= 199 - WINDOW


def test_a_count_or_a_clock_that_goes_back_starts_anew() -> None:
    pace = Pace()
    pace.observe(10.0, 100)
    pace.observe(11.0, 50)
    assert pace.rate == 0.0
    pace.observe(9.0, 60)
    assert pace.rate == 0.0


@pytest.mark.parametrize(
    ("rate", "remaining", "latest_due", "seconds"),
    [
        (10.0, 0, None, 0.0),
        (10.0, 100, None, 10.0),
        (10.0, 100, 1_600.0, 600.0),  # a second look that is due later than the rest is done
        (0.0, 100, 1_600.0, 600.0),
        (0.0, 100, None, None),
        (0.0, 100, 900.0, None),  # due already
    ],
)
def test_the_estimate_is_the_longer_of_work_and_waiting(
    rate: float, remaining: int, latest_due: float | None, seconds: float | None
) -> None:
    assert estimate(rate, remaining, 1_000.0, latest_due) == seconds
