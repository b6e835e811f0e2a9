"""What lab servers say, in the manner of the mail software they stand for. Wording is ours; codes are theirs.

`{a}` is the address asked about, `{h}` the host, `{d}` the address's domain. Replies are templates without CRLF; lines
of one reply are separated by a newline.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from services.maillab.world import Style

KINDS = ("known", "random", "missing", "full", "disabled", "grey", "relay")

_POSTFIX = {
    "banner": "220 {h} ESMTP Postfix",
    "mail": "250 2.1.0 Ok",
    "known": "250 2.1.5 Ok",
    "missing": "550 5.1.1 <{a}>: Recipient address rejected: User unknown in local recipient table",
    "full": "452 4.2.2 <{a}>: Recipient address rejected: Mailbox is full, over its quota",
    "disabled": "550 5.2.1 <{a}>: Recipient address rejected: Account is disabled",
    "grey": "451 4.7.1 <{a}>: Recipient address rejected: Greylisted, please try again later",
    "relay": "554 5.7.1 <{a}>: Relay access denied",
}
_EXIM = {
    "banner": "220 {h} ESMTP Exim 4.96",
    "mail": "250 OK",
    "known": "250 Accepted",
    "missing": "550 No such user here",
    "full": "552 5.2.2 Mailbox for {a} is over quota",
    "disabled": "550 5.2.1 The account {a} has been suspended",
    "grey": "451 4.7.1 Temporarily rejected: greylisted, come back later",
    "relay": "550 relay not permitted",
}
_EXCHANGE = {
    "banner": "220 {h} Microsoft ESMTP MAIL Service ready",
    "mail": "250 2.1.0 Sender OK",
    "known": "250 2.1.5 Recipient OK",
    "missing": "550 5.1.10 RESOLVER.ADR.RecipientNotFound; Recipient {a} not found by SMTP address lookup",
    "full": "552 5.2.2 STOREDRV.Deliver; mailbox full. The recipient's mailbox is over its quota",
    "disabled": "550 5.2.1 STOREDRV.Deliver; mailbox disabled, not accepting messages",
    "grey": "451 4.7.500 Server busy. Please try again later",
    "relay": "550 5.7.54 SMTP; Unable to relay recipient in non-accepted domain",
}
_GMAIL = {
    "banner": "220 {h} ESMTP lab9-20020a05.142 - gsmtp",
    "mail": "250 2.1.0 OK lab9-20020a05.142 - gsmtp",
    "known": "250 2.1.5 OK lab9-20020a05.142 - gsmtp",
    "missing": (
        "550-5.1.1 The email account that you tried to reach does not exist. Please\n"
        "550-5.1.1 check the recipient's address for typos or needless spaces.\n"
        "550 5.1.1 lab9-20020a05.142 - gsmtp"
    ),
    "full": "452-4.2.2 The recipient's inbox is out of storage space.\n452 4.2.2 lab9-20020a05.142 - gsmtp",
    "disabled": (
        "550-5.2.1 The email account that you tried to reach is inactive.\n550 5.2.1 lab9-20020a05.142 - gsmtp"
    ),
    "grey": "450-4.2.1 The user is receiving mail at a rate that is too high now.\n450 4.2.1 Try later. - gsmtp",
    "relay": "550 5.7.1 Relaying denied. - gsmtp",
}
_SENDMAIL = {
    "banner": "220 {h} ESMTP Sendmail 8.17.1/8.17.1",
    "mail": "250 2.1.0 Sender ok",
    "known": "250 2.1.5 <{a}>... Recipient ok",
    "missing": "550 5.1.1 <{a}>... User unknown",
    "full": "552 5.2.2 <{a}>... Mailbox full",
    "disabled": "550 5.2.1 <{a}>... Mailbox disabled for this recipient",
    "grey": "451 4.7.1 Greylisting in action, please come back later",
    "relay": "550 5.7.1 <{a}>... Relaying denied",
}
_PLAIN = {
    "banner": "220 {h} ready",
    "mail": "250 ok",
    "known": "250 ok",
    "missing": "550 sorry, no mailbox here by that name",
    "full": "552 mailbox is full",
    "disabled": "550 this mailbox has been disabled",
    "grey": "450 not now, try again later",
    "relay": "553 sorry, {d} is not one of my domains",
}

WORDING: Mapping[Style, Mapping[str, str]] = MappingProxyType(
    {
        "postfix": _POSTFIX,
        "exim": _EXIM,
        "exchange": _EXCHANGE,
        "gmail": _GMAIL,
        "sendmail": _SENDMAIL,
        "plain": _PLAIN,
    }
)


def wire(text: str) -> bytes:
    """`text` (lines separated by a newline) as it goes over the wire."""
    return text.replace("\n", "\r\n").encode() + b"\r\n"


def template(style: Style, key: str, host: str) -> bytes:
    """The reply as a bytes template: `%(a)b` stands for the address, `%(d)b` for its domain."""
    text = WORDING[style]["missing" if key == "random" else key]
    text = text.replace("%", "%%").replace("{h}", host).replace("{a}", "%(a)b").replace("{d}", "%(d)b")
    return wire(text)
