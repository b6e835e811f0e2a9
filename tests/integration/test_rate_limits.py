"""Limits over HTTP, counted by a real Redis for all gateways, and by each alone when it is gone."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from redis.asyncio import Redis

from gateway.rate_limits.limiter import ADDRESS_FACTOR, WINDOW, RateLimiter
from shared.redis_keys import request_rate
from tests.integration.account_gateway import KEY, AccountGateway
from tests.servers import ValkeyServer


@pytest.fixture
async def redis(valkey: ValkeyServer) -> AsyncIterator[Redis]:
    async with Redis.from_url(valkey.url) as client:
        yield client


@pytest.fixture
async def calm(redis: Redis) -> None:
    """Not within the last seconds of a minute of Redis's clock, so that a test sees one window only."""
    seconds, _ = await redis.time()
    if seconds % WINDOW > WINDOW - 5:
        await asyncio.sleep(WINDOW - seconds % WINDOW)


async def test_the_limit_is_told_with_every_answer_and_then_answered_429(
    own_valkey: ValkeyServer, tmp_path: Path, calm: None
) -> None:
    async with AccountGateway(tmp_path, own_valkey.url, requests_per_minute=5) as gateway:
        answers = [await gateway.get("/whoami") for _ in range(7)]
        assert [answer.status_code for answer in answers] == [200] * 5 + [429] * 2
        assert [answer.headers["RateLimit-Remaining"] for answer in answers] == ["4", "3", "2", "1", "0", "0", "0"]
        assert {answer.headers["RateLimit-Limit"] for answer in answers} == {"5"}
        assert all(1 <= int(answer.headers["RateLimit-Reset"]) <= 2 * WINDOW for answer in answers)
        assert 1 <= int(answers[-1].headers["Retry-After"]) <= 2 * WINDOW
        assert answers[-1].json()["code"] == "too_many_requests"


async def test_two_gateways_count_together(own_valkey: ValkeyServer, tmp_path: Path, calm: None) -> None:
    async with (
        AccountGateway(tmp_path, own_valkey.url, requests_per_minute=6) as one,
        AccountGateway(tmp_path, own_valkey.url, documents=one.documents, requests_per_minute=6) as other,
    ):
        codes = [(await gateway.get("/whoami")).status_code for gateway in (one, other) * 4]
        assert codes == [200] * 6 + [429] * 2


async def test_wrong_keys_count_against_the_client_address_whatever_it_says_of_itself(
    own_valkey: ValkeyServer, tmp_path: Path, calm: None
) -> None:
    async with AccountGateway(tmp_path, own_valkey.url, requests_per_minute=2) as gateway:
        codes = []
        for number in range(2 * ADDRESS_FACTOR + 1):
            forwarded = {"X-Forwarded-For": f"203.0.113.{number}"}
            codes.append((await gateway.get("/whoami", f"wrong {number}", headers=forwarded)).status_code)
        assert codes == [401] * 2 * ADDRESS_FACTOR + [429]
        assert (await gateway.get("/whoami")).status_code == 429


async def test_a_dead_redis_makes_the_limit_stricter_never_away(own_valkey: ValkeyServer, tmp_path: Path) -> None:
    async with AccountGateway(tmp_path, own_valkey.url, requests_per_minute=40) as gateway:
        assert (await gateway.get("/whoami")).headers["RateLimit-Limit"] == "40"
        await own_valkey.kill()
        codes = [(await gateway.get("/whoami")).status_code for _ in range(20)]
        assert codes.count(429) >= 9
        await own_valkey.start()
        async with asyncio.timeout(10):
            while (await gateway.get("/whoami")).headers["RateLimit-Limit"] != "40":
                await asyncio.sleep(0.05)


async def test_without_a_limit_nothing_is_counted_or_told(own_valkey: ValkeyServer, tmp_path: Path) -> None:
    async with AccountGateway(tmp_path, own_valkey.url, requests_per_minute=0) as gateway:
        answer = await gateway.get("/whoami", KEY)
        assert "RateLimit-Limit" not in answer.headers


async def test_the_window_slides_and_goes_away_by_itself(redis: Redis, calm: None) -> None:
    limiter = RateLimiter(redis, 10)
    actor = secrets.token_hex(8)
    number = (await redis.time())[0] // WINDOW
    await redis.hset(request_rate(actor), mapping={"n": number - 1, "c": 2_000, "p": 0})
    standing = await limiter.count(actor, None)
    passed = (await redis.time())[0] % WINDOW
    assert standing is not None
    assert not standing.allowed
    assert standing.reset == pytest.approx(WINDOW * (1 - 9 / 2_000) - passed, abs=2)
    await redis.hset(request_rate(actor), mapping={"n": number - 2})
    again = await limiter.count(actor, None)
    assert again is not None
    assert again.left == 9
    assert 0 < await redis.ttl(request_rate(actor)) <= 2 * WINDOW


async def test_a_full_window_tells_the_time_until_the_next_request_may_come(redis: Redis, calm: None) -> None:
    limiter = RateLimiter(redis, 10)
    actor = secrets.token_hex(8)
    for _ in range(10):
        await limiter.count(actor, None)
    standing = await limiter.count(actor, None)
    passed = (await redis.time())[0] % WINDOW
    assert standing is not None
    assert not standing.allowed
    assert standing.reset == pytest.approx(WINDOW - passed + WINDOW * (1 - 9 / 10), abs=2)
