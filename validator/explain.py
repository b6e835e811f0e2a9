"""What a reply or an address is taken for, and which rule says so: the pure side of `mailvet explain`."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from shared.address import Address, parse_address
from shared.verdict import Reason, Status
from validator.evidence import Attempt, CatchAll, DnsAnswer, Evidence, Outcome, Phase, Route
from validator.judge import judge
from validator.lists import Flags, list_flags
from validator.smtp.classify import Classified, ReplyClass, classify, rule_source
from validator.smtp.retry_hint import retry_hint
from validator.suggest import suggest_domain

_REPLY = re.compile(r"\s*(\d{3})(?:[ -]|\Z)(.*)", re.DOTALL)
_SOMEWHERE = "example.com"
_NOBODY = Flags(role=False, disposable=False, disposable_wide=False, free=False)


class _NotUnderstood(ValueError):
    """Why an input cannot be explained."""


def explain_reply(code: int, text: str, phase: str = "rcpt") -> dict[str, Any]:
    """`class`, and how it came about: `rule` and `source`, `enhanced`, `verdict` at the last look, `retryAfter`."""
    found = classify(code, text, phase)
    return {
        "class": found.cls.value,
        "code": code,
        "enhanced": found.enhanced,
        "phase": phase,
        "rule": found.rule,
        "source": rule_source(found.rule),
        "verdict": _verdict(code, text, phase, found),
        "retryAfter": retry_hint(text) if 400 <= code <= 499 else None,
    }


def explain_reply_line(reply: str) -> dict[str, Any]:
    """A reply as a server prints it: "550 5.1.1 ...", several lines allowed. Raises ValueError where it has no code."""
    found = _REPLY.match(reply)
    if found is None:
        raise _NotUnderstood("a reply starts with its three-digit code")
    return explain_reply(int(found[1]), found[2].strip())


def explain_address(text: str) -> dict[str, Any]:
    """`valid`, `normalized`, `reason` (None where valid) and what the lists say."""
    address = parse_address(text)
    if not isinstance(address, Address):
        return {"valid": False, "normalized": None, "reason": address.why}
    flags = list_flags(address.local, address.domain)
    better = suggest_domain(address.domain)
    return {
        "valid": True,
        "normalized": address.normalized,
        "reason": None,
        "smtputf8": address.smtputf8,
        "role": flags.role,
        "disposable": flags.disposable,
        "free": flags.free,
        "suggestion": f"{address.local}@{better}" if better else None,
    }


def reply_lines(lines: Iterable[str | bytes]) -> Iterator[str]:
    """JSON lines `{"code", "text", "phase"?}` in, a JSON line each out; a bad line gives `{"error"}`, never an end."""
    return _answers(lines, _reply_of)


def address_lines(lines: Iterable[str | bytes]) -> Iterator[str]:
    """JSON lines `{"address"}` in, one JSON line each out. A bad line gives `{"error"}`, never an end."""
    return _answers(lines, _address_of)


def _answers(lines: Iterable[str | bytes], answer: Callable[[dict[str, Any]], dict[str, Any]]) -> Iterator[str]:
    for line in lines:
        if line.strip():
            yield json.dumps(_answer(line, answer))


def _answer(line: str | bytes, answer: Callable[[dict[str, Any]], dict[str, Any]]) -> dict[str, Any]:
    try:
        question = json.loads(line)
        if not isinstance(question, dict):
            raise _NotUnderstood("not a JSON object")
        return answer(question)
    except (ValueError, RecursionError) as error:  # JSONDecodeError and _NotUnderstood are ValueErrors
        return {"error": str(error) or type(error).__name__}


def _reply_of(question: dict[str, Any]) -> dict[str, Any]:
    code, text, phase = question.get("code"), question.get("text"), question.get("phase")
    if isinstance(code, str) and code.isascii() and code.isdigit() and len(code) <= len("550"):
        code = int(code)
    if not isinstance(code, int) or isinstance(code, bool) or not 0 <= code <= 999:
        raise _NotUnderstood("`code` is a reply code such as 550")
    if text is not None and not isinstance(text, str):
        raise _NotUnderstood("`text` is a string")
    if phase is not None and not isinstance(phase, str):
        raise _NotUnderstood("`phase` is a string such as rcpt")
    return explain_reply(code, text or "", phase or "rcpt")


def _address_of(question: dict[str, Any]) -> dict[str, Any]:
    address = question.get("address")
    if not isinstance(address, str):
        raise _NotUnderstood("`address` is a string")
    return explain_address(address)


def _verdict(code: int, text: str, phase: str, found: Classified) -> dict[str, str]:
    """What the judge makes of an address when this reply is all there is, and the random address was refused."""
    at = next((known for known in Phase if known == phase.lower()), Phase.RCPT)
    attempt = Attempt(host="", outcome=Outcome.REPLIED, phase=at, code=code, text=text, kind=found.cls)
    result = judge(
        Evidence(
            domain=_SOMEWHERE,
            flags=_NOBODY,
            route=Route(answer=DnsAnswer.FOUND),
            attempts=(attempt,),
            catch_all=CatchAll.NO if found.cls is ReplyClass.ACCEPTED else CatchAll.NOT_ASKED,
            last_look=True,
        )
    )
    status = getattr(result, "status", Status.UNKNOWN)
    return {"status": status.value, "reason": getattr(result, "reason", Reason.PUT_OFF).value}
