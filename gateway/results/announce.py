"""Tells everybody who watches a file what is new. A hint: the documents stay the only truth.

One script appends to the stream `file_events:{fileId}` and publishes, so that subscribers see events in the order of
their ids whichever gateway announced them. An event's id is made of the stream entry's, `ms * 1_000_000 + seq * 1000`:
it only ever grows, also across a wiped Redis, and leaves 999 ids after each for states that a stream of events makes up
on the spot. `progress` and `stats` are in the stream without their data (a present state replaces all earlier ones).

News wait in a bounded queue in this process and go out in order; when Redis is away or slow they are dropped and
counted, and watchers read the documents instead.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec
from redis.exceptions import RedisError

from gateway.health import metrics
from shared.logs import get_log
from shared.redis_keys import file_emails, file_events, file_stats

if TYPE_CHECKING:
    from redis.asyncio import Redis

log = get_log("gateway.results.announce")

QUEUED = 2_000  # events waiting for Redis
KEPT = 2_000  # events in a file's stream, roughly
KEPT_SECONDS = 6 * 3600
ITEMS_AT_ONCE = 100  # results in one `emails` event
SMALL_FILE = 20_000  # up to so many rows every result is told; of larger files only the first few of each batch
FEW = 20
ID_MS, ID_SEQ = 1_000_000, 1_000

_SCRIPT = """
local entry = redis.call('XADD', KEYS[1], 'MAXLEN', '~', ARGV[1], '*', 'event', ARGV[3], 'data', ARGV[5])
redis.call('EXPIRE', KEYS[1], ARGV[2])
local dash = string.find(entry, '-', 1, true)
local seq = tonumber(string.sub(entry, dash + 1)) % 1000
local id = string.sub(entry, 1, dash - 1) .. string.format('%03d', seq) .. '000'
redis.call('PUBLISH', KEYS[2], '{"id":"' .. id .. '","event":"' .. ARGV[3] .. '",' .. string.sub(ARGV[4], 2))
return id
"""


class News(NamedTuple):
    """One event of a file. `data` is a JSON object with at least one member."""

    file_id: str
    event: str  # progress, stats, emails, done, failed
    data: bytes


def event_id(entry_id: str) -> int:
    """The event id of a stream entry `ms-seq`."""
    ms, _, seq = entry_id.partition("-")
    return int(ms) * ID_MS + int(seq) % 1000 * ID_SEQ


def entry_after(id_: int) -> str:
    """The stream entry that events after `id_` follow."""
    return f"{id_ // ID_MS}-{id_ % ID_MS // ID_SEQ}"


def email_items(results: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Results as the live list shows them."""
    return [
        {
            "email": result["email"],
            "status": result["status"],
            "reason": result["reason"],
            "score": result["score"],
            "row": result.get("row"),
        }
        for result in results
    ]


class Announcer:
    def __init__(self, redis: Redis) -> None:
        self._script = redis.register_script(_SCRIPT)
        self._waiting: asyncio.Queue[News | None] = asyncio.Queue(QUEUED)  # None: look whether to stop

    def announce(self, file_id: str, event: str, data: Mapping[str, Any]) -> None:
        """Queue one event; never waits, never raises."""
        try:
            self._waiting.put_nowait(News(file_id, event, msgspec.json.encode(data)))
        except asyncio.QueueFull:
            metrics.ANNOUNCE_LOST.inc()

    def announce_emails(self, file_id: str, results: Sequence[Mapping[str, Any]], rows_of_file: int) -> None:
        """Queue results just recorded, all of them or, in a large file, the first few."""
        told = results if rows_of_file <= SMALL_FILE else results[:FEW]
        for at in range(0, len(told), ITEMS_AT_ONCE):
            chunk = told[at : at + ITEMS_AT_ONCE]
            more = len(results) - len(told) if at + ITEMS_AT_ONCE >= len(told) else 0
            self.announce(file_id, "emails", {"fileId": file_id, "items": email_items(chunk), "more": more})

    def wake(self) -> None:
        """After `stop` was set."""
        if self._waiting.empty():
            self._waiting.put_nowait(None)

    async def run(self, stop: asyncio.Event) -> None:
        """Until `stop` is set (and then `wake` called) and everything queued has gone out."""
        while not (stop.is_set() and self._waiting.empty()):
            news = await self._waiting.get()
            if news is None:
                continue
            try:
                await self._send(news)
            except RedisError as error:
                metrics.ANNOUNCE_LOST.inc()
                log.warning("announce_failed", file_id=news.file_id, error=type(error).__name__)

    async def _send(self, news: News) -> None:
        channel = (file_emails if news.event == "emails" else file_stats)(news.file_id)
        kept = b"" if news.event in ("progress", "stats") else news.data
        await self._script(
            keys=[file_events(news.file_id), channel], args=[KEPT, KEPT_SECONDS, news.event, news.data, kept]
        )
