"""Results as they are stored and shown: out of a validator's message, and those that the gateway itself gives.

The gateway's own are about rows that are no address and addresses nobody could say anything about.

Shapes are those of shared.verdict.Result as plain JSON objects, with the upload's `row` where there is one.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec

from shared.errors import MessageUndecodable
from shared.messages import ResultMessage
from shared.verdict import ADDRESS, Finding, Reason, RiskLevel, Status, describe_syntax, named


def found_results(message: ResultMessage, emails: Sequence[str], rows: Sequence[int]) -> list[dict[str, Any]]:
    """The results in `message` about the addresses that it answers, without those that were put off.

    Runs for every address there is, so each finding is turned into JSON objects once and the addresses are put in.
    Raises MessageUndecodable for a message that contradicts itself.
    """
    shapes = [_shape(finding) for finding in message.findings]
    results: list[dict[str, Any]] = []
    try:
        for index, (place, checked_at) in enumerate(zip(message.found, message.checked_at, strict=True)):
            if place is None:
                continue
            finding, shape, details = shapes[place]
            email = emails[index]
            normalized = message.normalized.get(index, email)
            details = {**details, "checked_at": checked_at}
            result = {**shape, "email": email, "normalized": normalized, "details": details, "row": rows[index]}
            if normalized is not None:
                local, _, domain = normalized.rpartition("@")
                details["syntax"] = describe_syntax(local, domain)
                if finding.better is not None:
                    result["suggestion"] = f"{local}@{finding.better}"
                if finding.smtp.text and ADDRESS in finding.smtp.text:
                    details["smtp"] = {**details["smtp"], "text": named(finding.smtp.text, normalized)}
            if index in message.traces:
                details["trace"] = message.traces[index]
            results.append(result)
    except (IndexError, ValueError) as error:
        raise MessageUndecodable(f"a ResultMessage that contradicts itself: {type(error).__name__}", b"") from error
    return results


def _shape(finding: Finding) -> tuple[Finding, dict[str, Any], dict[str, Any]]:
    """With what all results of a finding have in common: the result, and its details."""
    shape: dict[str, Any] = msgspec.to_builtins(finding.about("", None, ""))
    return finding, shape, shape["details"]


def malformed_result(email: str, why: str, now: float) -> dict[str, Any]:
    """Not an address: invalid, free of charge. `why` is in words for the user."""
    return _result(
        email,
        now,
        Finding(status=Status.INVALID, reason=Reason.INVALID_SYNTAX, risk_level=RiskLevel.HIGH, score=0, why=why),
    )


def undecided_result(email: str, reason: Reason, now: float) -> dict[str, Any]:
    """Nothing was found out, and nobody will look again: unknown, free of charge."""
    result = _result(email, now, Finding(status=Status.UNKNOWN, reason=reason, risk_level=RiskLevel.MEDIUM, score=50))
    result["details"]["syntax"] = {"valid": True}
    return result


def _result(email: str, now: float, finding: Finding) -> dict[str, Any]:
    built: dict[str, Any] = msgspec.to_builtins(finding.about(email, None, rfc3339(now)))
    return built


def rfc3339(at: float) -> str:
    """Seconds since the epoch as RFC 3339 in UTC, to the millisecond."""
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
