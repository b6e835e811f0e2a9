"""Servers that refuse: greylists, full or disabled mailboxes, blocks of the caller, limits."""

# ruff: noqa: ARG002 - characters answer through one signature, whether or not they look at all of it

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Literal

from services.maillab.characters.character import EXTENSIONS, Character
from services.maillab.dialogue import Act, Answer
from services.maillab.mailboxes import Kind
from services.maillab.replies import wire

if TYPE_CHECKING:
    from services.maillab.dialogue import Dialogue

Stage = Literal["connect", "ehlo", "mail", "rcpt"]


class CatchAll(Character):
    """Accepts every recipient of its domains, existing or not."""

    name: ClassVar[str] = "catch_all"

    def judge(self, dialogue: Dialogue, address: str, kind: Kind) -> Answer:
        return self.say("known", address)


class Greylisting(Character):
    """Puts off every recipient it would accept until `wait` seconds after the first ask for the triplet."""

    name: ClassVar[str] = "greylisting"

    def __init__(self, *args: Any, wait: float = 1.0, hint: bool = True, **options: Any) -> None:
        """`hint`: the reply says "try again in N seconds", and asking earlier is a complaint."""
        super().__init__(*args, **options)
        self.wait = wait
        self.hint = hint

    def judge(self, dialogue: Dialogue, address: str, kind: Kind) -> Answer:
        if kind != "known":
            return super().judge(dialogue, address, kind)
        if not self.hint:
            return self.put_off(dialogue, address, self.wait)
        text = f"451 4.7.1 <{address}>: Recipient address rejected: Greylisted, try again in {self.wait:g} seconds"
        known_before = len(self.lab.greylist)
        answer = self.put_off(dialogue, address, self.wait, wire(text))
        if len(self.lab.greylist) > known_before:
            self.lab.neighbourhood.ask_to_wait(address, self.wait)
        return answer


class GreylistingFirstSession(Character):
    """Puts off every recipient in the first session from a caller's address, and answers truthfully in later ones."""

    name: ClassVar[str] = "greylisting_first_session"

    def connect(self, dialogue: Dialogue) -> Answer:
        caller = dialogue.session.peer.rpartition(":")[0]
        first = self.lab.greylist.setdefault((self.host.name, caller, ""), dialogue.session.number)
        dialogue.state["first"] = float(first == dialogue.session.number)
        return super().connect(dialogue)

    def judge(self, dialogue: Dialogue, address: str, kind: Kind) -> Answer:
        if dialogue.state["first"]:
            return b"450 4.3.2 Service currently unavailable\r\n"
        return super().judge(dialogue, address, kind)


class Full(Character):
    """Every mailbox that exists is over its quota; the others are refused as missing."""

    name: ClassVar[str] = "full"

    def judge(self, dialogue: Dialogue, address: str, kind: Kind) -> Answer:
        return super().judge(dialogue, address, "full" if kind == "known" else kind)


class Disabled(Character):
    """Every mailbox that exists is switched off; the others are refused as missing."""

    name: ClassVar[str] = "disabled"

    def judge(self, dialogue: Dialogue, address: str, kind: Kind) -> Answer:
        return super().judge(dialogue, address, "disabled" if kind == "known" else kind)


class BlocksUs(Character):
    """Refuses the caller, not the recipient: a block list entry, said at connect, EHLO, MAIL or RCPT."""

    name: ClassVar[str] = "blocks_us"
    texts: ClassVar[dict[Stage, str]] = {
        "connect": "554 5.7.1 {h} refuses [{p}]: your address is on a block list, see https://rbl.lab.test/why",
        "ehlo": "550 5.7.1 Access from [{p}] denied for poor reputation",
        "mail": "550 5.7.1 Message from [{p}] blocked: the sending address is listed by rbl.lab.test",
        "rcpt": "550 5.7.1 Service unavailable; Client host [{p}] blocked using rbl.lab.test",
    }

    def __init__(self, *args: Any, at: Stage = "rcpt", text: str | None = None, **options: Any) -> None:
        """`at`: the stage that is refused; `text`: the reply instead of the built-in one."""
        super().__init__(*args, **options)
        self.at = at
        self.text = text or self.texts[at]

    def refusal(self, dialogue: Dialogue) -> bytes:
        peer = dialogue.session.peer.rpartition(":")[0]
        return wire(self.text.replace("{h}", self.host.name).replace("{p}", peer))

    def connect(self, dialogue: Dialogue) -> Answer:
        if self.at != "connect":
            return super().connect(dialogue)
        dialogue.spoil()
        return self.refusal(dialogue)

    def ehlo(self, dialogue: Dialogue) -> Answer:
        if self.at in ("connect", "ehlo"):
            dialogue.helo = None
            return self.refusal(dialogue)
        return super().ehlo(dialogue)

    def hello(self, dialogue: Dialogue) -> Answer:
        return self.refusal(dialogue) if self.at in ("connect", "ehlo") else super().hello(dialogue)

    def mail(self, dialogue: Dialogue, sender: str) -> Answer:
        return self.refusal(dialogue) if self.at == "mail" else super().mail(dialogue, sender)

    def judge(self, dialogue: Dialogue, address: str, kind: Kind) -> Answer:
        return self.refusal(dialogue) if self.at == "rcpt" else super().judge(dialogue, address, kind)


