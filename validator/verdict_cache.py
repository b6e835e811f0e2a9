"""Definite verdicts, reused for RESULT_CACHE_TTL seconds so that nobody's mail server is asked the same thing twice.

Kept per organisation (a shared cache would tell one customer what another one asks about), in Redis under a keyed hash.
No address is stored: the key is a hash, and the address is cut out of the value and put back from the question, also
where the server's reply repeats it. Redis away: nothing is recalled or remembered, and the address is simply probed.

This runs for every address, so a batch is two script calls, each with one packed argument (a thousand arguments would
cost more than finding the verdicts), and a value is one packed array.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

import msgspec
from redis.asyncio import Redis
from redis.exceptions import RedisError

from shared import redis_keys
from shared.address import Address, parse_address
from shared.logs import get_log
from shared.verdict import VERIFY_STATUS, Details, DnsDetails, Flags, Reason, Result, RiskLevel, SmtpDetails, Status

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
_PLACEHOLDER = "<address>"
# ARGV[1]: the keys, packed. Returns place from 1 and value of each one that is there.
_FIND = """
local found = {}
for place, key in ipairs(cmsgpack.unpack(ARGV[1])) do
  local value = redis.call('GET', key)
  if value then
    found[#found + 1] = place
    found[#found + 1] = value
  end
end
return found
"""
# ARGV: seconds; keys and values in turn, each after its length (the server's msgpack reads no binary strings).
_KEEP = """
local at = 1
while at <= #ARGV[2] do
  local key, value, after = struct.unpack('>I4c0I4c0', ARGV[2], at)
  redis.call('SET', key, value, 'EX', ARGV[1])
  at = after
end
"""


class _Kept(msgspec.Struct, array_like=True):
    """A verdict without its address. A change of fields is a change of `version`, which makes older values unknown."""

    version: int
    status: Status
    risk_level: RiskLevel
    reason: Reason
    score: int
    dns: DnsDetails
    smtp: SmtpDetails
    flags: Flags
    provider: str | None
    checked_at: str
    score_parts: dict[str, int]


_VERSION = 1
_ENCODER = msgspec.msgpack.Encoder()
_DECODER = msgspec.msgpack.Decoder(_Kept)


class VerdictCache:
    """`secret` keys the hashes; all validators of one installation share it (the internal token)."""

    def __init__(self, redis: Redis, *, ttl: float, secret: str) -> None:
        self._redis = redis
        self._ttl = int(ttl)
        self._secret = hashlib.sha256(secret.encode()).digest()
        self._find = redis.register_script(_FIND)
        self._keep = redis.register_script(_KEEP)

    def key(self, org_id: str, normalized: str) -> str:
        """The Redis key of a verdict, for whoever must erase it."""
        return redis_keys.verdict_cache(self._secret, org_id, normalized.casefold())

    async def recall(self, org_id: str, emails: Sequence[str]) -> dict[int, Result]:
        """Verdicts still fresh, by position in `emails`, about the spelling that was asked."""
        if not self._ttl:
            return {}
        keys = [self.key(org_id, _casefolded(email)) for email in emails]
        try:
            found: list[Any] = await self._find(args=[_ENCODER.encode(keys)])
        except RedisError as error:
            log.info("cache_unavailable", error=type(error).__name__)
            return {}
        recalled: dict[int, Result] = {}
        for place, value in zip(found[::2], found[1::2], strict=True):
            address = parse_address(emails[place - 1])
            result = _restored(value, address) if isinstance(address, Address) else None
            if result is not None:
                recalled[place - 1] = result
        return recalled

    async def remember(self, org_id: str, results: Sequence[Result | None]) -> None:
        """Keep the definite ones among `results`."""
        if not self._ttl:
            return
        kept: list[bytes] = []
        for result in results:
            if result is not None and result.reason in DEFINITE and result.normalized is not None:
                key, value = self.key(org_id, result.normalized).encode(), _blanked(result)
                kept += (len(key).to_bytes(4), key, len(value).to_bytes(4), value)
        if not kept:
            return
        try:
            await self._keep(args=[self._ttl, b"".join(kept)])
        except RedisError as error:
            log.info("cache_unavailable", error=type(error).__name__)


def _casefolded(email: str) -> str:
    """What `normalized.casefold()` is for an address. For anything else a word under which nothing is kept.

    An ASCII address without quotes differs from its normal form only in the case of its domain.
    """
    if email.isascii() and '"' not in email:
        return email.lower()
    address = parse_address(email)
    return address.key if isinstance(address, Address) else ""


def _blanked(result: Result) -> bytes:
    smtp = result.details.smtp
    if smtp.text:
        smtp = msgspec.structs.replace(smtp, text=_without_address(smtp.text, result))
    details = result.details
    return _ENCODER.encode(
        _Kept(
            _VERSION,
            result.status,
            result.risk_level,
            result.reason,
            result.score,
            details.dns,
            smtp,
            details.flags,
            details.provider,
            details.checked_at,
            details.score_parts,
        )
    )


def _without_address(text: str, result: Result) -> str:
    normalized = result.normalized or ""
    local = normalized.rpartition("@")[0]
    if "@" not in text and text.isascii() and local.lower() not in text.lower():
        return text
    for spelling in (result.email, normalized, local):
        text = _cut_word(text, spelling)
    return text


def _cut_word(text: str, word: str) -> str:
    """`text` with every `word` that stands by itself replaced, whatever its case."""
    lower, sought = text.lower(), word.lower()
    if not sought or len(lower) != len(text):  # a few letters change their length; such a text is not kept
        return text if not sought else _PLACEHOLDER
    at = lower.find(sought)
    if at < 0:
        return text
    parts: list[str] = []
    start = 0
    while at >= 0:
        end = at + len(sought)
        alone = not (at and lower[at - 1].isalnum()) and not (end < len(lower) and lower[end].isalnum())
        if alone:
            parts += (text[start:at], _PLACEHOLDER)
            start = end
        at = lower.find(sought, end)
    return "".join((*parts, text[start:]))


def _restored(value: bytes, address: Address) -> Result | None:
    try:
        kept = _DECODER.decode(value)
    except msgspec.DecodeError:
        return None
    if kept.version != _VERSION:
        return None
    if kept.smtp.text:
        kept.smtp.text = kept.smtp.text.replace(_PLACEHOLDER, address.normalized)
    return Result(
        email=address.given,
        normalized=address.normalized,
        status=kept.status,
        is_valid=kept.status is Status.VALID,
        risk_level=kept.risk_level,
        reason=kept.reason,
        verify_status=VERIFY_STATUS[kept.status],
        score=kept.score,
        details=Details(
            syntax={
                "valid": True,
                "local": address.local,
                "domain": address.domain,
                "smtputf8": address.smtputf8,
            },
            dns=kept.dns,
            smtp=kept.smtp,
            flags=kept.flags,
            provider=kept.provider,
            checked_at=kept.checked_at,
            score_parts=kept.score_parts,
        ),
    )
