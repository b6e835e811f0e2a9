"""What a dead validator held in our own Redis, and nobody will give back: forgotten before the next one starts.

Its sessions' slots (15 s), its claims to ask a domain's random address (15 s) and the one session it was trying an open
breaker with (120 s): without this the next validator waits for them to run out. What it found out stays. Only for a
Redis that belongs to this system alone, whose only validator is dead: in any other they may be somebody's.
"""

from __future__ import annotations

from shared import redis_keys
from shared.redis_client import connect
from validator.egress.catch_all import forget_claims

_LOOK = 1_000  # keys in one step of a scan


async def forget_holdings(redis_url: str) -> None:
    """Raises RedisError where Redis is away."""
    redis = connect(redis_url)
    try:
        for held in (redis_keys.limit_slots("*"), redis_keys.breaker_probe("*")):
            async for key in redis.scan_iter(held, count=_LOOK):
                await redis.delete(key)
        await forget_claims(redis)
    finally:
        await redis.aclose()
