"""What random addresses were told, by domain: one catch-all probe per domain and day in the whole fleet.

An answer is remembered in this process and, for a day, in Redis. Before it probes, a validator claims the domain; the
claim is short, so that a crashed prober holds nothing up, and whoever did not get it waits for the answer or goes
without. Without Redis each process remembers for itself. An inconclusive answer is not remembered: the claim is given
up.
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable

from redis.asyncio import Redis
from redis.exceptions import RedisError

from shared import redis_keys
from validator.evidence import CatchAll

DAY = 86_400
CLAIM = 120  # seconds; longer than one session
SIZE = 50_000  # domains remembered in this process
LOOK = 0.25  # seconds between two looks for an answer that another validator is getting

_CLAIMED = "claimed"
_CONCLUSIVE = (CatchAll.YES, CatchAll.NO)


class CatchAllMemory:
    """`redis` comes from `connect_politeness`; None: this process is alone. `clock`: seconds."""

    def __init__(self, redis: Redis | None, clock: Callable[[], float] = time.monotonic) -> None:
        self._redis = redis
        self._clock = clock
        self._known: OrderedDict[str, tuple[CatchAll, float]] = OrderedDict()
        self._claimed: dict[str, float] = {}  # domains this process is probing, until when

    async def recall(self, domain: str) -> CatchAll | None:
        """YES or NO where that is known of `domain`, here or in the fleet."""
        known = self._known.get(domain)
        if known is not None and known[1] > self._clock():
            return known[0]
        return self._learn(domain, await self._ask(domain))

    async def claim(self, domain: str) -> bool:
        """True: this caller shall probe, and then `remember` or `release`. False: somebody else is at it or was."""
        now = self._clock()
        if self._claimed.get(domain, 0.0) > now or await self.recall(domain) is not None:
            return False
        if self._claimed.get(domain, 0.0) > now:
            return False  # claimed by another task of this process while Redis was asked
        self._claimed[domain] = now + CLAIM
        if self._redis is None:
            return True
        try:
            granted = await self._redis.set(redis_keys.catch_all(domain), _CLAIMED, nx=True, ex=CLAIM)
        except (RedisError, OSError):
            return True
        except asyncio.CancelledError:
            self._claimed.pop(domain, None)
            raise
        if not granted:
            self._claimed.pop(domain, None)
        return bool(granted)

    async def remember(self, domain: str, found: CatchAll) -> None:
        """The answer of a probe: kept for a day when it is YES or NO, else the domain is free to be probed again."""
        if found not in _CONCLUSIVE:
            await self.release(domain)
            return
        self._claimed.pop(domain, None)
        self._learn(domain, found)
        if self._redis is not None:
            await self._tell(self._redis, domain, found)

    async def release(self, domain: str) -> None:
        """The probe said nothing; another may try."""
        if self._claimed.pop(domain, None) is not None and self._redis is not None:
            await self._tell(self._redis, domain, None)

    async def wait(self, domain: str, seconds: float) -> CatchAll | None:
        """The answer that somebody else is getting; None where it does not come in time."""
        end = self._clock() + seconds
        known = await self.recall(domain)
        while known is None and self._clock() < end:
            await asyncio.sleep(LOOK)
            known = await self.recall(domain)
        return known

    def _learn(self, domain: str, value: str | None) -> CatchAll | None:
        if value not in _CONCLUSIVE:
            return None
        known = CatchAll(value)
        self._known[domain] = (known, self._clock() + DAY)
        self._known.move_to_end(domain)
        if len(self._known) > SIZE:
            self._known.popitem(last=False)
        return known

    async def _ask(self, domain: str) -> str | None:
        if self._redis is None:
            return None
        try:
            value = await self._redis.get(redis_keys.catch_all(domain))
        except (RedisError, OSError):
            return None  # nothing is known; a probe too many is the worst that follows
        return value.decode() if isinstance(value, bytes) else None

    @staticmethod
    async def _tell(redis: Redis, domain: str, value: str | None) -> None:
        """Best effort: the key is a memory, and this process has its own."""
        try:
            if value is None:
                await redis.delete(redis_keys.catch_all(domain))
            else:
                await redis.set(redis_keys.catch_all(domain), value, ex=DAY)
        except (RedisError, OSError):
            return