class RateLimited(BlocksUs):
    """Says that the caller comes too fast: 421 and hangs up at connect, 450 or 451 at a later stage."""

    name: ClassVar[str] = "rate_limited"
    texts: ClassVar[dict[Stage, str]] = {
        "connect": "421 4.7.0 {h} Too many connections from [{p}], slow down and try again later",
        "ehlo": "421 4.7.28 {h} Unusual rate of mail from [{p}], please try again later",
        "mail": "450 4.7.1 Client [{p}] exceeded its rate limit, try again later",
        "rcpt": "451 4.7.1 Recipient rate limit of [{p}] exceeded, try again later",
    }

    def refusal(self, dialogue: Dialogue) -> Any:
        said = super().refusal(dialogue)
        return Act(said, then="close") if said.startswith(b"421") else said


class ServerError(BlocksUs):
    """Its insides are broken: 451 4.3.0 at the stage `at`."""

    name: ClassVar[str] = "server_error"
    texts: ClassVar[dict[Stage, str]] = {
        "connect": "421 4.3.0 {h} Temporary system problem",
        "ehlo": "451 4.3.0 Temporary lookup failure",
        "mail": "451 4.3.0 Temporary lookup failure",
        "rcpt": "451 4.3.0 Temporary lookup failure",
    }


class RelayDenied(Character):
    """Knows nothing of the domains that DNS sends here: 554 5.7.1 relay access denied for every recipient."""

    name: ClassVar[str] = "relay_denied"

    def judge(self, dialogue: Dialogue, address: str, kind: Kind) -> Answer:
        return self.say("relay", address)


class AccessDenied(Character):
    """Edge blocking of Exchange Online: a missing mailbox is 550 5.4.1 Access denied, and that is final."""

    name: ClassVar[str] = "5.4.1_access_denied"

    def judge(self, dialogue: Dialogue, address: str, kind: Kind) -> Answer:
        if kind in ("random", "missing"):
            return wire(f"550 5.4.1 Recipient address rejected: Access denied. [{self.host.name}]")
        return super().judge(dialogue, address, kind)


class TooManyErrors(Character):
    """Hangs up with 421 at the refusal after `errors` refused recipients, like Postfix's hard error limit."""

    name: ClassVar[str] = "too_many_errors"

    def __init__(self, *args: Any, errors: int = 5, **options: Any) -> None:
        super().__init__(*args, **options)
        self.errors = errors

    def judge(self, dialogue: Dialogue, address: str, kind: Kind) -> Answer:
        if dialogue.rejects >= self.errors:
            return Act(wire(f"421 4.7.0 {self.host.name} Error: too many errors"), then="close")
        return super().judge(dialogue, address, kind)


class RecipientLimit(Character):
    """452 4.5.3 to every recipient of a session after the first `recipients`."""

    name: ClassVar[str] = "recipient_limit"

    def __init__(
        self, *args: Any, recipients: int = 5, per: Literal["transaction", "session"] = "transaction", **options: Any
    ) -> None:
        """`per`: whether RSET or a new MAIL opens room again."""
        super().__init__(*args, **options)
        self.recipients = recipients
        self.per = per

    def judge(self, dialogue: Dialogue, address: str, kind: Kind) -> Answer:
        count = dialogue.state["taken"] = dialogue.state.get("taken", 0) + 1
        if count > self.recipients:
            return b"452 4.5.3 Error: too many recipients\r\n"
        return super().judge(dialogue, address, kind)

    def mail(self, dialogue: Dialogue, sender: str) -> Answer:
        if self.per == "transaction":
            dialogue.state["taken"] = 0
        return super().mail(dialogue, sender)


class ConnectionLimit(Character):
    """421 to a connection beyond `connections` open at once."""

    name: ClassVar[str] = "connection_limit"

    def __init__(self, *args: Any, connections: int = 1, **options: Any) -> None:
        super().__init__(*args, **options)
        self.connections = connections

    def connect(self, dialogue: Dialogue) -> Answer:
        if dialogue.others >= self.connections:
            return Act(wire(f"421 4.7.0 {self.host.name} Error: too many connections from your address"), then="close")
        return super().connect(dialogue)


