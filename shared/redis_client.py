"""Connections to Redis, one kind per use; the right patience differs.

- `connect`: keys, streams, publishing. Waits for a free connection instead of failing, gives up after two seconds.
- `connect_politeness`: limits and breakers on the path of every probe. A quarter of a second, no second try: a limiter
  that waits is worse than one that says it does not know. The quarter is counted in short steps, so that a moment in
  which this process itself was busy and looked at no socket is one step, not an absence of Redis.
- `Listener`: pub/sub. No read timeout; reconnects for ever and says when it may have missed something.

Nothing is decoded: values come back as bytes.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.client import PubSub
from redis.asyncio.retry import Retry
from redis.backoff import ExponentialWithJitterBackoff, NoBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError
from redis.exceptions import TimeoutError as RedisTimeoutError

from shared.errors import RedisUnavailable
from shared.logs import get_log

_GENERAL_SECONDS = 2.0
_POLITENESS_STEPS, _STEP_SECONDS = 10, 0.025
_CONNECTIONS = 50
_PAUSE_SECONDS = 0.5  # between two tries to reconnect
_PING_SECONDS = 15  # a listener's connection that is silent this long is asked whether it lives

_log = get_log(__name__)


def connect(url: str, *, connections: int = _CONNECTIONS) -> Redis:
    """For everything but the two below. Idempotent commands only: a command may run twice after a timeout."""
    retry = Retry(ExponentialWithJitterBackoff(base=0.02, cap=0.3), 2)
    return _client(url, _GENERAL_SECONDS, connections, retry)


def connect_politeness(url: str, *, connections: int = _CONNECTIONS) -> Redis:
    """Fails fast and never repeats a command."""
    return _client(url, _GENERAL_SECONDS, connections, Retry(NoBackoff(), 0), _Impatient)


class _Impatient(Redis):
    """Gives up a command when there was no answer in so many steps; the connection it used is closed then."""

    async def execute_command(self, *args: Any, **options: Any) -> Any:
        call = asyncio.ensure_future(super().execute_command(*args, **options))  # type: ignore[no-untyped-call]
        try:
            for _ in range(_POLITENESS_STEPS):
                await asyncio.wait([call], timeout=_STEP_SECONDS)
                if call.done():
                    return call.result()
            raise RedisTimeoutError("no answer in time")
        finally:
            call.cancel()


def _client(url: str, seconds: float, connections: int, retry: Retry, kind: type[Redis] = Redis) -> Redis:
    pool = BlockingConnectionPool.from_url(
        url,
        max_connections=connections,
        timeout=seconds,
        socket_timeout=seconds,
        socket_connect_timeout=seconds,
        retry=retry,
    )
    return kind.from_pool(pool)


async def check(redis: Redis) -> None:
    """Raises RedisUnavailable unless a round trip works now."""
    with unavailable():
        await redis.ping()


@contextmanager
def unavailable() -> Iterator[None]:
    """Redis' own errors of connection, time and state become RedisUnavailable."""
    try:
        yield
    except (RedisError, OSError) as error:
        raise RedisUnavailable(f"Redis does not answer: {type(error).__name__}") from error


@dataclass(frozen=True, slots=True)
class Heard:
    """A message. `channel` is text, `data` the bytes that were published."""

    channel: str
    data: bytes


@dataclass(frozen=True, slots=True)
class Gap:
    """The connection was lost and is back: messages in between are gone. Look at the state again."""


class Listener:
    """One subscription connection: `async with Listener(url) as listener`, then iterate in one task.

    `subscribe` and `unsubscribe` may be called from other tasks at any time, also while Redis is away: what is
    subscribed to is kept here and asked for again after each reconnection. Opening never fails; a server that is not
    there yet is waited for, and the iteration then begins with a Gap.
    """

    def __init__(self, url: str, *channels: str) -> None:
        self._redis = Redis.from_url(
            url, socket_timeout=None, socket_connect_timeout=_GENERAL_SECONDS, retry=Retry(NoBackoff(), 0)
        )
        self._channels: dict[str, asyncio.Event] = {channel: asyncio.Event() for channel in channels}  # set: confirmed
        self._wanted = asyncio.Event()
        self._pubsub: PubSub | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._drop()
        await self._redis.aclose()

    async def subscribe(self, *channels: str) -> None:
        """What is published after this returned is heard, or a Gap comes. Needs a task that iterates meanwhile.

        Returns at once while there is no connection, and after two seconds on one that does not confirm.
        """
        confirmed = [self._channels.setdefault(channel, asyncio.Event()) for channel in channels]
        self._wanted.set()
        if self._pubsub is None:
            return
        with _left_to_the_reader():
            await self._pubsub.subscribe(*channels)
            async with asyncio.timeout(_GENERAL_SECONDS):
                for one in confirmed:
                    await one.wait()

    async def unsubscribe(self, *channels: str) -> None:
        for channel in channels:
            self._channels.pop(channel, None)
        if self._pubsub is not None:
            with _left_to_the_reader():
                await self._pubsub.unsubscribe(*channels)

    async def __aiter__(self) -> AsyncIterator[Heard | Gap]:
        gap = False
        while True:
            try:
                pubsub = await self._connected()
                if gap:
                    yield Gap()
                    gap = False
                async for heard in self._messages(pubsub):
                    yield heard
            except (RedisError, OSError) as error:
                if not gap:
                    _log.warning("redis_listener_lost", error=type(error).__name__)
            gap = True
            await self._drop()
            await asyncio.sleep(_PAUSE_SECONDS)

    async def _connected(self) -> PubSub:
        """Waits until there is something to listen to, too: a connection without subscriptions cannot be read."""
        while not self._channels:
            self._wanted.clear()
            await self._wanted.wait()
        pubsub = self._redis.pubsub()
        asked: set[str] = set()
        try:
            while missing := self._channels.keys() - asked:  # more may be asked for while we ask
                await pubsub.subscribe(*missing)
                asked |= missing
        except BaseException:
            await pubsub.aclose()  # type: ignore[no-untyped-call]
            raise
        self._pubsub = pubsub
        return pubsub

    async def _messages(self, pubsub: PubSub) -> AsyncIterator[Heard]:
        """Raises RedisError or OSError when the connection is lost, or silent for two rounds though it was asked.

        Ends when nothing is subscribed to any more.
        """
        asked = False
        while pubsub.subscribed:
            message = await pubsub.get_message(timeout=_PING_SECONDS)
            if message is None:
                if asked:
                    raise RedisTimeoutError("no answer to a ping")
                await pubsub.ping()
                asked = True
                continue
            asked = False
            if message["type"] == "message":
                yield Heard(message["channel"].decode(), message["data"])
            elif message["type"] == "subscribe" and (confirmed := self._channels.get(message["channel"].decode())):
                confirmed.set()

    async def _drop(self) -> None:
        pubsub, self._pubsub = self._pubsub, None
        for confirmed in self._channels.values():
            confirmed.clear()
        if pubsub is not None:
            await pubsub.aclose()  # type: ignore[no-untyped-call]


@contextmanager
def _left_to_the_reader() -> Iterator[None]:
    """The task that iterates meets the same loss, reconnects and subscribes to everything again."""
    with suppress(RedisConnectionError, RedisTimeoutError, OSError):
        yield
