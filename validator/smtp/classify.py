"""What an SMTP reply means. Pure: text in, class out; the rules are data in `rules/*.toml`.

The order of the rules is the order of trust: marks of one provider, words about the sender, about the state of the
mailbox, about us, about speed, about a missing mailbox or domain, weaker words, enhanced status codes (RFC 3463), reply
codes (RFC 5321). The first rule that matches decides. Two things stand above all rules:

- a reply before RCPT (banner, EHLO, STARTTLS, MAIL) says nothing about a mailbox;
- a 4xx is never `mailbox_missing` or `mailbox_disabled`.

On doubt the class is one that leads to no verdict: a false "invalid" costs a real customer, an "unknown" costs nothing.
"""

from __future__ import annotations

import re
import tomllib
import unicodedata
from enum import StrEnum
from functools import cache, lru_cache
from importlib.resources import files
from typing import Any, NamedTuple

MAX_TEXT = 600  # characters looked at; the words that matter come early


class ReplyClass(StrEnum):
    MAILBOX_MISSING = "mailbox_missing"
    MAILBOX_DISABLED = "mailbox_disabled"
    MAILBOX_FULL = "mailbox_full"
    GREYLISTED = "greylisted"
    RATE_LIMITED = "rate_limited"
    SENDER_BLOCKED = "sender_blocked"
    RELAY_DENIED = "relay_denied"
    SERVER_ERROR = "server_error"
    ACCEPTED = "accepted"


class Classified(NamedTuple):
    """`rule`: id of the rule that decided. `enhanced`: the RFC 3463 status printed in the reply, if any."""

    cls: ReplyClass
    rule: str
    enhanced: str | None


class _Rule(NamedTuple):
    id: str
    cls: ReplyClass
    codes: re.Pattern[str] | None
    enhanced: re.Pattern[str] | None
    enhanced_not: re.Pattern[str] | None
    text: re.Pattern[str] | None
    url: re.Pattern[str] | None
    source: str


class _Read(NamedTuple):
    """A reply made comparable: lower-case, no accents, addresses as `@`, URLs set apart, status taken out."""

    enhanced: str | None
    text: str
    urls: str


_ORDER = ("0_tokens", "1_sender", "2_state", "3_us", "4_rate", "5_missing", "6_otherwise")
_BEFORE_RCPT = frozenset({"connect", "banner", "greeting", "helo", "ehlo", "lhlo", "starttls", "tls", "auth", "mail"})
_ABOUT_A_MAILBOX = frozenset(
    {
        ReplyClass.MAILBOX_MISSING,
        ReplyClass.MAILBOX_DISABLED,
        ReplyClass.MAILBOX_FULL,
        ReplyClass.RELAY_DENIED,
    }
)
_ACCEPTED = Classified(ReplyClass.ACCEPTED, "code.accepted", None)
_PHASE_RULE = "phase.before-rcpt"
_STATUS = re.compile(r"(?<![\d.\w])([245])\.(\d{1,3})\.(\d{1,3})(?![\d\w]|\.\d)")
_CODE_AGAIN = re.compile(r"(?:\A|(?<=\n))\s*\d{3}[- ]")
_URL = re.compile(r"(?:https?://|www\.)[^\s<>\"']{1,300}")
_ADDRESS = re.compile(
    r"<?[^\s<>()\[\],;:\"'@]{1,128}@[^\s<>()\[\],;:\"'@.]{1,63}(?:\.{1,2}[^\s<>()\[\],;:\"'@.]{1,63}){0,9}>?"
)
_UNDERSCORE = re.compile(r"(?<=[a-z])_(?=[a-z])")  # NO_SUCH_USER
_SPACE = re.compile(r"\s+")
_LETTERS = str.maketrans(
    {"ł": "l", "ß": "ss", "ø": "o", "æ": "ae", "đ": "d", "ı": "i", "œ": "oe", "’": "'", "`": "'", "“": '"', "”": '"'}
)


def classify(code: int, text: str, phase: str = "rcpt") -> Classified:
    """The class of a reply of `code` with `text` (all its lines, enhanced status included) to the command of `phase`.

    Never raises. `phase` is one of evidence.Phase, or "data"; an unknown word counts as "rcpt".
    """
    if 200 <= code <= 299:
        status = find_status(code, text)
        return _ACCEPTED if status is None else _ACCEPTED._replace(enhanced=status)
    read = _read(code, text)
    rule = _decide(code, read)
    cls = rule.cls
    if phase.lower() in _BEFORE_RCPT and cls in _ABOUT_A_MAILBOX:
        about_us = ReplyClass.SENDER_BLOCKED if code >= 500 else ReplyClass.GREYLISTED
        return Classified(about_us, f"{_PHASE_RULE} ({rule.id})", read.enhanced)
    return Classified(cls, rule.id, read.enhanced)


