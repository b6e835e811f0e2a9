import pytest

from services.webhooks.decide import DELAYS, FAILING_FOR, Tried, decide, disable_why

DOWN = Tried(503, 10, "down")


def test_ten_tries_span_nearly_28_hours() -> None:
    assert len(DELAYS) + 1 == 10
    assert DELAYS[0] == 5
    assert 27 * 3600 < sum(DELAYS) < 28 * 3600
    assert list(DELAYS) == sorted(DELAYS)


@pytest.mark.parametrize("tries", range(1, 10))
@pytest.mark.parametrize("chance", [0.0, 0.5, 1.0])
def test_each_delay_is_spread_by_a_fifth(tries: int, chance: float) -> None:
    following = decide(DOWN, tries, DELAYS, chance)
    assert following.state == "pending"
    assert following.delay == pytest.approx(DELAYS[tries - 1] * (0.8 + 0.4 * chance))


def test_the_tenth_failure_is_the_last() -> None:
    assert decide(DOWN, 10, DELAYS, 0.5).state == "exhausted"


@pytest.mark.parametrize("status", [200, 201, 204, 299])
def test_any_2xx_is_delivered(status: int) -> None:
    assert decide(Tried(status, 1, ""), 1, DELAYS, 0.5).state == "delivered"


@pytest.mark.parametrize("status", [None, 100, 302, 400, 404, 429, 500])
def test_anything_else_is_tried_again(status: int | None) -> None:
    assert decide(Tried(status, 1, ""), 1, DELAYS, 0.5).state == "pending"


@pytest.mark.parametrize(("asked", "waits"), [(1.0, 5.0), (90.0, 90.0), (10_000.0, 3_600.0)])
def test_retry_after_is_honoured_up_to_an_hour(asked: float, waits: float) -> None:
    assert decide(Tried(429, 1, "", asked), 1, DELAYS, 0.5).delay == waits


def test_a_410_ends_it_and_disables_the_endpoint() -> None:
    gone = Tried(410, 1, "")
    assert decide(gone, 1, DELAYS, 0.5).state == "exhausted"
    assert disable_why(gone, None, 0.0) == "gone"


def test_five_days_without_a_success_disable_the_endpoint() -> None:
    assert disable_why(DOWN, None, 9e9) is None
    assert disable_why(DOWN, 1_000.0, 999.0 + FAILING_FOR) is None
    assert disable_why(DOWN, 1_000.0, 1_000.0 + FAILING_FOR) == "failing"
    assert disable_why(Tried(200, 1, ""), 1_000.0, 1_000.0 + FAILING_FOR) is None
