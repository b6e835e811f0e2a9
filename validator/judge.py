"""The one place with an opinion: Evidence in, a Finding or "look again later" out. Pure, and total: it never raises.

What can never happen here: `invalid` from a 4xx, from silence, from a refusal of us, or from anything said before RCPT;
`valid` without a 250 or 251 to RCPT itself; an attribute (role, disposable, free) in front of an `invalid`.

An accepted address whose random neighbour got no clear answer is not `valid` and not catch-all either: nobody saw that.
It is looked at again; at the last look it stays `unknown` (free of charge), unless the provider is known to refuse
unknown mailboxes at RCPT, or the host was seen to do so at this domain. See docs/decisions/0026.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

from shared.verdict import MAX_REPLY_TEXT, DnsDetails, Finding, Flags, Reason, SmtpDetails, Status
from validator.evidence import Attempt, CatchAll, DnsAnswer, Evidence, Later, Outcome, Phase, Route
from validator.lists import Flags as ListFlags
from validator.score import risk_level, score_parts, total
from validator.smtp.classify import ReplyClass, find_status
from validator.suggest import suggest_domain


@dataclass(frozen=True, slots=True, eq=False)
class _Opinion:
    """`patience`: looks after the first that are worth spending on it (0: it is final; None: all there are).
    `unproven`: accepted, but the random address at the same domain got no clear answer: points off.
    """

    status: Status
    reason: Reason
    patience: int | None = 0
    unproven: int = 0


_BY_DNS: dict[DnsAnswer, _Opinion] = {
    DnsAnswer.NULL_MX: _Opinion(Status.INVALID, Reason.NULL_MX),
    DnsAnswer.DOMAIN_MISSING: _Opinion(Status.INVALID, Reason.DOMAIN_MISSING),
    DnsAnswer.NO_MAIL_HOST: _Opinion(Status.INVALID, Reason.NO_MAIL_HOST),
    DnsAnswer.PRIVATE_ADDRESS: _Opinion(Status.UNKNOWN, Reason.PRIVATE_ADDRESS),
    DnsAnswer.FAILURE: _Opinion(Status.UNKNOWN, Reason.DNS_FAILURE, None),
}
# A host that is down or silent gets one more look; what we ourselves put off waits as long as there are looks.
_BY_OUTCOME: dict[Outcome, _Opinion] = {
    Outcome.TIMEOUT: _Opinion(Status.UNKNOWN, Reason.TIMEOUT, 1),
    Outcome.UNREACHABLE: _Opinion(Status.UNKNOWN, Reason.UNREACHABLE, 1),
    Outcome.HUNG_UP: _Opinion(Status.UNKNOWN, Reason.SERVER_ERROR, 1),
    Outcome.TLS_FAILED: _Opinion(Status.UNKNOWN, Reason.TLS_FAILED, 1),
    Outcome.PROTOCOL_ERROR: _Opinion(Status.UNKNOWN, Reason.PROTOCOL_ERROR),
    Outcome.NO_SMTPUTF8: _Opinion(Status.UNKNOWN, Reason.PROTOCOL_ERROR),
    Outcome.CIRCUIT_OPEN: _Opinion(Status.UNKNOWN, Reason.CIRCUIT_OPEN, None),
    Outcome.LIMITED: _Opinion(Status.UNKNOWN, Reason.PUT_OFF, None),
    Outcome.FAULT: _Opinion(Status.UNKNOWN, Reason.PUT_OFF, None),
    Outcome.OUT_OF_TIME: _Opinion(Status.UNKNOWN, Reason.PUT_OFF, None),
}
_PERMANENT: dict[ReplyClass, _Opinion] = {
    ReplyClass.MAILBOX_MISSING: _Opinion(Status.INVALID, Reason.MAILBOX_MISSING),
    ReplyClass.MAILBOX_DISABLED: _Opinion(Status.INVALID, Reason.MAILBOX_DISABLED),
    ReplyClass.RELAY_DENIED: _Opinion(Status.INVALID, Reason.RELAY_DENIED),
    ReplyClass.MAILBOX_FULL: _Opinion(Status.RISKY, Reason.MAILBOX_FULL),
    ReplyClass.SENDER_BLOCKED: _Opinion(Status.UNKNOWN, Reason.PROBER_BLOCKED),
    ReplyClass.SERVER_ERROR: _Opinion(Status.UNKNOWN, Reason.SERVER_ERROR),
    ReplyClass.GREYLISTED: _Opinion(Status.UNKNOWN, Reason.PUT_OFF, None),
    ReplyClass.RATE_LIMITED: _Opinion(Status.UNKNOWN, Reason.PUT_OFF, None),
}
_TEMPORARY: dict[ReplyClass, _Opinion] = {
    ReplyClass.MAILBOX_FULL: _Opinion(Status.RISKY, Reason.MAILBOX_FULL),
    ReplyClass.SENDER_BLOCKED: _Opinion(Status.UNKNOWN, Reason.PROBER_BLOCKED, None),
    ReplyClass.SERVER_ERROR: _Opinion(Status.UNKNOWN, Reason.SERVER_ERROR, None),
}
_BLOCKED_BEFORE = _Opinion(Status.UNKNOWN, Reason.PROBER_BLOCKED, None)  # the breaker is open because of it
_PUT_OFF = _Opinion(Status.UNKNOWN, Reason.PUT_OFF, None)
_ODD_REPLY = _Opinion(Status.UNKNOWN, Reason.PROTOCOL_ERROR)
_POLICY = _Opinion(Status.UNKNOWN, Reason.PROVIDER_POLICY)
_ROW_SAYS, _HOST_SHOWED = 10, 20  # points off for what stands in for the random address: a row, a refusal seen
_UNPROVEN = _Opinion(Status.UNKNOWN, Reason.PUT_OFF, None, unproven=_ROW_SAYS)
_DISPOSABLE = _Opinion(Status.RISKY, Reason.DISPOSABLE)
_CATCH_ALL = _Opinion(Status.RISKY, Reason.CATCH_ALL)
_DOUBTS = (0, _ROW_SAYS, _HOST_SHOWED)
_ROLE = {unproven: _Opinion(Status.RISKY, Reason.ROLE_ACCOUNT, unproven=unproven) for unproven in _DOUBTS}
_VALID = {unproven: _Opinion(Status.VALID, Reason.ACCEPTED, unproven=unproven) for unproven in _DOUBTS}


def judge(evidence: Evidence) -> Finding | Later:
    """What is to be said of the address, or Later where more can be learnt and this is not the last look."""
    if evidence.attempts and evidence.attempts[-1].outcome is Outcome.NO_TURN:
        return Later(Reason.PUT_OFF, unasked=True)  # even at the last look: it was none
    opinion = _opinion(evidence)
    waits = opinion.patience is None or evidence.look < opinion.patience
    if waits and not evidence.last_look:
        after = evidence.attempts[-1].after if evidence.attempts else None
        return Later(opinion.reason, evidence.random_after if opinion.unproven else after)
    return _finding(evidence, opinion)


def malformed(why: str) -> Finding:
    """Of what is no address: nothing else need be known of it."""
    return Finding(
        status=Status.INVALID,
        reason=Reason.INVALID_SYNTAX,
        risk_level=risk_level(Status.INVALID, 0),
        score=0,
        why=why,
    )


def _opinion(evidence: Evidence) -> _Opinion:
    route = evidence.route
    if route is None:
        return _BY_DNS[DnsAnswer.FAILURE]
    if route.answer is not DnsAnswer.FOUND:
        return _BY_DNS[route.answer]
    if not route.probe_allowed:
        return _POLICY
    if not evidence.attempts:
        return _PUT_OFF
    last = evidence.attempts[-1]
    if last.outcome is Outcome.CIRCUIT_OPEN and last.kind is ReplyClass.SENDER_BLOCKED:
        return _BLOCKED_BEFORE
    if last.outcome is not Outcome.REPLIED:
        return _BY_OUTCOME[last.outcome]
    return _by_reply(evidence, last)


def _by_reply(evidence: Evidence, last: Attempt) -> _Opinion:
    kind, code = last.kind, last.code or 0
    if kind is ReplyClass.ACCEPTED:
        # 252 promises nothing (RFC 5321 section 3.5.3), and no other 2xx belongs to RCPT.
        return _accepted(evidence) if last.phase is Phase.RCPT and code in (250, 251) else _ODD_REPLY
    if kind is None or not 400 <= code <= 599:
        return _ODD_REPLY
    opinion = _PERMANENT[kind] if code >= 500 else _TEMPORARY.get(kind, _PUT_OFF)
    if last.phase is Phase.RCPT or opinion.status is Status.UNKNOWN:
        return opinion
    return _PERMANENT[ReplyClass.SENDER_BLOCKED] if code >= 500 else _PUT_OFF  # before RCPT: not about the mailbox


def _accepted(evidence: Evidence) -> _Opinion:
    provider = evidence.route.provider if evidence.route else None
    if provider is not None and provider.accepts_all:
        return _POLICY
    flags = evidence.flags
    if flags.disposable:
        return _DISPOSABLE
    if evidence.catch_all is CatchAll.YES:
        return _CATCH_ALL
    unproven = 0
    if evidence.catch_all in (CatchAll.NOT_ASKED, CatchAll.INCONCLUSIVE, CatchAll.NOT_ALL):
        if evidence.last_look and provider is not None and provider.truthful:
            unproven = _ROW_SAYS
        elif evidence.last_look and evidence.catch_all is CatchAll.NOT_ALL:
            unproven = _HOST_SHOWED
        else:
            return _UNPROVEN
    return (_ROLE if flags.role else _VALID)[unproven]


def _finding(evidence: Evidence, opinion: _Opinion) -> Finding:
    route = evidence.route
    better = suggest_domain(evidence.domain)
    implicit = route is not None and route.implicit
    parts = _parts(opinion, evidence.flags, better is not None, implicit)
    score = total(parts)
    return Finding(
        status=opinion.status,
        reason=opinion.reason,
        risk_level=risk_level(opinion.status, score),
        score=score,
        better=better,
        dns=_dns(route),
        smtp=_smtp(evidence.attempts, evidence.look),
        flags=_flags(opinion.reason, evidence.flags, evidence.catch_all is CatchAll.YES),
        provider=route.provider.name if route and route.provider else None,
        score_parts=parts,
    )


@lru_cache(maxsize=1_024)
def _parts(opinion: _Opinion, flags: ListFlags, mistyped: bool, implicit_mx: bool) -> dict[str, int]:  # noqa: FBT001
    return score_parts(
        opinion.status,
        opinion.reason,
        role=flags.role,
        disposable=flags.disposable,
        disposable_wide=flags.disposable_wide,
        mistyped=mistyped,
        unproven=opinion.unproven,
        implicit_mx=implicit_mx,
    )


@lru_cache(maxsize=4_096)
def _dns(route: Route | None) -> DnsDetails:
    return DnsDetails(mx=list(route.hosts), implicit=route.implicit) if route else DnsDetails()


@lru_cache(maxsize=1_024)
def _flags(reason: Reason, flags: ListFlags, catch_all: bool) -> Flags:  # noqa: FBT001
    return Flags(
        role=flags.role,
        disposable=flags.disposable,
        free=flags.free,
        catch_all=catch_all,
        mailbox_full=reason is Reason.MAILBOX_FULL,
        disabled=reason is Reason.MAILBOX_DISABLED,
    )


def _smtp(attempts: tuple[Attempt, ...], looks: int) -> SmtpDetails:
    looks += any(attempt.address for attempt in attempts)
    if not attempts:
        return SmtpDetails(attempts=looks)
    last = attempts[-1]
    return SmtpDetails(
        code=last.code,
        enhanced=find_status(last.code, last.text) if last.code is not None else None,
        text=last.text[:MAX_REPLY_TEXT] or None,
        host=last.host,
        attempts=looks,
    )
