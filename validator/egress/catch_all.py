"""What random addresses were told, by domain: one catch-all probe per domain and day in the whole fleet.

An answer is remembered in this process and, for a day, in Redis. Before it probes, a validator claims the domain; the
claim is short, so that a crashed prober holds nothing up, and whoever did not get it waits for the answer or goes
without. Without Redis each process remembers for itself. An inconclusive answer is not remembered: the claim is given
up.

A batch may bring hundreds of domains: whatever is asked or told while a call is under way goes out together in the
next one, so a domain costs a share of a call and never waits for a connection.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Any, NamedTuple

from redis.asyncio import Redis
from redis.exceptions import RedisError

from shared import redis_keys
from validator.evidence import CatchAll

DAY = 86_400
CLAIM = 15  # seconds; after them somebody else may ask as well, the same random address
SIZE = 50_000  # domains remembered in this process
LOOK = 0.25  # seconds between two looks for an answer that another validator is getting

MOST = 500  # domains in one call

_CLAIMED = "claimed"
_GRANTED = b"granted"
_CONCLUSIVE = (CatchAll.YES, CatchAll.NO)
_SCRIPT = """
-- KEYS: domains; ARGV: mark of a claim, its seconds, seconds an answer is kept, then for each key what is to be done:
-- ask, claim, release, or the answer to keep. Returns the value of each key, `granted` for a claim that succeeded.
local told = {}
for index, key in ipairs(KEYS) do
  local what = ARGV[index + 3]
  if what == 'claim' and redis.call('SET', key, ARGV[1], 'NX', 'EX', ARGV[2]) then
    told[index] = 'granted'
  elseif what == 'ask' or what == 'claim' then
    told[index] = redis.call('GET', key)
  elseif what == 'release' then
    told[index] = redis.call('GET', key) == ARGV[1] and redis.call('DEL', key) and false
  else
    redis.call('SET', key, what, 'EX', ARGV[3])
    told[index] = false
  end
end
return told
"""


async def forget_claims(redis: Redis) -> None:
    """The claims of validators that are all dead; answers stay. Raises RedisError."""
    script = redis.register_script(_SCRIPT)
    cursor = 0
    while True:
        cursor, keys = await redis.scan(cursor, redis_keys.catch_all("*"), count=MOST)
        if keys:
            await script(keys=keys, args=[_CLAIMED, CLAIM, DAY, *["release"] * len(keys)])
        if cursor == 0:
            return


class _Errand(NamedTuple):
    domain: str
    what: str  # as the script knows it
    answer: asyncio.Future[bytes | None]


class CatchAllMemory:
    """`redis` comes from `connect_politeness`; None: this process is alone. `clock`: seconds."""

    def __init__(self, redis: Redis | None, clock: Callable[[], float] = time.monotonic) -> None:
        self._script = redis.register_script(_SCRIPT) if redis is not None else None
        self._clock = clock
        self._known: OrderedDict[str, tuple[CatchAll, float]] = OrderedDict()
        self._claimed: dict[str, float] = {}  # domains this process is probing, until when
        self._errands: list[_Errand] = []
        self._runner: asyncio.Task[None] | None = None

    async def recall(self, domain: str) -> CatchAll | None:
        """YES or NO where that is known of `domain`, here or in the fleet."""
        known = self._known.get(domain)
        if known is not None and known[1] > self._clock():
            return known[0]
        try:
            return self._learn(domain, await self._run("ask", domain))
        except (RedisError, OSError):
            return None  # nothing is known; a probe too many is the worst that follows

    async def claim(self, domain: str) -> bool:
        """True: this caller shall probe, and then `remember` or `release`. False: somebody else is at it or was."""
        now = self._clock()
        known = self._known.get(domain)
        if self._claimed.get(domain, 0.0) > now or (known is not None and known[1] > now):
            return False
        self._claimed[domain] = now + CLAIM
        if self._script is None:
            return True
        try:
            told = await self._run("claim", domain)
        except (RedisError, OSError):
            return True
        except asyncio.CancelledError:
            self._claimed.pop(domain, None)
            raise
        if told != _GRANTED:
            self._claimed.pop(domain, None)
            self._learn(domain, told)
        return told == _GRANTED

    async def remember(self, domain: str, found: CatchAll) -> None:
        """The answer of a probe: kept for a day when it is YES or NO, else the domain is free to be probed again."""
        if found not in _CONCLUSIVE:
            await self.release(domain)
            return
        self._claimed.pop(domain, None)
        self._learn(domain, found.encode())
        await self._tell(found, domain)

    async def release(self, domain: str) -> None:
        """The probe said nothing; another may try."""
        if self._claimed.pop(domain, None) is not None:
            await self._tell("release", domain)

    async def wait(self, domain: str, seconds: float) -> CatchAll | None:
        """The answer that somebody else is getting; None where it is late, or nobody is at it any more."""
        end = self._clock() + seconds
        known = await self.recall(domain)
        while known is None and self._clock() < end and await self._is_claimed(domain):
            await asyncio.sleep(LOOK)
            known = await self.recall(domain)
        return known

    async def _is_claimed(self, domain: str) -> bool:
        """Not so after an answer without a verdict, the death of whoever was at it, or a wipe."""
        if self._script is None:
            return self._claimed.get(domain, 0.0) > self._clock()
        try:
            return await self._run("ask", domain) is not None
        except (RedisError, OSError):
            return True  # perhaps

    def _learn(self, domain: str, value: bytes | None) -> CatchAll | None:
        word = value.decode() if value is not None else None
        if word not in _CONCLUSIVE:
            return None
        known = CatchAll(word)
        self._known[domain] = (known, self._clock() + DAY)
        self._known.move_to_end(domain)
        if len(self._known) > SIZE:
            self._known.popitem(last=False)
        return known

    async def _tell(self, what: str, domain: str) -> None:
        """Best effort: the key is a memory, and this process has its own."""
        with contextlib.suppress(RedisError, OSError):
            await self._run(what, domain)

    async def _run(self, what: str, domain: str) -> bytes | None:
        """Raises RedisError or OSError. None without Redis."""
        if self._script is None:
            return None
        loop = asyncio.get_running_loop()
        errand = _Errand(domain, what, loop.create_future())
        self._errands.append(errand)
        if self._runner is None or self._runner.done():
            self._runner = loop.create_task(self._run_errands(self._script), name="catch-all-errands")
        return await errand.answer

    async def _run_errands(self, script: Any) -> None:
        while self._errands:
            batch, self._errands = self._errands[:MOST], self._errands[MOST:]
            keys = [redis_keys.catch_all(errand.domain) for errand in batch]
            args = [_CLAIMED, CLAIM, DAY, *(errand.what for errand in batch)]
            try:
                told: list[bytes | None] = await script(keys=keys, args=args)
            except (RedisError, OSError) as error:
                for errand in batch:
                    if not errand.answer.done():
                        errand.answer.set_exception(error)
                continue
            except BaseException:
                for errand in batch:
                    errand.answer.cancel()  # a fault of ours, or the end: nobody waits for ever
                raise
            for errand, value in zip(batch, told, strict=True):
                if not errand.answer.done():
                    errand.answer.set_result(value)
