"""The circuit breaker of one mail host as this process sees it: pybreaker's state machine over a local snapshot.

pybreaker's own way to run a guarded call is not used: its asyncio support needs tornado, its Redis storage blocks, it
takes a cancellation for a failure, and half-open it lets everybody through. The session runs outside; what came of it
is replayed as a call that returns or raises. The fleet's state comes from Redis and overwrites the snapshot (`apply`);
while Redis is away the same machine goes on with what happens here.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Literal

import msgspec
import pybreaker

FAIL_MAX = 5  # failures without a success in between
FIRST_PAUSE = 30.0  # seconds; doubles with every opening in a row
LONGEST_PAUSE = 1_800.0


class Seen(msgspec.Struct, frozen=True):
    """The fleet's state of a breaker, as breaker.lua tells it. `wait`: ms until a half-open session is due."""

    host: str
    state: Literal["closed", "open", "half-open"]
    failures: int
    opens: int
    kind: str
    wait: float
    version: str


class _Failed(Exception):
    """A failure under replay."""


class _Snapshot(pybreaker.CircuitBreakerStorage):
    """pybreaker's storage, in memory, with the time of opening by our clock."""

    def __init__(self, clock: Callable[[], float]) -> None:
        super().__init__("snapshot")
        self._clock = clock
        self.state = pybreaker.STATE_CLOSED
        self.counter = 0
        self.success_counter = 0
        self.opened = 0.0

    state = ""
    counter = 0
    success_counter = 0

    def increment_counter(self) -> None:
        self.counter += 1

    def reset_counter(self) -> None:
        self.counter = 0

    def increment_success_counter(self) -> None:
        self.success_counter += 1

    def reset_success_counter(self) -> None:
        self.success_counter = 0

    @property
    def opened_at(self) -> datetime:
        """What pybreaker compares with its own idea of now."""
        return datetime.now(UTC) - timedelta(seconds=self._clock() - self.opened)

    @opened_at.setter
    def opened_at(self, _: datetime) -> None:
        self.opened = self._clock()


class Circuit:
    """`changed_alone`: it opened or closed here while Redis was away, so Redis has to be told."""

    def __init__(self, host: str, clock: Callable[[], float]) -> None:
        self.host = host
        self.kind = ""  # of the last failure
        self.opens = 0  # openings in a row
        self.version = 0
        self.used = clock()
        self.probing = False  # the half-open session is ours, or we are just asking for it
        self.changed_alone = False
        self.unsent = 0  # reports that Redis has not answered yet
        self._clock = clock
        self._snapshot = _Snapshot(clock)
        self._machine = pybreaker.CircuitBreaker(
            fail_max=FAIL_MAX, reset_timeout=FIRST_PAUSE, state_storage=self._snapshot, throw_new_error_on_trip=False
        )

    @property
    def state(self) -> str:
        return str(self._snapshot.state)

    @property
    def closed(self) -> bool:
        return self.state == pybreaker.STATE_CLOSED

    @property
    def failures(self) -> int:
        return int(self._snapshot.counter)

    @property
    def wait(self) -> float:
        """Seconds until a half-open session is due."""
        if self.closed:
            return 0.0
        return max(0.0, self._snapshot.opened + float(self._machine.reset_timeout) - self._clock())

    def apply(self, seen: Seen) -> None:
        """Take over the fleet's state where it is newer than what is known."""
        if int(seen.version) <= self.version:
            return
        self.version = int(seen.version)
        self.kind = seen.kind
        self.opens = seen.opens
        self.changed_alone = False
        self._snapshot.state = seen.state
        _ = self._machine.state  # pybreaker notices the new state now, and clears the counters for it
        self._snapshot.counter = seen.failures
        self.hold_off(seen.wait / 1000)

    def hold_off(self, seconds: float) -> None:
        """No half-open session before."""
        self._machine.reset_timeout = seconds
        self._snapshot.opened = self._clock()

    def half_open(self) -> None:
        self._machine.half_open()

    def failed(self, kind: str, weight: int, factor: float) -> None:
        """A session of a closed breaker, or the half-open one, failed."""
        self.kind = kind
        before = self.state
        for _ in range(weight):
            with contextlib.suppress(_Failed, pybreaker.CircuitBreakerError):
                self._machine.call(_fail)
            if self.state == pybreaker.STATE_OPEN:
                break
        if self.state == pybreaker.STATE_OPEN and before != pybreaker.STATE_OPEN:
            self.opens += 1
            pause: float = FIRST_PAUSE * factor * 2 ** min(self.opens - 1, 10)
            self._machine.reset_timeout = min(pause, LONGEST_PAUSE)

    def succeeded(self) -> None:
        """A session of a closed breaker, or the half-open one, succeeded."""
        if self.state == pybreaker.STATE_OPEN:
            return  # the lease of the half-open session ran out, and another one failed
        self._machine.call(_nothing)
        if self.closed:
            self.opens = 0
            self.kind = ""


def _fail() -> None:
    raise _Failed


def _nothing() -> None:
    return None
