"""An address on its way through SMTP sessions, and who wants to know what comes of it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Final, Protocol

import msgspec
from prometheus_client import Counter

from shared.logs import get_log
from validator.evidence import Attempt

log = get_log("validator.smtp")

ASKER_FAULTS: Final = Counter("mailvet_asker_faults_total", "Answers of mail hosts that a fault of ours lost")


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
    drops: int = 0  # sessions that broke with this one unanswered; a fault of ours counts for several
    hops: int = 0  # mail hosts of the route that are done with it
    reply: Attempt | None = None  # what the session said, held back until it ends in order
    past: tuple[Attempt, ...] = ()  # what the hosts of the route said
    trace: tuple[dict[str, Any], ...] = ()


def hand_over(
    recipients: Iterable[Recipient], story: Callable[[Recipient, Attempt], tuple[dict[str, Any], ...]]
) -> list[Recipient]:
    """Give every recipient's asker its `reply`, with the `story` for a trace. Returns those whose asker failed.

    The boundary between a session and the batches that share it: a fault behind it costs no other recipient its answer.
    """
    rest, failed = iter(recipients), []
    while True:
        try:
            for recipient in rest:
                attempt, recipient.reply = recipient.reply, None
                if attempt is None:
                    continue
                if recipient.asker.traced:
                    recipient.trace += story(recipient, attempt)
                recipient.asker.answered(recipient, attempt)
        except Exception as error:  # whatever an asker does
            ASKER_FAULTS.inc()
            log.exception("asker_fault", error=type(error).__name__)
            failed.append(recipient)
        else:
            return failed
