"""The verdicts of the sandbox: the part before the @ says what is to be found, at whatever domain. Pure.

Every word of `Reason` works (`mailbox-missing@anything.example`, or behind a plus sign: `ann+catch-all@...`), and
`greylisted`, which is put off at the first look and accepted at the next. Everything else is accepted. Nobody is asked
anything: the same address always gets the same verdict.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from gateway.problem import Problem
from gateway.results.verdicts import rfc3339
from shared.address import Address, parse_address
from shared.verdict import DnsDetails, Finding, Flags, Reason, RiskLevel, SmtpDetails, Status, Verdict

GREYLISTED: Final = "greylisted"
NO_CREDITS: Final = "insufficient_credits"  # the whole request is refused as if there were none
PROVIDER: Final = "sandbox"
HOST: Final = "mx.sandbox.invalid"  # RFC 2606: never a real one

_VALID, _INVALID, _RISKY, _UNKNOWN = Status.VALID, Status.INVALID, Status.RISKY, Status.UNKNOWN


def _found(
    status: Status,
    reason: Reason,
    score: int,
    reply: tuple[int, str, str] | None = None,
    *,
    flags: Flags | None = None,
    asked: bool = True,
    why: str | None = None,
) -> Finding:
    """`reply`: the mail server's code, enhanced code and text; `asked`: a mail server was, whatever it said."""
    code, enhanced, text = reply or (None, None, None)
    smtp = SmtpDetails(code=code, enhanced=enhanced, text=text, host=HOST, attempts=1) if asked else SmtpDetails()
    return Finding(
        status=status,
        reason=reason,
        risk_level=_risk(status, score),
        score=score,
        why=why,
        dns=DnsDetails(mx=[HOST] if asked else []),
        smtp=smtp,
        flags=flags or Flags(),
        provider=PROVIDER,
    )


def _risk(status: Status, score: int) -> RiskLevel:
    if status is _VALID:
        return RiskLevel.LOW
    return RiskLevel.HIGH if score < 40 else RiskLevel.MEDIUM


_OK = (250, "2.1.5", "Recipient OK (simulated)")
_FINDINGS = (
    _found(_VALID, Reason.ACCEPTED, 95, _OK),
    _found(_RISKY, Reason.ROLE_ACCOUNT, 70, _OK, flags=Flags(role=True)),
    _found(_RISKY, Reason.CATCH_ALL, 55, _OK, flags=Flags(catch_all=True)),
    _found(_RISKY, Reason.DISPOSABLE, 15, _OK, flags=Flags(disposable=True)),
    _found(_RISKY, Reason.MAILBOX_FULL, 35, (552, "5.2.2", "Mailbox full (simulated)"), flags=Flags(mailbox_full=True)),
    _found(_INVALID, Reason.MAILBOX_MISSING, 0, (550, "5.1.1", "No such user (simulated)")),
    _found(
        _INVALID, Reason.MAILBOX_DISABLED, 0, (550, "5.2.1", "Mailbox disabled (simulated)"), flags=Flags(disabled=True)
    ),
    _found(_INVALID, Reason.RELAY_DENIED, 0, (550, "5.7.1", "Relaying denied (simulated)")),
    _found(_INVALID, Reason.INVALID_SYNTAX, 0, asked=False, why="It is no address (simulated)."),
    _found(_INVALID, Reason.DOMAIN_MISSING, 0, asked=False),
    _found(_INVALID, Reason.NO_MAIL_HOST, 0, asked=False),
    _found(_INVALID, Reason.NULL_MX, 0, asked=False),
    _found(_UNKNOWN, Reason.PUT_OFF, 50, (451, "4.7.1", "Try again later (simulated)")),
    _found(_UNKNOWN, Reason.PROBER_BLOCKED, 45, (554, "5.7.1", "Your address is on a block list (simulated)")),
    _found(_UNKNOWN, Reason.SERVER_ERROR, 35, (451, "4.3.0", "Local error (simulated)")),
    _found(_UNKNOWN, Reason.TIMEOUT, 35),
    _found(_UNKNOWN, Reason.UNREACHABLE, 25),
    _found(_UNKNOWN, Reason.TLS_FAILED, 35),
    _found(_UNKNOWN, Reason.PROTOCOL_ERROR, 30),
    _found(_UNKNOWN, Reason.PRIVATE_ADDRESS, 10),
    _found(_UNKNOWN, Reason.CIRCUIT_OPEN, 40),
    _found(_UNKNOWN, Reason.DNS_FAILURE, 30, asked=False),
    _found(_UNKNOWN, Reason.PROVIDER_POLICY, 50, asked=False),
    _found(_UNKNOWN, Reason.SUPPRESSED, 50, asked=False),
    _found(_UNKNOWN, Reason.CANCELLED, 50, asked=False),
)
FINDINGS: dict[str, Finding] = {str(finding.reason): finding for finding in _FINDINGS}


def simulate(email: str, *, look: int, last_look: bool, now: float) -> Verdict | None:
    """The verdict on a well-formed address as it was given; None: put off, look again later."""
    address = parse_address(email)
    word = _word(address) if isinstance(address, Address) else Reason.INVALID_SYNTAX
    if word == GREYLISTED and look == 0:
        if not last_look:
            return None
        word = Reason.PUT_OFF
    finding = FINDINGS.get(word, FINDINGS[Reason.ACCEPTED])
    normalized = address.normalized if isinstance(address, Address) and finding.why is None else None
    return Verdict(email=email, normalized=normalized, finding=finding, checked_at=rfc3339(now))


def refuse_if_asked(emails: Iterable[str]) -> None:
    """Raises Problem 402 where one of them is there to try just that."""
    for email in emails:
        address = parse_address(email.strip())
        if isinstance(address, Address) and _word(address) == NO_CREDITS:
            raise Problem(402, "insufficient_credits", "Simulated: not enough credits.", required=1, available=0)


def _word(address: Address) -> str:
    return address.local.rpartition("+")[2].lower().replace("-", "_")
