"""The end of a file, exactly once, whatever dies in between.

    complete / cancel  ->  `settling` with the outcome written down      (one conditional update: who wins, decides)
    settle the batches ->  of a cancelled file: those that are open are cancelled, so that no late result counts
    recount            ->  all batches, from nothing
    settle the hold    ->  the ledger takes the charge and releases the rest; repeatable by the file's id
    close              ->  `completed`, `cancelled` or `failed` with the counts and the event for the webhooks, in one
                           conditional update: who wins, announces `done`

Every step may be repeated by anybody; repair does so at start and for files that stay in `settling`. A caller never
sees a finished file whose credits are still held.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

from gateway.batches.state import CANCEL_BATCH, CLOSE, OPEN_BATCH, SETTLE, BatchStatus, FileStatus
from gateway.collections import BATCHES, FILES
from gateway.credits.ledger import Ledger
from gateway.files.present import present_progress, present_stats
from gateway.health import metrics
from gateway.results.announce import Announcer
from gateway.results.summary import Totals
from shared.documents import Change, Document, Documents, Gt, In
from shared.logs import get_log

log = get_log("gateway.results.finish")

AT_ONCE = 16  # batches cancelled at the same time
MISSING = "Some of the file's batches are missing."

Clock = Callable[[], float]


class Finisher:
    def __init__(self, documents: Documents, ledger: Ledger, announcer: Announcer, clock: Clock = time.time) -> None:
        self._documents = documents
        self._ledger = ledger
        self._announcer = announcer
        self._clock = clock

    async def complete(self, file_id: str) -> Document | None:
        """Close a file of which every batch is done. None when it was not running any more."""
        return await self._settle(file_id, FileStatus.COMPLETED)

    async def cancel(self, file_id: str) -> Document | None:
        """Keep what is finished, release the other credits. None when it was not running any more."""
        return await self._settle(file_id, FileStatus.CANCELLED)

    async def begin_cancel(self, file_id: str) -> Document | None:
        """The first step of `cancel` alone; `resume` does the others."""
        return await self._decide(file_id, FileStatus.CANCELLED)

    async def _settle(self, file_id: str, outcome: FileStatus) -> Document | None:
        decided = await self._decide(file_id, outcome)
        return None if decided is None else await self.resume(decided)

    async def _decide(self, file_id: str, outcome: FileStatus) -> Document | None:
        decision = Change(set={**SETTLE.set, "outcome": str(outcome), "settlingSince": self._clock()})
        return await self._documents.update(FILES, file_id, decision, SETTLE.where)

    async def resume(self, file: Document) -> Document | None:
        """Bring a `settling` file to its end. The closed document, or None where somebody else closed it."""
        file_id, outcome = file["_id"], FileStatus(file["outcome"])
        if outcome is FileStatus.CANCELLED:
            await self._cancel_batches(file_id)
        totals, done = await self._recount(file_id)
        if outcome is FileStatus.COMPLETED and done < file["totalBatches"]:
            log.error("batches_missing", file_id=file_id, done=done, total=file["totalBatches"])
            outcome = FileStatus.FAILED
        await self._ledger.settle(file["orgId"], file_id, totals.billable)
        closed = await self._close(file, outcome, totals, done)
        if closed is not None:
            self._announce_end(closed)
        return closed

    async def _cancel_batches(self, file_id: str) -> None:
        change = Change(set=CANCEL_BATCH.set)

        async def cancel(batch_id: str) -> None:
            await self._documents.update(BATCHES, batch_id, change, CANCEL_BATCH.where)

        where = {"fileId": file_id, "status": In(tuple(sorted(OPEN_BATCH)))}
        chunk: list[str] = []
        async for batch in self._documents.scan(BATCHES, where, fields=("status",)):
            chunk.append(batch["_id"])
            if len(chunk) == AT_ONCE:
                await asyncio.gather(*map(cancel, chunk))
                chunk = []
        await asyncio.gather(*map(cancel, chunk))

    async def _recount(self, file_id: str) -> tuple[Totals, int]:
        totals, done = Totals(), 0
        where = {"fileId": file_id, "recordedAt": Gt(0.0)}
        fields = ("recordedAt", "status", "processedEmails", "summary")
        async for batch in self._documents.scan(BATCHES, where, sort="recordedAt", fields=fields):
            totals.add(batch["summary"])
            done += batch["status"] == BatchStatus.DONE
        return totals, done

    async def _close(self, file: Document, outcome: FileStatus, totals: Totals, done: int) -> Document | None:
        now = self._clock()
        move = CLOSE[outcome]
        end: dict[str, Any] = {
            **move.set,
            **totals.fields(),
            "completedBatches": done,
            "creditsCharged": min(totals.billable, file["creditsReserved"]),
            "finishedAt": now,
            "settled": True,
            "eta": None,
            "failure": MISSING if outcome is FileStatus.FAILED else None,
            "event": {"id": f"evt_{file['_id']}_{outcome}", "type": f"file.{outcome}", "at": now},
            "eventState": "pending",
        }
        closed = await self._documents.update(FILES, file["_id"], Change(set=end), move.where)
        if closed is not None:
            metrics.FINISHED.labels(str(outcome)).inc()
            log.info("file_finished", file_id=file["_id"], status=str(outcome), processed=totals.processed)
        return closed

    def _announce_end(self, file: Document) -> None:
        now = self._clock()
        self._announcer.announce(file["_id"], "progress", present_progress(file, now))
        self._announcer.announce(file["_id"], "stats", present_stats(file))
        last = "failed" if file["status"] == FileStatus.FAILED else "done"
        self._announcer.announce(file["_id"], last, present_progress(file, now))
