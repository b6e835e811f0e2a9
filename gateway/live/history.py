"""The last events of a file, kept in Redis for readers that come back; gateway/results/announce.py writes them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any

from redis.exceptions import RedisError

from gateway.live.hub import Happened
from gateway.results.announce import ID_MS, ID_SEQ, KEPT, entry_after, event_id
from shared.logs import get_log
from shared.redis_keys import file_events

if TYPE_CHECKING:
    from redis.asyncio import Redis

log = get_log("gateway.live.history")

_LONGEST_ID = 19  # digits
_AT_ONCE = 100  # events read at once
_SKEW = 60_000  # ms that Redis's clock may be behind ours


class History:
    def __init__(self, redis: Redis, file_id: str) -> None:
        self._redis = redis
        self._file_id = file_id
        self._key = file_events(file_id)

    async def newest(self) -> int | None:
        """The newest event's id; where there is none, one older than any to come. None: Redis does not answer."""
        try:
            last: Any = await self._redis.xrevrange(self._key, count=1)
            if last:
                return event_id(_text(last[0][0]))
            seconds, micros = await self._redis.time()
        except RedisError:
            return None
        return int(seconds * 1000 + micros // 1000 - 1) * ID_MS

    async def continues(self, last_event_id: str | None, created_at: float) -> int | None:
        """`Last-Event-ID` as a number, where everything after it is still here; None for any other."""
        given = last_event_id or ""
        if not (given.isascii() and given.isdecimal() and len(given) <= _LONGEST_ID):
            return None
        last = int(given)
        try:
            first: Any = await self._redis.xrange(self._key, count=1)
            newest: Any = await self._redis.xrevrange(self._key, count=1)
            length = await self._redis.xlen(self._key)
        except RedisError:
            return None
        if not first or last > event_id(_text(newest[0][0])) + ID_SEQ:
            return None
        trimmed = length >= KEPT
        oldest = event_id(_text(first[0][0])) if trimmed else int(created_at * 1000 - _SKEW) * ID_MS
        return last if last >= oldest else None

    async def missed(self, after: int) -> AsyncIterator[Happened]:
        """Events behind `after` that carry data, oldest first. Ends early, with a log line, where Redis is away."""
        since = entry_after(after)
        while True:
            try:
                entries: Any = await self._redis.xrange(self._key, min="(" + since, count=_AT_ONCE)
            except RedisError as error:
                log.warning("missed_events_unread", file_id=self._file_id, error=type(error).__name__)
                return
            for entry, fields in entries:
                since = _text(entry)
                if fields[b"data"]:
                    yield Happened(event_id(since), _text(fields[b"event"]), fields[b"data"])
            if len(entries) < _AT_ONCE:
                return


def _text(value: bytes | str) -> str:
    return value.decode() if isinstance(value, bytes) else value
