"""Counts of a file: sums over its batches, written to the file's document and announced while it runs.

Nothing is incremented. A count reads the batches recorded since the last count (and somewhat before, because clocks of
two gateways differ), takes their earlier summaries out of the sum and puts the present ones in; a batch that is done
never changes again. Whatever is counted twice by two gateways comes to the same numbers, and `finish` counts everything
once more before the money moves. A file is counted when something of it was recorded, at most every INTERVAL seconds
and, up to a bound, with no more than a tenth of the time.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from gateway.batches.eta import Pace, estimate
from gateway.batches.state import RUNNING_FILE, SETTLE, BatchStatus
from gateway.collections import BATCHES, FILES
from gateway.files.present import present_progress, present_stats
from gateway.health import metrics
from gateway.results.announce import Announcer
from gateway.results.finish import Finisher
from gateway.results.summary import Summary, Totals
from shared.documents import Change, Document, Documents, Gt, Gte, Lte

INTERVAL = 0.25  # seconds between two counts of a file
FIRST = 0.02  # seconds between the first two; doubled until INTERVAL, so that small lists end at once
SHARE = 10  # a count that took t is followed by SHARE * t of rest
LONGEST_REST = 1.0  # seconds: a count in a busy process mostly waits for its turn, and a file's end waits for a count
STATS_INTERVAL = 1.0  # seconds between two `stats` events of a file
SKEW = 10.0  # seconds that clocks of gateways, and a slow write, may be behind

Clock = Callable[[], float]


@dataclass(slots=True)
class _Running:
    """What one gateway remembers of a file between counts; can be forgotten at any time."""

    totals: Totals = field(default_factory=Totals)
    open: dict[str, Summary] = field(default_factory=dict)  # batches with results that may get more
    done: set[str] = field(default_factory=set)
    seen_until: float = 0.0
    pace: Pace = field(default_factory=Pace)
    stats_at: float = 0.0
    next_at: float = 0.0
    pause: float = FIRST


class Tally:
    def __init__(
        self, documents: Documents, announcer: Announcer, finisher: Finisher, clock: Clock = time.time
    ) -> None:
        self._documents = documents
        self._announcer = announcer
        self._finisher = finisher
        self._clock = clock
        self._running: dict[str, _Running] = {}
        self._touched: dict[str, None] = {}
        self._woken = asyncio.Event()

    def touch(self, file_id: str) -> None:
        """Something of the file was recorded."""
        self._touched[file_id] = None
        self._woken.set()

    def wake(self) -> None:
        self._woken.set()

    async def run(self, stop: asyncio.Event) -> None:
        """Until `stop` is set (and then `wake` called). Raises ServerUnreachable; to be run again after a while."""
        while not stop.is_set():
            if not self._touched:
                self._woken.clear()
                await self._woken.wait()
                continue
            now = self._clock()
            due = [f for f in self._touched if f not in self._running or self._running[f].next_at <= now]
            for file_id in due:
                await self.count(file_id)
            if not due:
                await asyncio.sleep(FIRST / 2)

    async def count(self, file_id: str) -> None:
        """Count one file now, write it down, announce it, and finish the file where no batch is left."""
        self._touched.pop(file_id, None)  # before reading: what is recorded from now on touches it again
        try:
            await self._count(file_id)
        except BaseException:
            self.touch(file_id)
            raise

    async def _count(self, file_id: str) -> None:
        began = time.perf_counter()
        running = self._running.setdefault(file_id, _Running())
        await self._read_new(file_id, running)
        file = await self._write(file_id, running)
        took = time.perf_counter() - began
        metrics.TALLY_SECONDS.observe(took)
        running.next_at = self._clock() + max(running.pause, min(LONGEST_REST, SHARE * took))
        running.pause = min(INTERVAL, 2 * running.pause)
        if file is not None and file["status"] in RUNNING_FILE:
            if len(running.done) < file["totalBatches"]:
                return
            await self._finisher.complete(file_id)
        self._running.pop(file_id, None)

    async def _read_new(self, file_id: str, running: _Running) -> None:
        since = max(0.0, running.seen_until - SKEW)
        where = {"fileId": file_id, "recordedAt": Gte(since) if since else Gt(0.0)}
        fields = ("recordedAt", "status", "processedEmails", "summary")
        async for batch in self._documents.scan(BATCHES, where, sort="recordedAt", fields=fields):
            running.seen_until = max(running.seen_until, batch["recordedAt"])
            id_ = batch["_id"]
            if id_ in running.done:
                continue
            before = running.open.pop(id_, None)
            if before is not None:
                running.totals.add(before, -1)
            running.totals.add(batch["summary"])
            if batch["status"] == BatchStatus.DONE:
                running.done.add(id_)
            else:
                running.open[id_] = batch["summary"]

    async def _write(self, file_id: str, running: _Running) -> Document | None:
        now = self._clock()
        file = await self._documents.get(FILES, file_id)
        if file is None or file["status"] not in RUNNING_FILE:
            return file
        processed = running.totals.processed
        running.pace.observe(now, processed)
        remaining = file["uniqueEmails"] + file["malformed"] - processed
        seconds = estimate(running.pace.rate, remaining, now, await self._latest_due(file_id, now))
        counts: dict[str, Any] = {
            **running.totals.fields(),
            "completedBatches": len(running.done),
            "eta": None if seconds is None else {"at": now, "seconds": seconds},
        }
        where = {**SETTLE.where, "processed": Lte(processed)}
        written = await self._documents.update(FILES, file_id, Change(set=counts), where)
        if written is None:
            return await self._documents.get(FILES, file_id)
        self._announcer.announce(file_id, "progress", present_progress(written, now))
        if now - running.stats_at >= STATS_INTERVAL:
            running.stats_at = now
            self._announcer.announce(file_id, "stats", present_stats(written))
        return written

    async def _latest_due(self, file_id: str, now: float) -> float | None:
        where = {"fileId": file_id, "status": str(BatchStatus.PENDING), "dueAt": Gt(now)}
        scan = self._documents.scan(BATCHES, where, sort="dueAt", descending=True, limit=1, fields=("dueAt",))
        async for batch in scan:
            due: float = batch["dueAt"]
            return due
        return None
