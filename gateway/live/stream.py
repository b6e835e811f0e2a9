"""What one event stream says, in this order:

1. `progress` and `stats`: the present state. On a fresh stream their ids follow the file's newest event; on a resumed
   one they follow `Last-Event-ID`, so that what was missed still has larger ids.
2. On a resumed stream: the missed `emails` (and the end). Missed `progress` and `stats` are older than the state just
   told, and are left out.
3. The news, as they come; `done` or `failed` once, then the stream ends.

Ids only ever grow. A `Last-Event-ID` that is not ours, of another file or too old to be continued without a gap is
ignored: the stream begins fresh. Made-up states (from hints and from looking at the documents) take ids between those
of announced events.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable, Iterator
from typing import TYPE_CHECKING, Any

import msgspec
from sse_starlette import ServerSentEvent

from gateway.batches.state import TERMINAL_FILE, FileStatus
from gateway.collections import FILES
from gateway.files.present import present_progress, present_stats
from gateway.live.history import History
from gateway.live.hub import Happened, Hinted, Item, Looked, MayHaveMissed, Watch
from gateway.results.announce import ID_MS, ID_SEQ
from shared.documents import Document, Documents

if TYPE_CHECKING:
    from redis.asyncio import Redis

ENDS = ("done", "failed")
_HINT_EVERY = 0.5  # seconds
_HINTS_AT_MOST = ID_SEQ - 100  # made-up ids between two announced events, some left for what matters more

Clock = Callable[[], float]


class FileStream:
    """The events of one file for one reader."""

    def __init__(
        self,
        documents: Documents,
        redis: Redis,
        watch: Watch,
        last_event_id: str | None,
        *,
        clock: Clock = time.time,
    ) -> None:
        self._documents = documents
        self._history = History(redis, watch.file_id)
        self._watch = watch
        self._last_event_id = last_event_id
        self._clock = clock
        self._sent = 0
        self._state: dict[str, Any] = {}
        self._progress = 0.0
        self._hinted_at = 0.0

    async def events(self, file: Document) -> AsyncIterator[ServerSentEvent]:
        """Until the file ended or the watch did. `file` is the document as the route found it."""
        async for event in self._all(file):
            yield event
            if event.event in ENDS:
                return

    async def _all(self, file: Document) -> AsyncIterator[ServerSentEvent]:
        resumed = await self._history.continues(self._last_event_id, file["createdAt"])
        began = resumed if resumed is not None else await self._history.newest()
        file = await self._documents.get(FILES, file["_id"]) or file
        self._sent = began if began is not None else int(self._clock() * 1000) * ID_MS
        yield self._tell_state(file)
        yield self._make_up("stats", present_stats(file))
        if resumed is not None:
            async for event in self._missed(resumed):
                yield event
        if file["status"] in TERMINAL_FILE:
            yield self._end(file)
        while (item := await self._watch.next()) is not None:
            if isinstance(item, MayHaveMissed):
                async for event in self._missed(self._sent):
                    yield event
                continue
            for event in self._news(item):
                yield event

    def _news(self, item: Item) -> Iterator[ServerSentEvent]:
        match item:
            case Happened():
                if item.id > self._sent and not self._is_older(item):
                    yield self._pass_on(item)
            case Hinted(answered):
                yield from self._hint(answered)
            case Looked(None):
                self._watch.end()
            case Looked(file) if file is not None:  # being erased, too: that comes to an end, which is told
                yield from self._look(file)

    # --- announced events ---
    def _pass_on(self, item: Happened) -> ServerSentEvent:
        self._sent = item.id
        return ServerSentEvent(data=item.data.decode(), event=item.event, id=str(item.id), sep="\n")

    def _is_older(self, item: Happened) -> bool:
        """Whether it is a state that was overtaken by one already told."""
        if item.event != "progress":
            return False
        state = msgspec.json.decode(item.data)
        if state["processed"] < self._state["processed"]:
            return True
        self._state, self._progress = state, max(self._progress, state["progress"])
        return False

    async def _missed(self, after: int) -> AsyncIterator[ServerSentEvent]:
        async for item in self._history.missed(after):
            if item.id > self._sent:
                yield self._pass_on(item)

    # --- states made up here ---
    def _make_up(self, event: str, data: dict[str, Any]) -> ServerSentEvent:
        self._sent += 1
        return ServerSentEvent(data=msgspec.json.encode(data).decode(), event=event, id=str(self._sent), sep="\n")

    def _tell_state(self, file: Document) -> ServerSentEvent:
        self._state = present_progress(file, self._clock())
        self._progress = max(self._progress, self._state["progress"])
        return self._make_up("progress", self._state)

    def _end(self, file: Document) -> ServerSentEvent:
        last = "failed" if file["status"] == FileStatus.FAILED else "done"
        return self._make_up(last, present_progress(file, self._clock()))

    def _look(self, file: Document) -> Iterator[ServerSentEvent]:
        before, now = self._state, present_progress(file, self._clock())
        if now["processed"] > before["processed"] or now["status"] != before["status"]:
            yield self._tell_state(file)
            yield self._make_up("stats", present_stats(file))
        if file["status"] in TERMINAL_FILE:
            yield self._end(file)

    def _hint(self, answered: int) -> Iterator[ServerSentEvent]:
        """Progress between two counts: addresses answered in running batches are not counted yet, but shown."""
        now, total = self._clock(), self._state["total"]
        seen = min(total, self._state["processed"] + answered)
        progress = round(seen / total, 4) if total else 1.0
        due = now - self._hinted_at >= _HINT_EVERY and self._sent % ID_SEQ <= _HINTS_AT_MOST
        if due and progress > self._progress:
            self._progress, self._hinted_at = progress, now
            yield self._make_up("progress", {**self._state, "progress": progress})
