"""How much one mail host is asked at once: numbers that follow what the host bears. Pure; one Pace a host.

What a host bears differs: Postfix slows down after 10 refused recipients in a session and hangs up after 20, others
answer 452 4.5.3 after some recipients of a transaction, 421 or a hang-up after some of a session, or take their time
with every reply. So a session ends at REJECTS refusals, a flight is small enough that it will hardly overshoot that,
a limit that showed itself is kept just below and opened again slowly, and after a break without any answer the flight
shrinks until the one recipient that causes it stands alone.

The sizes were chosen by playing 60,000 recipients for each set of numbers (docs/decisions/0022 has the table). Missing
recipients often come in runs, which no mean foretells: where one led a session too far, flights are for a while so
small that none can.
"""

from __future__ import annotations

import math
from functools import cache

FLIGHT = 25  # recipients in one flight; more gains 5 % and looks like a flood
FIRST_FLIGHT = 9  # in a session
SESSION = 100  # recipients in one session; also the least that RFC 5321 section 4.5.3.1.8 lets a host limit us to
REJECTS = 9  # refused recipients after which a session ends: below Postfix's smtpd_soft_error_limit of 10
MOST_REJECTS = REJECTS + 1  # a flight is sized so that its refusals hardly ever lead beyond this
ODDS = 7e-4  # of a flight that leads beyond it all the same
TOO_FAR = MOST_REJECTS + 1  # more refusals than this in one session are no accident: they come in runs
WARY_SESSIONS = 20  # without room for a run, after one led too far; twice as many each time, up to MOST_WARY_SESSIONS
MOST_WARY_SESSIONS = 320
WORTHWHILE = 4  # recipients; for fewer a new session is better than another round trip in this one
SLOW_FLIGHT = 5.0  # seconds: a flight that took longer makes the next ones smaller
STRIKES = 5  # sessions in a row that broke without one answer; then the host is left alone
WIDEN_AFTER = 4  # sessions that end well at a limit that showed itself, before more is tried
CAREFUL_SESSIONS = 20  # in good order before flights are tried again at a host that answered out of turn
_GRAIN = 64
_MEMORY = 400  # recipients after which older experience counts half


@cache
def _safe_flight(slack: int, risk: int) -> int:
    """The most recipients of which more than `slack` are refused with odds of at most ODDS, when each is refused with a
    chance of `risk` in _GRAIN, independently of the others; never fewer than `slack`.
    """
    chance = min(risk, _GRAIN) / _GRAIN
    for size in range(slack + 1, FLIGHT + 1):
        within = sum(math.comb(size, k) * chance**k * (1 - chance) ** (size - k) for k in range(slack + 1))
        if 1 - within > ODDS:
            return size - 1
    return max(slack, FLIGHT)


class Pace:
    """Limits of one host as far as they showed themselves."""

    __slots__ = (
        "_asked",
        "_breaks",
        "_careful",
        "_doubts",
        "_full",
        "_most",
        "_refused",
        "_runs",
        "_wary",
        "flight",
        "session",
        "strikes",
        "transaction",
    )

    def __init__(self, session: int | None = None) -> None:
        """`session`: recipients in one session that the provider's row allows."""
        self.flight = FLIGHT
        self._most = min(session or SESSION, SESSION)
        self.session = self._most
        self.transaction = SESSION
        self.strikes = 0
        self._careful = 0  # sessions still to be held one command at a time
        self._doubts = 0  # times that a flight was lost whole
        self._breaks = 0  # sessions in a row that broke
        self._full = 0  # sessions that ended well at the limit
        self._asked = 0
        self._refused = 0
        self._runs = 0  # times that a run of refusals led a session too far
        self._wary = 0  # sessions still to be held without room for another

    def next_flight(self, asked: int, refused: int, waiting: int, *, spent: int = 0) -> int:
        """Recipients to ask now in a session that asked so many and had so many refused; 0: the session should end.

        `spent`: refusals of random addresses, had or to be expected; they say nothing about those who wait.
        """
        slack = MOST_REJECTS - refused - spent
        room = min(self.session - asked, waiting)
        if slack <= 1 or room <= 0:
            return 0
        if self.careful:
            return 1
        if asked == 0:  # whatever is known of the host: the next recipients may be of another kind than the last
            return min(FIRST_FLIGHT, self.flight, room)
        risk = (self._refused + refused + 1) / (self._asked + asked + 3)
        bearable = _safe_flight(slack, math.ceil(risk * _GRAIN))
        if bearable < min(WORTHWHILE, room):
            return 0
        return min(self.flight, room, slack if self._wary else bearable)

    @property
    def reach(self) -> int:
        """Recipients that one session will hardly get further than."""
        risk = (self._refused + 0.1) / (self._asked + 10)
        return max(1, min(self.session, int(REJECTS / risk)))

    def flight_done(self, size: int, seconds: float) -> None:
        """All of a flight was answered."""
        if seconds > SLOW_FLIGHT:
            self.flight = max(1, min(self.flight, int(size * SLOW_FLIGHT / seconds)))
        elif size >= self.flight:
            self.flight = min(FLIGHT, self.flight * 2)

    def session_done(self, asked: int, refused: int) -> None:
        """A session ended in order. One that reached a limit which others broke at makes the limit wider."""
        self._learn(asked, refused)
        self._breaks = 0
        if asked:
            self.strikes = 0
            self._careful = max(0, self._careful - 1)
        if asked >= self.session < self._most:
            self._full += 1
            if self._full >= WIDEN_AFTER:
                self._full = 0
                self.session = min(self._most, self.session * 2)

    def distrust(self) -> None:
        """Replies came that nobody had asked for."""
        self._careful = CAREFUL_SESSIONS

    def doubt(self) -> None:
        """A flight was lost whole: some offer PIPELINING and cannot. One by one for a while, longer each time."""
        if not self.careful:
            self._doubts += 1
            self._careful = min(CAREFUL_SESSIONS, 2**self._doubts)

    def limit_met(self, accepted: int) -> None:
        """452 4.5.3: the host takes no more than `accepted` recipients in one transaction."""
        self.transaction = max(1, accepted)

    def broke(self, answered: int, refused: int, flight: int, *, told: bool, silent: bool) -> None:
        """A session broke after `answered` answers with a flight of so many under way.

        `told`: with a reply that says so; `silent`: after waiting in vain, which costs more of everybody's time.
        """
        self._learn(answered, refused)
        self._breaks += 1
        if not answered:
            self.strikes += 2 if silent else 1
            self.flight = max(1, flight // 4)
            return
        self.strikes = 0
        if told or self._breaks > 1:  # a single hang-up may be one recipient's doing
            # Postfix tells as soon as the limit is met, whatever is said next: one less is what it bears.
            self.session = max(1, answered - told)
            self._full = 0

    @property
    def careful(self) -> bool:
        """One command at a time."""
        return self._careful > 0

    @property
    def hopeless(self) -> bool:
        return self.strikes >= STRIKES

    def _learn(self, asked: int, refused: int) -> None:
        if refused > TOO_FAR:
            self._wary = min(MOST_WARY_SESSIONS, WARY_SESSIONS * 2**self._runs)
            self._runs += 1
        elif self._wary:
            self._wary -= 1
        self._asked += asked
        self._refused += refused
        if self._asked > _MEMORY:
            self._asked //= 2
            self._refused //= 2
