"""The words of a verdict. Contract: every value here is visible to users."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from typing import Any, Final

import msgspec

# gc=False below: verdicts form no cycles, and a validator holds hundreds of thousands of them; walking those would cost
# the garbage collector as much time as finding them.


ADDRESS: Final = "\x1a"  # U+001A SUBSTITUTE: no reply that is kept holds a control character
MAX_REPLY_TEXT: Final = 500  # characters


class Status(StrEnum):
    """What was seen, in one of four words."""

    VALID = "valid"  # RCPT accepted where a random address is refused
    INVALID = "invalid"  # bad syntax, no such domain, no mail there, mailbox missing or disabled
    RISKY = "risky"  # catch-all, full, disposable, role account
    UNKNOWN = "unknown"  # the server said nothing about the mailbox


class Reason(StrEnum):
    """Why. One word of a closed list."""

    ACCEPTED = "accepted"
    ROLE_ACCOUNT = "role_account"
    CATCH_ALL = "catch_all"
    DISPOSABLE = "disposable"
    MAILBOX_FULL = "mailbox_full"
    MAILBOX_MISSING = "mailbox_missing"
    MAILBOX_DISABLED = "mailbox_disabled"
    INVALID_SYNTAX = "invalid_syntax"
    DOMAIN_MISSING = "domain_missing"
    NO_MAIL_HOST = "no_mail_host"
    NULL_MX = "null_mx"
    RELAY_DENIED = "relay_denied"
    PUT_OFF = "put_off"
    PROBER_BLOCKED = "prober_blocked"
    TIMEOUT = "timeout"
    UNREACHABLE = "unreachable"
    TLS_FAILED = "tls_failed"
    SERVER_ERROR = "server_error"
    PROTOCOL_ERROR = "protocol_error"
    PRIVATE_ADDRESS = "private_address"
    DNS_FAILURE = "dns_failure"
    CIRCUIT_OPEN = "circuit_open"
    PROVIDER_POLICY = "provider_policy"
    SUPPRESSED = "suppressed"
    CANCELLED = "cancelled"


class RiskLevel(StrEnum):
    LOW = "low"
    MEDIUM = "medium"
    HIGH = "high"


class VerifyStatus(StrEnum):
    """The coarse word some integrations expect; one for each Status."""

    VALID = "valid"
    RISKY_CATCH_ALL = "risky_catch_all"
    INVALID = "invalid"
    UNKNOWN_TIMEOUT = "unknown_timeout"


VERIFY_STATUS: dict[Status, VerifyStatus] = {
    Status.VALID: VerifyStatus.VALID,
    Status.RISKY: VerifyStatus.RISKY_CATCH_ALL,
    Status.INVALID: VerifyStatus.INVALID,
    Status.UNKNOWN: VerifyStatus.UNKNOWN_TIMEOUT,
}


class SmtpDetails(msgspec.Struct, kw_only=True, gc=False):
    """The reply the verdict rests on. `text` is cleaned of control characters and at most MAX_REPLY_TEXT long.

    Within a Finding, ADDRESS stands in it where the reply named the address: servers that do so say the same to all.
    """

    code: int | None = None
    enhanced: str | None = None
    text: str | None = None
    host: str | None = None
    attempts: int = 0  # looks at this address that reached a mail server


class DnsDetails(msgspec.Struct, kw_only=True, gc=False):
    mx: list[str] = []  # host names in the order they are tried
    implicit: bool = False  # no MX record; the domain's own address is used (RFC 5321 section 5.1)


class Flags(msgspec.Struct, kw_only=True, gc=False):
    role: bool = False
    disposable: bool = False
    free: bool = False
    catch_all: bool = False
    mailbox_full: bool = False
    disabled: bool = False


class Details(msgspec.Struct, kw_only=True, gc=False):
    syntax: dict[str, Any] = {}  # {"valid", "local", "domain", "smtputf8"} or {"valid": false, "why"}
    dns: DnsDetails = msgspec.field(default_factory=DnsDetails)
    smtp: SmtpDetails = msgspec.field(default_factory=SmtpDetails)
    flags: Flags = msgspec.field(default_factory=Flags)
    provider: str | None = None
    checked_at: str = ""  # RFC 3339, UTC
    score_parts: dict[str, int] = {}
    trace: list[dict[str, Any]] = []  # filled only when asked for: {"at", "host", "address", "phase", "sent", "reply"}


class Result(msgspec.Struct, kw_only=True, gc=False):
    """One verdict about one address. `email` is the address as it was given."""

    email: str
    normalized: str | None
    status: Status
    is_valid: bool
    risk_level: RiskLevel
    reason: Reason
    verify_status: VerifyStatus
    score: int  # 0 (will bounce) to 100 (safe)
    suggestion: str | None = None
    details: Details = msgspec.field(default_factory=Details)


class Finding(msgspec.Struct, kw_only=True, frozen=True, gc=False):
    """What a verdict says apart from the address. One object for all addresses that were told the same.

    A list of a thousand addresses at a domain has a few of these; that is why they are passed on and kept apart from
    the addresses.
    """

    status: Status
    reason: Reason
    risk_level: RiskLevel
    score: int
    better: str | None = None  # the domain that was probably meant
    why: str | None = None  # what is wrong with the syntax, in words for the user
    dns: DnsDetails = msgspec.field(default_factory=DnsDetails)
    smtp: SmtpDetails = msgspec.field(default_factory=SmtpDetails)
    flags: Flags = msgspec.field(default_factory=Flags)
    provider: str | None = None
    score_parts: dict[str, int] = {}

    def about(
        self, email: str, normalized: str | None, checked_at: str, trace: Sequence[dict[str, Any]] = ()
    ) -> Result:
        """The verdict as users see it."""
        local, _, domain = (normalized or "").rpartition("@")
        return Result(
            email=email,
            normalized=normalized,
            status=self.status,
            is_valid=self.status is Status.VALID,
            risk_level=self.risk_level,
            reason=self.reason,
            verify_status=VERIFY_STATUS[self.status],
            score=self.score,
            suggestion=f"{local}@{self.better}" if self.better is not None else None,
            details=Details(
                syntax=describe_syntax(local, domain) if self.why is None else {"valid": False, "why": self.why},
                dns=self.dns,
                smtp=self.smtp if normalized is None else _naming(self.smtp, normalized),
                flags=self.flags,
                provider=self.provider,
                checked_at=checked_at,
                score_parts=self.score_parts,
                trace=list(trace),
            ),
        )


def named(text: str, address: str) -> str:
    """`text` as it was said about `address`."""
    return text.replace(ADDRESS, address)[:MAX_REPLY_TEXT] if ADDRESS in text else text


def _naming(smtp: SmtpDetails, address: str) -> SmtpDetails:
    text = smtp.text and named(smtp.text, address)
    return smtp if text == smtp.text else msgspec.structs.replace(smtp, text=text)


def describe_syntax(local: str, domain: str) -> dict[str, Any]:
    """`Details.syntax` of a well-formed address."""
    return {"valid": True, "local": local, "domain": domain, "smtputf8": not local.isascii()}


class Verdict(msgspec.Struct, kw_only=True, gc=False):
    """A finding about an address. `normalized` is None exactly where the address is malformed."""

    email: str  # as it was given
    normalized: str | None
    finding: Finding
    checked_at: str  # RFC 3339, UTC
    trace: tuple[dict[str, Any], ...] = ()

    @property
    def status(self) -> Status:
        return self.finding.status

    @property
    def reason(self) -> Reason:
        return self.finding.reason

    def result(self) -> Result:
        return self.finding.about(self.email, self.normalized, self.checked_at, self.trace)


BILLABLE: frozenset[Status] = frozenset({Status.VALID, Status.INVALID, Status.RISKY})


def is_billable(status: str, reason: str) -> bool:
    """One credit for a definite verdict; unknown and bad syntax are free."""
    return status in BILLABLE and reason not in (Reason.INVALID_SYNTAX, Reason.SUPPRESSED)
