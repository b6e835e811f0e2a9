"""The cache of answers: time to live, size, one fetch for all who ask."""

import asyncio
from typing import NamedTuple

import pytest

from validator.dns.cache import Cache


class Kept(NamedTuple):
    value: str
    expires: float


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


@pytest.fixture
async def clock():
    return Clock()


async def test_an_answer_is_fetched_again_only_when_it_has_expired(clock):
    fetched = []

    async def fetch(key):
        fetched.append(key)
        return Kept(key, clock.now + 10)

    cache = Cache("test", 10, clock)
    for now, count in ((0, 1), (9.9, 1), (10, 2)):
        clock.now = now
        await cache.get_or_fetch("a", fetch)
        assert len(fetched) == count


async def test_the_least_recently_used_answer_goes_first(clock):
    async def fetch(key):
        return Kept(key, 100)

    cache = Cache("test", 2, clock)
    for key in "abac":
        await cache.get_or_fetch(key, fetch)
    assert cache.get("a") is not None
    assert cache.get("b") is None
    assert len(cache) == 2


async def test_many_askers_share_one_fetch_and_one_may_leave(clock):
    ready = asyncio.Event()
    fetched = []

    async def fetch(key):
        fetched.append(key)
        await ready.wait()
        return Kept(key, 100)

    cache = Cache("test", 2, clock)
    askers = [asyncio.create_task(cache.get_or_fetch("a", fetch)) for _ in range(5)]
    await asyncio.sleep(0)
    askers[0].cancel()
    await asyncio.sleep(0)
    ready.set()
    answers = await asyncio.gather(*askers, return_exceptions=True)
    assert isinstance(answers[0], asyncio.CancelledError)
    assert [answer.value for answer in answers[1:]] == ["a"] * 4
    assert fetched == ["a"]


async def test_a_failed_fetch_reaches_the_askers_and_is_not_kept(clock):
    async def fail(_):
        raise RuntimeError

    cache = Cache("test", 2, clock)
    for _ in range(2):
        with pytest.raises(RuntimeError):
            await cache.get_or_fetch("a", fail)
    assert len(cache) == 0
