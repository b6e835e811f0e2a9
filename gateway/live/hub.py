"""One Redis subscription for the whole process, fanned out to the event streams that are open here.

A stream registers before it reads the present state, so nothing falls in between. Its queue is bounded: a reader that
is too slow for it is let go and resumes by `Last-Event-ID`. Redis is a hint only:

- whenever the subscription begins (again), every stream is told that news may be missing and reads the file's stream
- while Redis is away the documents are looked at every POLL seconds, else every IDLE_POLL seconds; so a stream ends
  even where the news of the end was lost, and one of an erased file is closed
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter, deque
from dataclasses import dataclass, field
from types import TracebackType
from typing import TYPE_CHECKING, Self

from redis.exceptions import RedisError
from redis.exceptions import TimeoutError as RedisTimeoutError

from gateway.collections import FILES
from gateway.health import metrics
from gateway.problem import Problem
from shared.documents import Document, Documents
from shared.errors import DocumentsUnavailable, MessageUndecodable
from shared.logs import get_log
from shared.messages import BatchProgress
from shared.redis_keys import BATCH_PROGRESS, file_emails, file_stats

if TYPE_CHECKING:
    from redis.asyncio import Redis

log = get_log("gateway.live.hub")

MAX_STREAMS = 20  # open at once, per organisation and process
QUEUED = 512  # items waiting for one reader
POLL, IDLE_POLL = 3.0, 15.0  # seconds
RECONNECT = 0.5  # seconds between tries to subscribe
HEARD = 10.0  # seconds of silence after which the connection is asked whether it lives

_STATS, _EMAILS = file_stats(""), file_emails("")


@dataclass(frozen=True, slots=True)
class Happened:
    """One event as it was announced; `data` is a JSON object."""

    id: int
    event: str
    data: bytes


@dataclass(frozen=True, slots=True)
class Looked:
    """The file's document as it is now; None when it is gone."""

    file: Document | None


@dataclass(frozen=True, slots=True)
class Hinted:
    """Addresses of the file's running batches that have an answer already."""

    answered: int


@dataclass(frozen=True, slots=True)
class MayHaveMissed:
    """The subscription was not there for a while."""


Item = Happened | Looked | Hinted | MayHaveMissed


@dataclass(eq=False, slots=True)
class Watch:
    """One open stream's place in the hub."""

    file_id: str
    org_id: str
    hub: LiveHub
    _items: deque[Item] = field(default_factory=deque)
    _woken: asyncio.Event = field(default_factory=asyncio.Event)
    _ended: bool = False

    def put(self, item: Item) -> None:
        if len(self._items) >= QUEUED:
            metrics.STREAMS_DROPPED.inc()
            self.end()
            return
        self._items.append(item)
        self._woken.set()

    def end(self) -> None:
        """No more items: what waits is forgotten, the stream closes."""
        self._ended = True
        self._items.clear()
        self._woken.set()

    async def next(self) -> Item | None:
        """The next item; None when the stream must close."""
        while not self._items:
            if self._ended:
                return None
            self._woken.clear()
            await self._woken.wait()
        return self._items.popleft()

    def close(self) -> None:
        """Leave the hub. Repeatable."""
        self.hub.forget(self)


