"""The Redis client of what makes many validators one polite sender: breakers, limits, catch-all memory.

None of it may wait for Redis: a call fails after a quarter of a second without repeats, and whoever made it goes on
with what this process knows, stricter than before. The default client would stall a probe for 4 to 20 seconds.
"""

from __future__ import annotations

from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

PATIENCE = 0.25  # seconds
CONNECTIONS = 16


def fleet_redis(url: str) -> Redis:
    """Replies are text. Close it with `aclose()`."""
    pool = BlockingConnectionPool.from_url(
        url,
        max_connections=CONNECTIONS,
        timeout=PATIENCE,
        socket_timeout=PATIENCE,
        socket_connect_timeout=PATIENCE,
        retry=Retry(NoBackoff(), 0),
        decode_responses=True,
    )
    return Redis.from_pool(pool)
