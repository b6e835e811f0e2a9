"""How the three kinds of Redis connection behave when Redis is slow, full, away and back."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

from shared.errors import RedisUnavailable
from shared.redis_client import Gap, Heard, Listener, check, connect, connect_politeness, unavailable
from tests.servers import ValkeyServer

PROMPT = 5.0


async def heard_next(iteration: AsyncIterator[Heard | Gap]) -> Heard | Gap:
    return await asyncio.wait_for(anext(iteration), PROMPT)


async def test_more_tasks_than_connections_wait_for_their_turn(valkey: ValkeyServer) -> None:
    redis = connect(valkey.url, connections=3)
    await asyncio.gather(*(redis.incr("turns") for _ in range(100)))
    assert await redis.get("turns") == b"100"
    await redis.aclose()


async def test_a_server_that_is_away_is_unavailable_within_seconds(own_valkey: ValkeyServer) -> None:
    redis = connect(own_valkey.url)
    await check(redis)
    await own_valkey.kill()
    began = time.monotonic()
    with pytest.raises(RedisUnavailable, match="does not answer"):
        await check(redis)
    assert time.monotonic() - began < 4
    await own_valkey.start()
    await check(redis)
    await redis.aclose()


async def test_the_politeness_connection_gives_up_after_a_quarter_of_a_second(own_valkey: ValkeyServer) -> None:
    redis = connect_politeness(own_valkey.url)
    await redis.ping()
    blocker = connect(own_valkey.url)
    await blocker.execute_command("CLIENT", "PAUSE", "1000", "ALL")
    began = time.monotonic()
    with pytest.raises(RedisTimeoutError):
        await redis.incr("counted")
    assert time.monotonic() - began < 1
    await redis.aclose()
    await blocker.aclose()


async def test_a_moment_in_which_we_were_busy_ourselves_is_not_an_absence_of_redis(own_valkey: ValkeyServer) -> None:
    redis = connect_politeness(own_valkey.url)
    await redis.ping()
    asking = asyncio.create_task(redis.set("key", "value"))
    for _ in range(3):  # the command is on its way, and then nobody looks at the socket
        await asyncio.sleep(0)
    time.sleep(0.6)  # noqa: ASYNC251 - the stall is what is tested
    assert await asking
    await redis.aclose()


async def test_the_politeness_connection_fails_at_once_when_nobody_is_there(own_valkey: ValkeyServer) -> None:
    redis = connect_politeness(own_valkey.url)
    await own_valkey.kill()
    began = time.monotonic()
    with pytest.raises(RedisConnectionError):
        await redis.get("key")
    assert time.monotonic() - began < 0.5
    await redis.aclose()


async def test_errors_of_redis_become_ours() -> None:
    with pytest.raises(RedisUnavailable), unavailable():
        raise RedisConnectionError
    with pytest.raises(RedisUnavailable), unavailable():
        raise ConnectionResetError
    with pytest.raises(KeyError), unavailable():
        raise KeyError


async def until_heard(redis_url: str, channel: str, iteration: AsyncIterator[Heard | Gap]) -> Heard | Gap:
    """Publish until somebody hears: subscribing takes effect a moment after it was asked for."""
    redis = connect(redis_url)
    fetch = asyncio.ensure_future(heard_next(iteration))
    while not fetch.done():
        await redis.publish(channel, b"ready?")
        await asyncio.sleep(0.01)
    await redis.aclose()
    return fetch.result()


async def test_a_listener_hears_what_is_published_on_its_channels_only(valkey: ValkeyServer) -> None:
    redis = connect(valkey.url)
    async with Listener(valkey.url, "a") as listener:
        iteration = aiter(listener)
        assert await until_heard(valkey.url, "a", iteration) == Heard("a", b"ready?")
        await redis.publish("b", b"not for us")
        await redis.publish("a", b"\x00\xff")
        found = await heard_next(iteration)
        while found == Heard("a", b"ready?"):
            found = await heard_next(iteration)
        assert found == Heard("a", b"\x00\xff")
        await iteration.aclose()  # type: ignore[attr-defined]
    await redis.aclose()


async def test_what_is_published_after_subscribing_returned_is_heard(valkey: ValkeyServer) -> None:
    redis = connect(valkey.url)
    heard: asyncio.Queue[Heard | Gap] = asyncio.Queue()

    async def listen(listener: Listener) -> None:
        async for one in listener:
            await heard.put(one)

    async with Listener(valkey.url, "first") as listener:
        listening = asyncio.create_task(listen(listener))
        await listener.subscribe("first")
        while listener._pubsub is None:
            await asyncio.sleep(0)
        for number in range(50):
            await listener.subscribe(f"channel-{number}")
            assert await redis.publish(f"channel-{number}", b"x") == 1
            assert await asyncio.wait_for(heard.get(), PROMPT) == Heard(f"channel-{number}", b"x")
        listening.cancel()
        await asyncio.wait([listening])
    await redis.aclose()


async def test_channels_come_and_go_while_a_listener_listens(valkey: ValkeyServer) -> None:
    redis = connect(valkey.url)
    heard: list[Heard | Gap] = []

    async def listen(listener: Listener) -> None:
        async for one in listener:
            heard.append(one)  # noqa: PERF401 - the list is looked at meanwhile

    async with Listener(valkey.url) as listener:
        listening = asyncio.create_task(listen(listener))
        await listener.subscribe("one", "two")
        while await redis.publish("two", b"") == 0:
            await asyncio.sleep(0.01)
        await listener.unsubscribe("one")
        while await redis.publish("one", b"unheard") > 0:
            await asyncio.sleep(0.01)
        await listener.unsubscribe("two")
        while await redis.publish("two", b"") > 0:
            await asyncio.sleep(0.01)
        await listener.subscribe("three")  # from nothing to something again
        while await redis.publish("three", b"back") == 0:
            await asyncio.sleep(0.01)
        while heard[-1] != Heard("three", b"back"):
            await asyncio.sleep(0.01)
        listening.cancel()
        await asyncio.wait([listening])
    await redis.aclose()


async def test_a_listener_says_that_it_was_away_and_hears_again(own_valkey: ValkeyServer) -> None:
    async with Listener(own_valkey.url, "a") as listener:
        iteration = aiter(listener)
        await until_heard(own_valkey.url, "a", iteration)
        await own_valkey.kill()
        fetch = asyncio.ensure_future(heard_next(iteration))
        await asyncio.sleep(0)
        await listener.subscribe("meanwhile")
        await own_valkey.start()
        found = await fetch
        while isinstance(found, Heard):  # from before the kill
            found = await heard_next(iteration)
        assert found == Gap()
        assert await until_heard(own_valkey.url, "meanwhile", iteration) == Heard("meanwhile", b"ready?")
        assert await until_heard(own_valkey.url, "a", iteration) in {
            Heard("a", b"ready?"),
            Heard("meanwhile", b"ready?"),
        }
        await iteration.aclose()  # type: ignore[attr-defined]


async def test_a_listener_waits_for_a_server_that_is_not_there_yet(tmp_path: Path) -> None:
    server = ValkeyServer(tmp_path)
    async with Listener(server.url, "a") as listener:
        iteration = aiter(listener)
        fetch = asyncio.ensure_future(heard_next(iteration))
        await asyncio.sleep(0)
        await server.start()
        assert await fetch == Gap()
        await iteration.aclose()  # type: ignore[attr-defined]
    await server.stop()