def classify_cached(code: int, text: str, phase: str = "rcpt", address: str = "") -> Classified:
    """As `classify`, remembering the answer to replies that differ only in `address` (the recipient they name)."""
    if address and address in text:
        text = text.replace(address, "a@b")
    return _classify_known(code, text, phase)


@lru_cache(maxsize=8192)
def _classify_known(code: int, text: str, phase: str) -> Classified:
    return classify(code, text, phase)


@lru_cache(maxsize=8192)
def find_status(code: int, text: str) -> str | None:
    """The first enhanced status (RFC 3463) in `text` that is of the class of `code`, such as "5.1.1"."""
    at_start = _STATUS.match(text)
    if at_start is not None and int(at_start[1]) == code // 100:
        return at_start[0]
    return next((found[0] for found in _STATUS.finditer(text[:MAX_TEXT]) if int(found[1]) == code // 100), None)


def fold(text: str) -> str:
    """Without accents: NFKD less the combining marks, and the letters that have no decomposition."""
    if text.isascii():
        return text
    marks = unicodedata.normalize("NFKD", text.translate(_LETTERS))
    return "".join(letter for letter in marks if not unicodedata.combining(letter))


def _read(code: int, text: str) -> _Read:
    text = _CODE_AGAIN.sub(" ", fold(text[:MAX_TEXT].lower())[:MAX_TEXT])
    status = find_status(code, text)
    urls = " ".join(_URL.findall(text))
    text = _STATUS.sub(" ", _ADDRESS.sub("@", _URL.sub(" ", text))).replace("#", " ")
    return _Read(status, _SPACE.sub(" ", _UNDERSCORE.sub(" ", text)).strip(), urls)


def _decide(code: int, read: _Read) -> _Rule:
    number = str(code)
    subject = "x" + read.enhanced[1:] if read.enhanced else ""
    for rule in rules():
        if rule.codes is not None and not rule.codes.match(number):
            continue
        if rule.enhanced is not None and not (read.enhanced and _status_is(rule.enhanced, read.enhanced, subject)):
            continue
        if rule.enhanced_not is not None and rule.enhanced_not.fullmatch(subject):
            continue
        if rule.text is not None and not rule.text.search(read.text):
            continue
        if rule.url is not None and not rule.url.search(read.urls):
            continue
        return rule
    raise AssertionError("the last rule has no condition")


def _status_is(pattern: re.Pattern[str], enhanced: str, subject: str) -> bool:
    return bool(pattern.fullmatch(enhanced) or pattern.fullmatch(subject))


@cache
def rules() -> tuple[_Rule, ...]:
    """All rules in the order they are tried. Read and compiled at the first reply."""
    folder = files("validator.smtp") / "rules"
    words = tomllib.loads((folder / "words.toml").read_text("utf-8"))
    tables = (tomllib.loads((folder / f"{name}.toml").read_text("utf-8")) for name in _ORDER)
    return tuple(_compile(rule, words) for table in tables for rule in table["rule"])


def rule_source(rule: str) -> str:
    """Where the rule of that id comes from, in words; empty for an unknown id."""
    if rule == _ACCEPTED.rule:
        return "RFC 5321 section 4.2.1: 2yz is a positive completion reply"
    if rule.startswith(_PHASE_RULE):
        return "RFC 5321 section 3.3: the recipient is named in RCPT, not before"
    return next((known.source for known in rules() if known.id == rule), "")


def _compile(rule: dict[str, Any], words: dict[str, str]) -> _Rule:
    def pattern(key: str) -> re.Pattern[str] | None:
        source: str | None = rule.get(key)
        if source is None:
            return None
        for name, family in words.items():
            source = source.replace("{" + name + "}", family)
        return re.compile(fold(source))

    return _Rule(
        rule["id"],
        ReplyClass(rule["class"]),
        pattern("codes"),
        pattern("enhanced"),
        pattern("enhanced_not"),
        pattern("text"),
        pattern("url"),
        rule["source"],
    )
