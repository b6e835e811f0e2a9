"""What becomes of a delivery after a try. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

# Seconds after each try until the next: ten tries over nearly 28 hours.
DELAYS: tuple[float, ...] = (5, 30, 120, 600, 1_800, 7_200, 14_400, 28_800, 46_800)
JITTER = 0.2  # of the delay, more or less: receivers that were down do not get everything in one second
LONGEST_RETRY_AFTER = 3_600.0  # seconds a receiver may ask us to wait
FAILING_FOR = 5 * 86_400.0  # seconds without one success, after which an endpoint is disabled


@dataclass(frozen=True, slots=True)
class Tried:
    """One try. `status` None: no answer. `why`: what went wrong, or the beginning of the answer, for the owner."""

    status: int | None
    ms: int
    why: str
    retry_after: float | None = None

    @property
    def succeeded(self) -> bool:
        return self.status is not None and 200 <= self.status < 300

    @property
    def gone(self) -> bool:
        return self.status == 410


@dataclass(frozen=True, slots=True)
class Next:
    """`delay`: seconds until the next try, where the state stays pending."""

    state: Literal["pending", "delivered", "exhausted"]
    delay: float = 0.0


def decide(tried: Tried, tries: int, delays: tuple[float, ...], chance: float) -> Next:
    """After try number `tries` (from 1). `chance`: 0 to 1, for the jitter."""
    if tried.succeeded:
        return Next("delivered")
    if tried.gone or tries > len(delays):
        return Next("exhausted")
    delay = delays[tries - 1] * (1 + JITTER * (2 * chance - 1))
    if tried.retry_after is not None:
        delay = max(delay, min(tried.retry_after, LONGEST_RETRY_AFTER))
    return Next("pending", delay)


def disable_why(tried: Tried, failing_since: float | None, now: float) -> str | None:
    """Why the endpoint is to be disabled after this try, if it is."""
    if tried.gone:
        return "gone"
    if not tried.succeeded and failing_since is not None and now - failing_since >= FAILING_FOR:
        return "failing"
    return None
