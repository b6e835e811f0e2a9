"""What was seen about one address: facts only. `judge.judge(evidence)` is the one place that has an opinion about them.

An address meets, in this order: its syntax, the lists, the DNS of its domain, the policy of its mail provider, and then
mail hosts. Each mail host that was turned to leaves one Attempt, oldest first; the last one is the one that counts.
"""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING

import msgspec

from shared.verdict import Reason

if TYPE_CHECKING:
    from validator.lists import Flags
    from validator.providers import Provider
    from validator.smtp.classify import ReplyClass


class DnsAnswer(StrEnum):
    """What the DNS said about where the domain takes mail; the words are those of dns.route.Outcome."""

    FOUND = "hosts"  # there are mail hosts with addresses that may be asked
    NULL_MX = "null_mx"  # RFC 7505: takes no mail
    DOMAIN_MISSING = "domain_missing"  # NXDOMAIN
    NO_MAIL_HOST = "no_mail_host"  # neither MX nor address records, or no MX host with an address
    PRIVATE_ADDRESS = "private_address"  # only addresses nothing is ever sent to
    FAILURE = "dns_failure"  # SERVFAIL, refused, timeout, nonsense: nothing is known (temporary)


class Phase(StrEnum):
    """How far a session had come. `classify` takes these words."""

    CONNECT = "connect"
    BANNER = "banner"
    EHLO = "ehlo"
    STARTTLS = "starttls"
    MAIL = "mail"
    RCPT = "rcpt"


class Outcome(StrEnum):
    """What came of turning to a mail host about an address."""

    REPLIED = "replied"  # an SMTP reply: see code, text, kind and phase (a banner or MAIL reply speaks about us)
    TIMEOUT = "timeout"  # connected, then silence or dripping beyond the deadline of the phase
    UNREACHABLE = "unreachable"  # no connection: refused, no route, connect timeout
    HUNG_UP = "hung_up"  # the peer closed without the reply
    TLS_FAILED = "tls_failed"  # STARTTLS was needed and did not work
    PROTOCOL_ERROR = "protocol_error"  # not SMTP, or a reply that breaks the strict rules of smtp/reply.py
    NO_SMTPUTF8 = "no_smtputf8"  # the address needs SMTPUTF8 and the host does not offer it (RFC 6531)
    CIRCUIT_OPEN = "circuit_open"  # the breaker of this host is open: nobody was asked
    LIMITED = "limited"  # no slot of our own limits came free in time: nobody was asked
    FAULT = "fault"  # of ours, twice, in a session with this address: nothing is known
    OUT_OF_TIME = "out_of_time"  # the batch ended before this address had its answer
    NO_TURN = "no_turn"  # the same, and the host was busy with others, or our limits let us not get to it


class CatchAll(StrEnum):
    """What a random address at the same domain was told, after a real one had been accepted."""

    NOT_ASKED = "not_asked"  # no real address was accepted, or the probe never came to it
    YES = "yes"  # accepted too: the 250 says nothing about the mailbox
    NO = "no"  # refused as missing: the 250 means something
    INCONCLUSIVE = "inconclusive"  # asked, and answered with something else (temporary, block, silence)
    NOT_ALL = "not_all"  # the same, but that host called a listed address of the domain missing
    SKIPPED = "skipped"  # the provider's row says that RCPT is truthful there (`skip_catch_all`)


class Attempt(msgspec.Struct, frozen=True, kw_only=True, gc=False, cache_hash=True):
    """One mail host was turned to about the address. Shared between addresses that got the same answer."""

    host: str  # MX host name
    address: str = ""  # the IP literal that was connected to; empty: none was
    outcome: Outcome
    phase: Phase
    code: int | None = None  # of the decisive reply, where outcome is REPLIED
    text: str = ""  # of that reply: lines joined by a blank, no controls, ADDRESS where it names the recipient
    kind: ReplyClass | None = None  # classify(code, text, phase)
    after: float | None = None  # seconds the host itself asked to wait (retry_hint of the text)


class Route(msgspec.Struct, frozen=True, kw_only=True, cache_hash=True):
    """Facts of the domain, shared by all its addresses in a batch. `hosts`: MX names in the order they are tried."""

    answer: DnsAnswer
    hosts: tuple[str, ...] = ()
    implicit: bool = False  # RFC 5321 section 5.1: no MX record, the domain's own address is used
    provider: Provider | None = None  # row of the first host; None where no row matches
    probe_allowed: bool = True  # False: the provider forbids probing and the operator has not switched it on


class Evidence(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """All facts about one address but its name: equal for many addresses of a domain, and judged once for them."""

    domain: str
    flags: Flags  # of the lists
    route: Route | None = None  # None: not looked up in time
    attempts: tuple[Attempt, ...] = ()  # empty: no mail host was turned to
    catch_all: CatchAll = CatchAll.NOT_ASKED
    random_after: float | None = None  # seconds the host asked to wait before the random address is tried again
    look: int = 0  # how many times this address has been put off before
    last_look: bool = False  # True: Later only for an address that had no turn


class Later(msgspec.Struct, frozen=True):
    """The judge's other answer: nothing definite yet, look again. `after`: seconds the mail host asked for. `unasked`:
    this was no look, the address had no turn.
    """

    reason: Reason
    after: float | None = None
    unasked: bool = False
