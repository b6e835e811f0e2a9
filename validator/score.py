"""A number for a verdict: 0 will bounce, 100 is safe. It only ranks; the status and the reason are the verdict."""

from __future__ import annotations

from shared.verdict import Reason, RiskLevel, Status

# What the mail host's answer (or its silence) is worth.
_BASE: dict[Reason, int] = {
    Reason.ACCEPTED: 95,
    Reason.ROLE_ACCOUNT: 70,
    Reason.CATCH_ALL: 55,
    Reason.MAILBOX_FULL: 35,
    Reason.DISPOSABLE: 15,
    Reason.PROVIDER_POLICY: 50,
    Reason.PUT_OFF: 50,
    Reason.PROBER_BLOCKED: 45,
    Reason.CIRCUIT_OPEN: 40,
    Reason.TIMEOUT: 35,
    Reason.TLS_FAILED: 35,
    Reason.SERVER_ERROR: 35,
    Reason.PROTOCOL_ERROR: 30,
    Reason.DNS_FAILURE: 30,
    Reason.UNREACHABLE: 25,
    Reason.PRIVATE_ADDRESS: 10,
}
_LOW_RISK, _MEDIUM_RISK = 80, 40


def score_parts(
    status: Status,
    reason: Reason,
    *,
    role: bool = False,
    disposable: bool = False,
    disposable_wide: bool = False,
    mistyped: bool = False,
    unproven: int = 0,
    implicit_mx: bool = False,
) -> dict[str, int]:
    """The parts of the score by name; `total` clamps their sum. An invalid address has none: its score is 0.

    `mistyped`: the domain looks like a slip of a well-known one. `unproven`: points off for an accepted
    address whose random neighbour got no clear answer.
    """
    if status is Status.INVALID:
        return {}
    parts = {
        "answer": _BASE.get(reason, 30),
        "role": -10 if role and reason is not Reason.ROLE_ACCOUNT else 0,
        "disposable": -30 if disposable and reason is not Reason.DISPOSABLE else 0,
        "disposable_wide": -25 if disposable_wide and not disposable else 0,
        "mistyped": -25 if mistyped else 0,
        "unproven": -unproven,
        "implicit_mx": -5 if implicit_mx else 0,
    }
    return {name: points for name, points in parts.items() if points}


def total(parts: dict[str, int]) -> int:
    """0 to 100."""
    return min(100, max(0, sum(parts.values())))


def risk_level(status: Status, score: int) -> RiskLevel:
    """Only a valid address is of low risk; an invalid one is always of high risk."""
    if status is Status.INVALID or score < _MEDIUM_RISK:
        return RiskLevel.HIGH
    if status is Status.VALID and score >= _LOW_RISK:
        return RiskLevel.LOW
    return RiskLevel.MEDIUM
