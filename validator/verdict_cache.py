"""Definite verdicts, reused for RESULT_CACHE_TTL seconds so that nobody's mail server is asked the same thing twice.

Kept per organisation (a shared cache would tell one customer what another one asks about), in Redis under keyed hashes.
No address is stored: the key is a hash, and where the server's reply repeats the address, in whatever spelling, the
finding has ADDRESS instead, which stands for the address in the question. Redis away: nothing is recalled or
remembered, and the address is simply probed.

One Redis hash holds the verdicts about a domain from one period, as long as the time to live; so what is still fresh
lies in this period's hash or the last one's, and both end by themselves. An address is a field of ten bytes whose value
is when, and which finding; a finding is a field of its own, once for all addresses it is about. That, and one packed
argument a domain, keeps the cost for each address at a few microseconds and a hundred bytes.
"""

from __future__ import annotations

import hashlib
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import lru_cache
from importlib.resources import files

import msgspec
from redis.asyncio import Redis
from redis.exceptions import RedisError

from shared import redis_keys
from shared.address import Address, parse_address
from shared.logs import get_log
from shared.verdict import ADDRESS, Finding, Reason, Verdict
from shared.verdicts import Verdicts

log = get_log("validator.verdict_cache")

DEFINITE: frozenset[Reason] = frozenset(
    {
        Reason.ACCEPTED,
        Reason.ROLE_ACCOUNT,
        Reason.CATCH_ALL,
        Reason.MAILBOX_MISSING,
        Reason.MAILBOX_DISABLED,
        Reason.MAILBOX_FULL,
        Reason.RELAY_DENIED,
    }
)  # what only a conversation can tell; the rest is cheap to find again or may change at any moment
_NAME_BYTES = 8  # of a finding: the hash of what it says


class _Kept(msgspec.Struct, array_like=True):
    """A change of a finding's fields is a change of `version`, which makes older values unknown."""

    version: int
    finding: Finding


_VERSION = 3
_ENCODER = msgspec.msgpack.Encoder()
_DECODER = msgspec.msgpack.Decoder(_Kept)


@dataclass(slots=True)
class _Blank:
    """A finding on its way to Redis. `text`: its reply, folded, in which an address may stand."""

    text: str
    name: bytes
    value: bytes


@dataclass(slots=True)
class _Domain:
    """What is kept about the addresses of one."""

    addresses: list[bytes] = field(default_factory=list)
    findings: dict[bytes, bytes] = field(default_factory=dict)  # by name