class DefersRandom(Character):
    """Answers truthfully about mailboxes that exist or are marked missing, and 451 to random ones."""

    name: ClassVar[str] = "defers_random"

    def judge(self, dialogue: Dialogue, address: str, kind: Kind) -> Answer:
        if kind == "random":
            return b"451 4.3.0 Requested action aborted, local error in processing\r\n"
        return super().judge(dialogue, address, kind)


class HalfCatchAll(Character):
    """Accepts random recipients, yet refuses the ones marked missing (a tombstone list)."""

    name: ClassVar[str] = "half_catch_all"

    def judge(self, dialogue: Dialogue, address: str, kind: Kind) -> Answer:
        return super().judge(dialogue, address, "known" if kind == "random" else kind)


class AcceptsAllThenBounces(Character):
    """Yahoo's way: 250 to every RCPT, and the refusal only after DATA. Give it a host name ending in .yahoodns.net."""

    name: ClassVar[str] = "accepts_all_then_bounces"

    def judge(self, dialogue: Dialogue, address: str, kind: Kind) -> Answer:
        return b"250 recipient <" + address.encode() + b"> ok\r\n"


class Replies251(Character):
    """251 with a forwarding path for the mailboxes that exist: as good as 250."""

    name: ClassVar[str] = "replies_251"

    def judge(self, dialogue: Dialogue, address: str, kind: Kind) -> Answer:
        if kind == "known":
            return wire(f"251 2.1.5 User not local; will forward to <{address.partition('@')[0]}@forward.lab.test>")
        return super().judge(dialogue, address, kind)


class Replies252(Character):
    """252 to every recipient: it takes the mail and says nothing about the mailbox."""

    name: ClassVar[str] = "replies_252"

    def judge(self, dialogue: Dialogue, address: str, kind: Kind) -> Answer:
        return b"252 2.1.5 Cannot VRFY user, but will accept message and attempt delivery\r\n"


class OddEnhanced(Character):
    """LMTP-like: enhanced codes that contradict the basic ones: missing is 550 2.1.5, known is 250 5.1.1."""

    name: ClassVar[str] = "odd_enhanced"

    def judge(self, dialogue: Dialogue, address: str, kind: Kind) -> Answer:
        if kind == "known":
            return wire(f"250 5.1.1 <{address}> recipient ok")
        if kind in ("random", "missing"):
            return wire(f"550 2.1.5 <{address}> User doesn't exist: {address}")
        return super().judge(dialogue, address, kind)


class DomainNotHosted(Character):
    """DNS points here, and it says 550 5.1.2 in its own words: that domain is none of its."""

    name: ClassVar[str] = "domain_not_hosted"

    def judge(self, dialogue: Dialogue, address: str, kind: Kind) -> Answer:
        return wire(f"550 5.1.2 We do not host mail for {address.rpartition('@')[2]}")


class UnverifiedFirst(Character):
    """Asks its own back end first: 450 4.1.1 verification in progress at the first ask, the truth later."""

    name: ClassVar[str] = "unverified_first"

    def judge(self, dialogue: Dialogue, address: str, kind: Kind) -> Answer:
        if self.lab.greylist.setdefault((self.host.name, "verify", address), 0.0) == 0.0:
            self.lab.greylist[self.host.name, "verify", address] = 1.0
            return wire(
                f"450 4.1.1 <{address}>: Recipient address rejected: unverified address: "
                "Address verification in progress"
            )
        return super().judge(dialogue, address, kind)


class RefusesNullSender(Character):
    """550 to MAIL FROM:<>, against RFC 5321; truthful to a sender with an address."""

    name: ClassVar[str] = "refuses_null_sender"

    def mail(self, dialogue: Dialogue, sender: str) -> Answer:
        if not sender:
            return b"550 5.7.1 Null sender not accepted from your address\r\n"
        return super().mail(dialogue, sender)


class Utf8(Character):
    """Offers SMTPUTF8 (RFC 6531); mailboxes outside ASCII exist when the world lists them."""

    name: ClassVar[str] = "smtputf8"

    def __init__(self, *args: Any, extensions: tuple[str, ...] = (*EXTENSIONS, "SMTPUTF8"), **options: Any) -> None:
        super().__init__(*args, extensions=extensions, **options)


class NoUtf8(Character):
    """Does not offer SMTPUTF8, so there is no asking it about addresses outside ASCII."""

    name: ClassVar[str] = "no_smtputf8"
