"""An address on its way through SMTP sessions, and who wants to know what comes of it."""

from __future__ import annotations

from typing import Any, Protocol

import msgspec

from validator.evidence import Attempt


class Asker(Protocol):
    """Whom a recipient belongs to. All of it is used from within a session and must be quick."""

    @property
    def closed(self) -> bool:
        """True: nobody waits for its recipients any more, they need not be asked."""
        ...

    @property
    def curious(self) -> bool:
        """True: the next acceptance or greylisting makes it name a companion."""
        ...

    @property
    def traced(self) -> bool: ...

    def companion(self, *, greylisted: bool) -> Recipient | None:
        """RCPT said yes, or not yet (`greylisted`). What it returns, the random address, is asked next there."""
        ...

    def answered(self, recipient: Recipient, attempt: Attempt) -> None:
        """The host is done with this recipient."""
        ...


class Recipient(msgspec.Struct, gc=False, eq=False):
    """One RCPT to be. `address` is what goes between the angle brackets, known to be one argument.

    Not seen by the garbage collector, which would walk hundreds of thousands of them: nothing an asker keeps may form a
    cycle with a recipient that outlives its answer.
    """

    address: str
    asker: Asker
    index: int  # the asker's own
    smtputf8: bool = False
    random: bool = False  # asked about in order to be refused
    drops: int = 0  # sessions that broke with this one unanswered
    hops: int = 0  # mail hosts of the route that are done with it
    reply: Attempt | None = None  # what the session said, held back until it ends in order
    past: tuple[Attempt, ...] = ()  # what the hosts of the route said
    trace: tuple[dict[str, Any], ...] = ()