class LiveHub:
    """`async with LiveHub(redis, documents) as hub:`; streams `watch`, `end_streams` before the server stops."""

    def __init__(self, redis: Redis, documents: Documents) -> None:
        self._redis = redis
        self._documents = documents
        self._watches: dict[str, set[Watch]] = {}
        self._by_org: Counter[str] = Counter()
        self._hints: dict[str, dict[str, int]] = {}
        self._tasks: list[asyncio.Task[None]] = []
        self._ending = False
        self.connected = asyncio.Event()

    async def __aenter__(self) -> Self:
        self._tasks = [
            asyncio.create_task(self._listen(), name="live-listen"),
            asyncio.create_task(self._poll(), name="live-poll"),
        ]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.end_streams()
        for task in self._tasks:
            task.cancel()
        await asyncio.wait(self._tasks)

    def watch(self, file_id: str, org_id: str) -> Watch:
        """A place in the hub; `close` it. Raises Problem 429 for one stream too many, 503 while stopping."""
        if self._ending:
            raise Problem(503, "stopping", "This gateway is about to stop; try again.", retry_after=1)
        if self._by_org[org_id] >= MAX_STREAMS:
            raise Problem(
                429, "too_many_streams", f"At most {MAX_STREAMS} event streams may be open at once.", retry_after=5
            )
        watch = Watch(file_id, org_id, self)
        self._watches.setdefault(file_id, set()).add(watch)
        self._by_org[org_id] += 1
        metrics.STREAMS.inc()
        return watch

    def forget(self, watch: Watch) -> None:
        watches = self._watches.get(watch.file_id, set())
        if watch not in watches:
            return
        watches.remove(watch)
        if not watches:
            del self._watches[watch.file_id]
            self._hints.pop(watch.file_id, None)
        self._by_org[watch.org_id] -= 1
        metrics.STREAMS.dec()

    def end_streams(self) -> None:
        """Close every stream, and open no more."""
        self._ending = True
        for watches in list(self._watches.values()):
            for watch in list(watches):
                watch.end()

    def _tell(self, file_id: str, item: Item) -> None:
        for watch in tuple(self._watches.get(file_id, ())):
            watch.put(item)

    # --- by Redis ---
    async def _listen(self) -> None:
        while True:
            try:
                await self._subscribe()
            except (RedisError, OSError) as error:
                log.warning("live_news_away", error=type(error).__name__)
            finally:
                self.connected.clear()
            await asyncio.sleep(RECONNECT)

    async def _subscribe(self) -> None:
        async with self._redis.pubsub() as news:
            await news.psubscribe(_STATS + "*", _EMAILS + "*")
            await news.subscribe(BATCH_PROGRESS)
            await self._redis.ping()  # answered after the subscriptions were: from here on nothing is missed
            self.connected.set()
            for file_id in tuple(self._watches):
                self._tell(file_id, MayHaveMissed())
            asked = False
            while True:
                message = await news.get_message(timeout=HEARD)
                if message is None and asked:
                    raise RedisTimeoutError("no answer to a ping")
                asked = message is None
                if message is None:
                    await news.ping()
                elif message["type"] in ("message", "pmessage"):
                    self._hear(message["channel"].decode(), message["data"])

    def _hear(self, channel: str, data: bytes) -> None:
        if channel == BATCH_PROGRESS:
            self._hear_hint(data)
            return
        file_id = channel.partition(":")[2]
        if file_id not in self._watches:
            return
        try:
            item = read_event(data)
        except ValueError:
            log.warning("live_news_undecodable", channel=channel.partition(":")[0])
            return
        if item.event == "progress":  # what was hinted at is counted now
            self._hints.pop(file_id, None)
        self._tell(file_id, item)

    def _hear_hint(self, data: bytes) -> None:
        try:
            hint = BatchProgress.decode(data)
        except MessageUndecodable as error:
            log.warning("progress_undecodable", why=str(error))
            return
        if hint.file_id in self._watches:
            hints = self._hints.setdefault(hint.file_id, {})
            hints[hint.batch_id] = hint.done
            self._tell(hint.file_id, Hinted(sum(hints.values())))

    # --- by the documents ---
    async def _poll(self) -> None:
        quiet = 0.0
        while True:
            await asyncio.sleep(POLL)
            quiet += POLL
            if self.connected.is_set() and quiet < IDLE_POLL:
                continue
            quiet = 0.0
            with contextlib.suppress(DocumentsUnavailable):  # looked at again in a moment; the streams stay open
                for file_id in tuple(self._watches):
                    self._tell(file_id, Looked(await self._documents.get(FILES, file_id)))


def read_event(message: bytes) -> Happened:
    """An announced `{"id":"...","event":"...",...}` (gateway/results/announce.py). Raises ValueError."""
    id_, event, rest = message.split(b",", 2)
    return Happened(int(id_[7:-1]), event[9:-1].decode(), b"{" + rest)
