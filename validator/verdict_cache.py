"""Definite verdicts, reused for RESULT_CACHE_TTL seconds so that nobody's mail server is asked the same thing twice.

Kept per organisation (a shared cache would tell one customer what another one asks about), in Redis under a keyed hash.
No address is stored: the key is a hash, and the address is cut out of the value and put back from the question, also
where the server's reply repeats it. Redis away: nothing is recalled or remembered, and the address is simply probed.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence

import msgspec
from redis.asyncio import Redis
from redis.exceptions import RedisError

from shared import redis_keys
from shared.address import Address, parse_address
from shared.logs import get_log
from shared.verdict import Reason, Result, Status

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


class VerdictCache:
    """`secret` keys the hashes; all validators of one installation share it (the internal token)."""

    def __init__(self, redis: Redis, *, ttl: float, secret: str) -> None:
        self._redis = redis
        self._ttl = int(ttl)
        self._secret = hashlib.sha256(secret.encode()).digest()

    def _key(self, org_id: str, address: Address) -> str:
        question = f"{org_id}\0{address.key}".encode()
        return redis_keys.verdict_cache(hashlib.blake2b(question, key=self._secret, digest_size=20).hexdigest())

    async def recall(self, org_id: str, emails: Sequence[str]) -> dict[int, Result]:
        """Verdicts still fresh, by position in `emails`, about the spelling that was asked."""
        if not self._ttl:
            return {}
        parsed = {index: parse_address(email) for index, email in enumerate(emails)}
        addresses = {index: found for index, found in parsed.items() if isinstance(found, Address)}
        if not addresses:
            return {}
        try:
            values = await self._redis.mget([self._key(org_id, address) for address in addresses.values()])
        except RedisError as error:
            log.info("cache_unavailable", error=type(error).__name__)
            return {}
        return {
            index: _restored(value, emails[index], address)
            for (index, address), value in zip(addresses.items(), values, strict=True)
            if value is not None
        }

    async def remember(self, org_id: str, results: Sequence[Result | None]) -> None:
        """Keep the definite ones among `results`."""
        if not self._ttl:
            return
        try:
            async with self._redis.pipeline(transaction=False) as pipe:
                for result in results:
                    if result is None or result.status is Status.UNKNOWN or result.reason not in DEFINITE:
                        continue
                    address = parse_address(result.email)
                    if isinstance(address, Address):
                        pipe.set(self._key(org_id, address), _blanked(result, address), ex=self._ttl)
                await pipe.execute()
        except RedisError as error:
            log.info("cache_unavailable", error=type(error).__name__)


def _blanked(result: Result, address: Address) -> bytes:
    text = result.details.smtp.text
    if text:
        spellings = sorted({result.email, address.normalized, address.local}, key=len, reverse=True)
        text = re.sub("|".join(re.escape(spelling) for spelling in spellings), _PLACEHOLDER, text, flags=re.IGNORECASE)
    details = msgspec.structs.replace(
        result.details,
        syntax={},
        smtp=msgspec.structs.replace(result.details.smtp, text=text),
        trace=[],
    )
    return msgspec.json.encode(
        msgspec.structs.replace(result, email="", normalized=None, suggestion=None, details=details)
    )


def _restored(value: bytes | str, email: str, address: Address) -> Result:
    result = msgspec.json.decode(value, type=Result)
    result.email = email
    result.normalized = address.normalized
    text = result.details.smtp.text
    if text:
        result.details.smtp.text = text.replace(_PLACEHOLDER, address.normalized)
    result.details.syntax = {
        "valid": True,
        "local": address.local,
        "domain": address.domain,
        "smtputf8": address.smtputf8,
    }
    return result
