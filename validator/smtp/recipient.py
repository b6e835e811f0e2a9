"""An address on its way through SMTP sessions, and who wants to know what comes of it."""

from __future__ import annotations

from typing import Any, Protocol

from validator.evidence import Attempt


class Asker(Protocol):
    """Whom a recipient belongs to. All of it is used from within a session and must be quick."""

    @property
    def closed(self) -> bool:
        """True: nobody waits for its recipients any more, they need not be asked."""
        ...

    @property
    def curious(self) -> bool:
        """True: the next acceptance makes it name a companion."""
        ...

    @property
    def traced(self) -> bool: ...

    def accepted(self) -> Recipient | None:
        """RCPT said yes, not confirmed yet. What it returns is asked next, in the same session (the random address)."""
        ...

    def answered(self, recipient: Recipient, attempt: Attempt) -> None:
        """The host is done with this recipient."""
        ...


class Recipient:
    """One RCPT to be. `address` is what goes between the angle brackets, known to be one argument."""

    __slots__ = ("address", "asker", "drops", "hops", "index", "past", "smtputf8", "trace")

    def __init__(self, address: str, asker: Asker, index: int, *, smtputf8: bool = False) -> None:
        self.address = address
        self.asker = asker
        self.index = index  # the asker's own
        self.smtputf8 = smtputf8
        self.drops = 0  # sessions that broke with this one unanswered
        self.hops = 0  # mail hosts of the route that are done with it
        self.past: tuple[Attempt, ...] = ()  # what those said
        self.trace: list[dict[str, Any]] = []