class VerdictCache:
    """`secret` keys the hashes; all validators of one installation share it (the internal token)."""

    def __init__(self, redis: Redis, *, ttl: float, secret: str, clock: Callable[[], float] = time.time) -> None:
        self._redis = redis
        self._ttl = int(ttl)
        self._secret = hashlib.sha256(secret.encode()).digest()
        self._clock = clock
        self._find, self._keep = (
            redis.register_script((files("validator") / f"verdict_cache_{verb}.lua").read_text("utf-8"))
            for verb in ("find", "keep")
        )

    async def recall(self, org_id: str, emails: Sequence[str]) -> dict[int, Verdict]:
        """Verdicts still fresh, by position in `emails`, about the spelling that was asked."""
        if not self._ttl:
            return {}
        now = self._clock()
        question, places = self._question(org_id, emails, int(now) // self._ttl)
        try:
            blobs, known = await self._find(args=question)
        except RedisError as error:
            log.info("cache_unavailable", error=type(error).__name__)
            return {}
        findings = [_read(blob) for blob in blobs]
        recalled: dict[int, Verdict] = {}
        for place, number, at in zip(known[::3], known[1::3], known[2::3], strict=True):
            index = places[place - 1]
            address = parse_address(emails[index])
            finding = findings[number - 1]
            if finding is not None and isinstance(address, Address) and now < at + self._ttl:
                recalled[index] = Verdict(
                    email=address.given,
                    normalized=address.normalized,
                    finding=finding,
                    checked_at=_rfc3339(at),
                )
        return recalled

    def _question(self, org_id: str, emails: Sequence[str], period: int) -> tuple[list[str | bytes | int], list[int]]:
        """The script's arguments, and the positions in `emails` in the order in which it takes them."""
        domains: dict[str, list[int]] = defaultdict(list)
        fields: list[bytes] = []
        for index, email in enumerate(emails):
            address_key = _casefolded(email)
            fields.append(redis_keys.verdict_field(self._secret, org_id, address_key))
            domains[address_key.rpartition("@")[2]].append(index)
        question: list[str | bytes | int] = [redis_keys.VERDICT_FIELD_BYTES]
        for domain, members in domains.items():
            question += [redis_keys.verdicts(self._secret, org_id, domain, one) for one in (period, period - 1)]
            question.append(b"".join([fields[index] for index in members]))
        return question, [index for members in domains.values() for index in members]

    async def remember(self, org_id: str, verdicts: Verdicts) -> None:
        """Keep the definite ones among `verdicts`."""
        if not self._ttl:
            return
        domains: dict[str, _Domain] = defaultdict(_Domain)
        blanks: dict[int, _Blank] = {}  # by identity of the finding
        for index, finding in enumerate(verdicts.findings):
            if finding is None or finding.reason not in DEFINITE:
                continue
            email = verdicts.emails[index]
            normalized = verdicts.normalized.get(index, email) or email
            address_key = normalized.casefold()
            local, _, domain = address_key.rpartition("@")
            blank = blanks.get(id(finding))
            if blank is None:
                blank = blanks[id(finding)] = _blank(finding, finding.smtp.text)
            if local in blank.text or "@" in blank.text:
                blank = _blank(finding, _without_address(finding.smtp.text or "", email, normalized))
            kept = domains[domain]
            kept.findings[blank.name] = blank.value
            kept.addresses += (
                redis_keys.verdict_field(self._secret, org_id, address_key),
                _seconds(verdicts.checked_at[index]),
                blank.name,
            )
        if domains:
            await self._store(org_id, domains)

    async def _store(self, org_id: str, domains: dict[str, _Domain]) -> None:
        period = int(self._clock()) // self._ttl
        told: list[bytes | str | int] = [2 * self._ttl, redis_keys.VERDICT_FIELD_BYTES, 4 + _NAME_BYTES, _NAME_BYTES]
        for domain, kept in domains.items():
            findings = [
                part
                for name, value in kept.findings.items()
                for part in ((len(name) + len(value)).to_bytes(4), name, value)
            ]
            key = redis_keys.verdicts(self._secret, org_id, domain, period)
            told += (key, b"".join(kept.addresses), b"".join(findings))
        try:
            await self._keep(args=told)
        except RedisError as error:
            log.info("cache_unavailable", error=type(error).__name__)


def _casefolded(email: str) -> str:
    """What `normalized.casefold()` is for an address; empty for anything else.

    An ASCII address without quotes differs from its normal form only in the case of its domain.
    """
    if email.isascii() and '"' not in email:
        return email.lower()
    address = parse_address(email)
    return address.key if isinstance(address, Address) else ""


@lru_cache(maxsize=1_024)
def _seconds(rfc3339: str) -> bytes:
    """Four bytes, since the epoch; to the second."""
    return int(datetime.fromisoformat(rfc3339).timestamp()).to_bytes(4)


@lru_cache(maxsize=1_024)
def _rfc3339(at: int) -> str:
    return datetime.fromtimestamp(at, UTC).isoformat().replace("+00:00", "Z")


def _blank(finding: Finding, text: str | None) -> _Blank:
    if text != finding.smtp.text:
        finding = msgspec.structs.replace(finding, smtp=msgspec.structs.replace(finding.smtp, text=text))
    value = _ENCODER.encode(_Kept(_VERSION, finding))
    return _Blank((text or "").casefold(), hashlib.blake2b(value, digest_size=_NAME_BYTES).digest(), value)


def _without_address(text: str, email: str, normalized: str) -> str:
    for spelling in (email, normalized, normalized.rpartition("@")[0]):
        text = _cut_word(text, spelling)
    return text


def _cut_word(text: str, word: str) -> str:
    """`text` with every `word` that stands by itself replaced, whatever its case."""
    lower, sought = text.lower(), word.lower()
    if not sought or len(lower) != len(text):  # a few letters change their length; such a text is not kept
        return text if not sought else ADDRESS
    at = lower.find(sought)
    if at < 0:
        return text
    parts: list[str] = []
    start = 0
    while at >= 0:
        end = at + len(sought)
        alone = not (at and lower[at - 1].isalnum()) and not (end < len(lower) and lower[end].isalnum())
        if alone:
            parts += (text[start:at], ADDRESS)
            start = end
        at = lower.find(sought, end)
    return "".join((*parts, text[start:]))


def _read(value: bytes) -> Finding | None:
    try:
        kept = _DECODER.decode(value)
    except msgspec.DecodeError:
        return None
    return kept.finding if kept.version == _VERSION else None
