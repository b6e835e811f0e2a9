"""When a file will be done, from how fast it went lately and when its last put-off address is due. Pure."""

from __future__ import annotations

from collections import deque

WINDOW = 60.0  # seconds of history the rate rests on
_SAMPLES = 240


class Pace:
    """How many addresses a file finishes per second, over a sliding window."""

    def __init__(self) -> None:
        self._samples: deque[tuple[float, int]] = deque(maxlen=_SAMPLES)

    def observe(self, at: float, processed: int) -> None:
        """`at` in seconds, `processed` addresses so far. Going backwards in time or count starts anew."""
        if self._samples and (at < self._samples[-1][0] or processed < self._samples[-1][1]):
            self._samples.clear()
        self._samples.append((at, processed))
        while len(self._samples) > 2 and self._samples[0][0] < at - WINDOW:
            self._samples.popleft()

    @property
    def rate(self) -> float:
        """Addresses per second; 0.0 while nothing is known."""
        if len(self._samples) < 2:
            return 0.0
        (first_at, first), (last_at, last) = self._samples[0], self._samples[-1]
        return (last - first) / (last_at - first_at) if last_at > first_at else 0.0


def estimate(rate: float, remaining: int, now: float, latest_due: float | None) -> float | None:
    """Seconds until done, or None where nothing can be said. `latest_due`: when the last second look is due."""
    if remaining <= 0:
        return 0.0
    waiting = max(0.0, latest_due - now) if latest_due is not None else 0.0
    if rate > 0:
        return max(remaining / rate, waiting)
    return waiting or None
