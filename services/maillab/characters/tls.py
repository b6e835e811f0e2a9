"""Servers and STARTTLS (RFC 3207): required, broken, or with an injection."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Literal

from services.maillab.characters.character import EXTENSIONS, Character
from services.maillab.dialogue import Act, Answer

if TYPE_CHECKING:
    from services.maillab.dialogue import Dialogue

GO_AHEAD = b"220 2.0.0 Ready to start TLS\r\n"


class StarttlsOffered(Character):
    """Offers STARTTLS and answers as well without it."""

    name: ClassVar[str] = "starttls_offered"

    def __init__(self, *args: Any, extensions: tuple[str, ...] = (*EXTENSIONS, "STARTTLS"), **options: Any) -> None:
        super().__init__(*args, extensions=extensions, **options)

    def ehlo(self, dialogue: Dialogue) -> Answer:
        offered = tuple(name for name in self.extensions if not (dialogue.tls and name == "STARTTLS"))
        return dialogue.offer(offered)


class StarttlsRequired(StarttlsOffered):
    """530 to MAIL until TLS is on (self-signed certificate)."""

    name: ClassVar[str] = "starttls_required"

    def mail(self, dialogue: Dialogue, sender: str) -> Answer:
        if not dialogue.tls:
            return b"530 5.7.0 Must issue a STARTTLS command first\r\n"
        return super().mail(dialogue, sender)


class StarttlsBroken(StarttlsRequired):
    """Requires TLS and cannot do it: refuses with 454, talks nonsense after 220, or hangs up after it."""

    name: ClassVar[str] = "starttls_broken"

    def __init__(self, *args: Any, how: Literal["refuses", "garbage", "closes"] = "garbage", **options: Any) -> None:
        super().__init__(*args, **options)
        self.how = how

    def starttls(self, dialogue: Dialogue) -> Answer:
        if self.how == "refuses":
            return b"454 4.7.0 TLS not available due to temporary reason\r\n"
        dialogue.spoil()
        dialogue.tls_failed = True
        if self.how == "closes":
            return Act(GO_AHEAD, then="close")
        return Act(GO_AHEAD, stream=iter((b"502 5.5.1 What is that supposed to be?\r\n",)), gap=0.01, then="silence")


class StarttlsInjects(StarttlsRequired):
    """Sends plaintext replies in one breath with the 220, which a careless client takes for replies over TLS."""

    name: ClassVar[str] = "starttls_injects"

    def starttls(self, dialogue: Dialogue) -> Answer:
        dialogue.spoil()
        return Act(GO_AHEAD + b"250 2.1.0 Ok\r\n250 2.1.5 Ok\r\n", then="tls")
