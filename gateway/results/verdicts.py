"""Results that the gateway itself gives: rows that are no address, and addresses nobody could say anything about.

Shapes are those of shared.verdict.Result as plain JSON objects, with the upload's `row` where there is one.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import msgspec

from shared.verdict import VERIFY_STATUS, Details, Reason, Result, RiskLevel, Status


def malformed_result(email: str, why: str, now: float) -> dict[str, Any]:
    """Not an address: invalid, free of charge. `why` is in words for the user."""
    return _result(email, Status.INVALID, Reason.INVALID_SYNTAX, {"valid": False, "why": why}, now)


def undecided_result(email: str, reason: Reason, now: float) -> dict[str, Any]:
    """Nothing was found out, and nobody will look again: unknown, free of charge."""
    return _result(email, Status.UNKNOWN, reason, {"valid": True}, now)


def _result(email: str, status: Status, reason: Reason, syntax: dict[str, Any], now: float) -> dict[str, Any]:
    invalid = status is Status.INVALID
    result = Result(
        email=email,
        normalized=None,
        status=status,
        is_valid=False,
        risk_level=RiskLevel.HIGH if invalid else RiskLevel.MEDIUM,
        reason=reason,
        verify_status=VERIFY_STATUS[status],
        score=0 if invalid else 50,
        details=Details(syntax=syntax, checked_at=rfc3339(now)),
    )
    built: dict[str, Any] = msgspec.to_builtins(result)
    return built


def rfc3339(at: float) -> str:
    """Seconds since the epoch as RFC 3339 in UTC, to the millisecond."""
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
