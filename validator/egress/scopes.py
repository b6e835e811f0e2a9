"""What is limited, and who waits for it: pure bookkeeping of one process, no Redis and no tasks.

A session is limited by several scopes at once, always in the order global, provider, MX host, address. Sessions that
want the same scopes stand in one Line, first come first served. A line stands in exactly one place: among the ready
ones, or parked at the scope that held it up last. When a scope gets room, as many parked lines become ready as there is
room; a line that cannot use the room it was woken for passes it on, so that none is lost.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterable

from shared import redis_keys

MICROS = 1_000_000


class Scope:
    """`cap`: sessions at once in the fleet. `floor`: in this process while Redis is away.

    `rate`: new sessions a second, 0 for any number. `patience`: how many times slower the rate is without Redis.
    """

    __slots__ = (
        "alarm", "blocked_until", "burst", "cap", "due", "floor", "held", "interval", "name", "parked", "patience",
        "slots_key", "wanted", "wire",
    )  # fmt: skip

    def __init__(self, name: str, cap: int, floor: int, rate: float, patience: int) -> None:
        self.name = name
        self.cap = cap
        self.floor = min(cap, floor)
        self.patience = patience
        self.interval = MICROS / rate if rate > 0 else 0.0
        self.burst = max(1, int(rate / 10))  # what a tenth of a second allows may come at once
        self.held = 0  # sessions of this process, those included that Redis is just asked about
        self.wanted = 0  # sessions of this process that wait
        self.blocked_until = 0.0  # by the clock: the fleet has no room before
        self.due = 0.0  # by the clock: when all starts while Redis was away are paid for
        self.parked: deque[Line] = deque()
        self.alarm: asyncio.TimerHandle | None = None  # wakes the parked ones when the scope may have room again
        self.slots_key = redis_keys.limit_slots(name)
        self.wire: list[object] = [
            self.slots_key,
            redis_keys.limit_rate(name),
            self.cap,
            round(self.interval),
            self.burst,
            redis_keys.limit_next(name),
        ]

    def room(self, now: float, *, alone: bool) -> int:
        """How many sessions more this process may ask for (`alone`: may start without asking)."""
        if alone:
            return self.floor - self.held if self.opens_alone <= now else 0
        return self.cap - self.held if self.blocked_until <= now else 0

    @property
    def _step(self) -> float:
        """Seconds between two starts while Redis is away."""
        return self.patience * self.interval / MICROS

    @property
    def opens_alone(self) -> float:
        """By the clock: when the next may start while Redis is away. Of a burst, two at once are enough then."""
        return self.due - (self._step if self.burst > 1 else 0.0)

    def start_alone(self, now: float) -> None:
        if self.interval:
            self.due = max(self.due, now) + self._step

    def asked(self) -> list[object]:
        """What limits.lua is told about it, for a session that is counted as held already."""
        return [*self.wire, int(self.held > 1)]

    @property
    def idle(self) -> bool:
        return not (self.held or self.wanted or self.parked)


class Want:
    """One session that waits. `granted` is resolved with True, or with False when its time is up."""

    __slots__ = ("granted", "id", "line")

    def __init__(self, ident: str, line: Line, granted: asyncio.Future[bool]) -> None:
        self.id = ident
        self.line = line
        self.granted = granted


class Line:
    """The sessions that want the same scopes."""

    __slots__ = ("key", "placed", "scopes", "wants")

    def __init__(self, key: tuple[str, ...], scopes: tuple[Scope, ...]) -> None:
        self.key = key
        self.scopes = scopes
        self.wants: deque[Want] = deque()
        self.placed = False  # among the ready ones or parked

    def hindrance(self, now: float, *, alone: bool) -> Scope | None:
        """The first scope without room."""
        return next((scope for scope in self.scopes if scope.room(now, alone=alone) <= 0), None)


class Lines:
    """All lines, and whose turn it is."""

    def __init__(self) -> None:
        self.ready: deque[Line] = deque()

    def place(self, line: Line) -> None:
        if not line.placed and line.wants:
            line.placed = True
            self.ready.append(line)

    def wake(self, scope: Scope, room: int) -> None:
        """`room` of the lines that are parked at `scope` become ready."""
        while room > 0 and scope.parked:
            self.ready.append(scope.parked.popleft())
            room -= 1

    def pick(self, most: int, now: float, *, alone: bool) -> tuple[list[Want], set[Scope]]:
        """Up to `most` sessions whose scopes all have room here, each counted as held; the scopes that others met
        without room. Lines take turns.
        """
        picked: list[Want] = []
        full: set[Scope] = set()
        while self.ready and len(picked) < most:
            line = self.ready.popleft()
            line.placed = False
            while line.wants and line.wants[0].granted.done():  # cancelled, or out of time
                self._leave(line)
            hindrance = line.hindrance(now, alone=alone)
            if hindrance is not None and line.wants:
                line.placed = True
                hindrance.parked.append(line)
                full.add(hindrance)
            if hindrance is not None or not line.wants:
                self.pass_on(line.scopes, now, alone=alone)
                continue
            want = self._leave(line)
            for scope in line.scopes:
                scope.held += 1
                if alone:
                    scope.start_alone(now)  # before the next one is picked, or a rate would let all of them through
            picked.append(want)
            self.place(line)
        return picked, full

    def pass_on(self, scopes: Iterable[Scope], now: float, *, alone: bool) -> None:
        """Where there is still room in a scope, the next line parked there gets its chance."""
        for scope in scopes:
            self.wake(scope, min(1, scope.room(now, alone=alone)))

    @staticmethod
    def _leave(line: Line) -> Want:
        for scope in line.scopes:
            scope.wanted -= 1
        return line.wants.popleft()

    def join(self, want: Want) -> None:
        want.line.wants.append(want)
        for scope in want.line.scopes:
            scope.wanted += 1
        self.place(want.line)

    def put_back(self, want: Want, scope: Scope) -> None:
        """The fleet had no room in `scope`: `want` stays the first of its line, which waits there."""
        line = want.line
        for each in line.scopes:
            each.held -= 1
            each.wanted += 1
        line.wants.appendleft(want)
        if not line.placed:  # else it stands somewhere already, and will be parked where it is held up next
            line.placed = True
            scope.parked.append(line)

    def give_back(self, scopes: Iterable[Scope], now: float, *, alone: bool) -> None:
        for scope in scopes:
            scope.held -= 1
            self.wake(scope, scope.room(now, alone=alone))
