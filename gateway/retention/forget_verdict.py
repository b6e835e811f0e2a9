"""Forget what the validators' cache holds about an address."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from shared.address import Address
from shared.redis_keys import verdict_field, verdicts
from shared.settings import Settings

if TYPE_CHECKING:
    from redis.asyncio import Redis


async def forget_verdict(redis: Redis, settings: Settings, org_id: str, address: Address) -> None:
    """Gateway and validators share the internal token that hides it. Raises RedisError."""
    secret = hashlib.sha256((settings.internal_token or "").encode()).digest()
    domain = address.key.rpartition("@")[2]
    async for key in redis.scan_iter(verdicts(secret, org_id, domain, "*"), count=1_000):
        await redis.hdel(key, verdict_field(secret, org_id, address.key))
