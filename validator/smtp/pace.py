"""How much one mail host is asked at once: numbers that follow what the host bears. Pure; one Pace a host.

What a host bears differs: Postfix slows down after 10 refused recipients in a session and hangs up after 20, others answer
452 4.5.3 after some recipients of a transaction, 421 or a hang-up after some of a session, or take their time with every
reply. So a session ends at REJECTS refusals, a flight is small enough that it will hardly overshoot that, a limit that
showed itself is kept just below and opened again slowly, and after a break without any answer the flight shrinks until
the one recipient that causes it stands alone.
"""

from __future__ import annotations

FLIGHT = 25  # recipients in one flight; more gains 5 % and looks like a flood
FIRST_FLIGHT = 9  # while nothing is known about the host
SESSION = 100  # recipients in one session; also the least that RFC 5321 section 4.5.3.1.8 lets a host limit us to
REJECTS = 9  # refused recipients in one session: below Postfix's smtpd_soft_error_limit of 10
SLOW_FLIGHT = 5.0  # seconds: a flight that took longer makes the next ones smaller
STRIKES = 5  # sessions in a row that broke without one answer; then the host is left alone
_MEMORY = 400  # recipients after which older experience counts half


class Pace:
    """Limits of one host as far as they showed themselves."""

    __slots__ = ("_asked", "_refused", "careful", "flight", "session", "strikes", "transaction")

    def __init__(self, session: int | None = None) -> None:
        """`session`: recipients in one session that the provider's row allows."""
        self.flight = FLIGHT
        self.session = min(session or SESSION, SESSION)
        self.transaction = SESSION
        self.strikes = 0
        self.careful = False  # True: one command at a time, because replies came that nobody had asked for
        self._asked = 0
        self._refused = 0

    def next_flight(self, asked: int, refused: int, waiting: int) -> int:
        """Recipients to ask now in a session that asked so many and had so many refused; 0: the session should end."""
        budget = REJECTS - refused
        room = min(self.session - asked, waiting)
        if budget <= 0 or room <= 0:
            return 0
        if self.careful:
            return 1
        known = self._asked + asked
        if known == 0:
            return min(FIRST_FLIGHT, self.flight, room)
        risk = (self._refused + refused + 2) / (known + 3)
        bearable = int(budget / (2 * risk))
        if bearable < min(5, room) and budget <= 3 < asked:
            return 0  # a new session is worth more than a few small flights
        return max(1, min(self.flight, room, bearable))

    def flight_done(self, size: int, seconds: float) -> None:
        """All of a flight was answered."""
        if seconds > SLOW_FLIGHT:
            self.flight = max(1, min(self.flight, int(size * SLOW_FLIGHT / seconds)))
        elif size >= self.flight:
            self.flight = min(FLIGHT, self.flight * 2)

    def session_done(self, asked: int, refused: int) -> None:
        """A session ended in order."""
        if asked:
            self.strikes = 0
        self._learn(asked, refused)

    def limit_met(self, accepted: int) -> None:
        """452 4.5.3: the host takes no more than `accepted` recipients in one transaction."""
        self.transaction = max(1, accepted)

    def broke(self, answered: int, refused: int, flight: int) -> None:
        """A session broke after `answered` answers, with a flight of so many under way."""
        self._learn(answered, refused)
        if answered:
            self.strikes = 0
            self.session = max(1, answered)
        else:
            self.strikes += 1
            self.flight = max(1, flight // 4)

    def opened(self) -> None:
        """A session reached the limit that another one broke at, and ended well: try more next time."""
        self.session = min(SESSION, self.session * 2)

    @property
    def hopeless(self) -> bool:
        return self.strikes >= STRIKES

    def _learn(self, asked: int, refused: int) -> None:
        self._asked += asked
        self._refused += refused
        if self._asked > _MEMORY:
            self._asked //= 2
            self._refused //= 2
