"""What a dead validator of a standalone system held: forgotten before the next one starts, where Redis is ours alone."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from redis.asyncio import Redis

from services.standalone.forget import forget_holdings
from services.standalone.system import standalone
from shared import redis_keys
from shared.redis_server import BundledValkey
from shared.settings import Settings
from tests.integration.batch_gateway import eventually
from tests.journey.system import children_of
from tests.servers import ValkeyServer
from validator.egress.breaker import Breakers, Trouble
from validator.egress.catch_all import CatchAllMemory
from validator.egress.circuit import FAIL_MAX
from validator.egress.limits import Limits
from validator.evidence import CatchAll

HOST = "mx.example.com"
CLAIMED, KNOWN = redis_keys.catch_all("claimed.example"), redis_keys.catch_all("known.example")


@asynccontextmanager
async def talking_to(url: str) -> AsyncIterator[Redis]:
    async with Redis.from_url(url) as redis:
        yield redis


async def leave(redis: Redis) -> None:
    """A claim of a validator that dies now, which would not run out by itself; and an answer."""
    memory = CatchAllMemory(redis)
    assert await memory.claim("claimed.example")
    await redis.persist(CLAIMED)
    await memory.remember("known.example", CatchAll.NO)


def settings(folder: Path, **more: object) -> Settings:
    return Settings.load(
        _env_file=None,
        data_dir=folder,
        port=0,
        smtp_port=2525,  # not 25: the check of the way out is not for tests
        dns_nameservers="127.0.0.1:1",
        dns_timeout=0.2,
        **more,
    )


async def test_the_next_validator_of_an_own_redis_finds_nothing_held_and_everything_known(tmp_path: Path) -> None:
    valkey = BundledValkey(tmp_path / "redis")
    async with valkey, talking_to(valkey.url) as redis:
        await leave(redis)
    async with standalone(settings(tmp_path)), talking_to(valkey.url) as redis:
        assert await redis.exists(CLAIMED, KNOWN) == 1
        await leave(redis)
        (first,) = [pid for pid, command in children_of(os.getpid()).items() if "standalone.validator" in command]
        os.kill(first, signal.SIGKILL)

        async def forgotten() -> bool:
            return await redis.exists(CLAIMED) == 0

        await eventually(forgotten, within=20)
        assert await redis.exists(KNOWN) == 1


async def test_in_a_redis_of_others_their_claims_stay(valkey: ValkeyServer, tmp_path: Path) -> None:
    url = valkey.url.replace("/0", "/8")
    async with talking_to(url) as redis:
        await redis.flushdb()
        await leave(redis)
        async with standalone(settings(tmp_path, redis_url=url)):
            assert await redis.exists(CLAIMED, KNOWN) == 2


async def test_a_slot_and_the_try_at_an_open_breaker_are_free_again_and_the_breaker_is_still_open(
    valkey: ValkeyServer,
) -> None:
    url = valkey.url.replace("/0", "/8")
    async with talking_to(url) as redis:
        await redis.flushdb()
        one = Settings(_env_file=None, per_mx_max_concurrency_default=1)
        async with (
            Limits(one, redis) as dead,
            Limits(one, redis) as following,
            Breakers(url) as dead_breakers,
            dead.session(HOST),
        ):
            for _ in range(FAIL_MAX):
                dead_breakers.report_failure(HOST, Trouble.CONNECT_TIMEOUT)

            async def told() -> bool:
                return await redis.hget(redis_keys.breaker(HOST), "state") == b"open"

            await eventually(told)
            await redis.hset(redis_keys.breaker(HOST), "until", "0")  # its pause is over
            await redis.set(redis_keys.breaker_probe(HOST), "of the dead one")
            async with Breakers(url) as held_up:
                assert await held_up.admit(HOST) is None
            await forget_holdings(url)
            async with asyncio.timeout(5), following.session(HOST):
                pass
            async with Breakers(url) as breakers:
                lease = await breakers.admit(HOST)
                assert lease is not None
                assert lease.token
