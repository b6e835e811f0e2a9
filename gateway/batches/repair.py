"""What a crash, a wiped broker or a lost message leaves behind, found and mended; all of it from the documents.

At start, and then every SWEEP seconds:

- dispatched batches whose lease ran out go back to `pending` and are sent again with the next attempt
- files that have been `receiving` for too long without a sign of life are removed, with their batches and their hold;
  those that were `ready` before are so again, and keep their hold for the next start
- files that are `settling` are brought to their end
- files whose erasure was begun are erased, and so are those whose time is over

A lease that ran out says nothing while the message may still wait in the queue behind others. The queue is first in,
first out: a batch is taken for lost when the queue is empty, or when a batch sent later has been answered already.
Otherwise its lease is made longer, so that validators that are away for a day do not find a queue full of copies.

A batch that vanishes MOST_LOST times in one look (it may be what kills the validators) gets `unknown`, free of charge.
Where the broker forgets everything with its process, every dispatched batch is lost at start, and that says nothing
against it.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

from gateway.batches.dispatch import Dispatcher
from gateway.batches.state import ACCEPT, PUT_BACK, RUNNING_FILE, TAKE_BACK, BatchStatus, FileStatus
from gateway.collections import BATCHES, FILES
from gateway.credits.ledger import Ledger
from gateway.health import metrics
from gateway.results.finish import Finisher
from gateway.results.record import Recorder
from gateway.results.tally import Tally
from shared.broker import Broker
from shared.documents import Change, Document, Documents, In, Lte, Missing
from shared.logs import get_log
from shared.topology import WORK

log = get_log("gateway.batches.repair")

SWEEP = 5.0  # seconds
MOST_LOST = 5
LONGER = 0.25  # of the lease, for a message that may still be waiting
SETTLING_FOR = 10.0  # seconds after which somebody else's settling is taken over

Clock = Callable[[], float]
Erase = Callable[[Document], Awaitable[None]]


class Repair:
    """`erase` removes a file's results, upload and exports, and marks it erased; repeatable."""

    def __init__(
        self,
        *,
        documents: Documents,
        broker: Broker,
        ledger: Ledger,
        dispatcher: Dispatcher,
        recorder: Recorder,
        tally: Tally,
        finisher: Finisher,
        erase: Erase,
        batch_lease: float,
        clock: Clock = time.time,
    ) -> None:
        self._documents = documents
        self._broker = broker
        self._ledger = ledger
        self._dispatcher = dispatcher
        self._recorder = recorder
        self._tally = tally
        self._finisher = finisher
        self._erase = erase
        self._batch_lease = batch_lease
        self._clock = clock
        self._newest_answered = 0.0

    def answered(self, dispatched_at: float) -> None:
        """A batch that was sent at this time has been answered."""
        self._newest_answered = max(self._newest_answered, dispatched_at)

    async def at_start(self) -> None:
        """Before anything runs. Raises ServerUnreachable."""
        alone = not self._broker.survives_restart  # then this process is the only gateway, too
        if alone:
            await self._take_back_all()
        await self._remove_abandoned(everyone=alone)
        await self._finish_settling(everyone=alone)
        running = {"status": In(tuple(sorted(RUNNING_FILE)))}
        async for file in self._documents.scan(FILES, running, fields=("status",)):
            self._tally.touch(file["_id"])

    async def run(self, stop: asyncio.Event) -> None:
        """Until `stop` is set. Raises ServerUnreachable; to be run again after a while."""
        while not stop.is_set():
            await self.sweep()
            try:
                async with asyncio.timeout(SWEEP):
                    await stop.wait()
            except TimeoutError:
                continue

    async def sweep(self) -> None:
        await self._remove_abandoned(everyone=False)
        await self._finish_settling(everyone=False)
        await self._finish_erasing()
        await self._look_at_leases()

    # --- batches ---
    async def _take_back_all(self) -> None:
        dispatched = {"status": str(BatchStatus.DISPATCHED)}
        async for batch in self._documents.scan(BATCHES, dispatched, fields=("status",)):
            await self._documents.update(BATCHES, batch["_id"], Change(set=TAKE_BACK.set), TAKE_BACK.where)
            metrics.TAKEN_BACK.labels("restart").inc()

    async def _look_at_leases(self) -> None:
        now = self._clock()
        expired = {"status": str(BatchStatus.DISPATCHED), "leaseUntil": Lte(now)}
        waiting: int | None = None
        async for batch in self._documents.scan(BATCHES, expired, sort="leaseUntil"):
            if batch.get("confirmedAt") is None:
                await self._take_back(batch, "unconfirmed", lost=0)
                continue
            if waiting is None:
                waiting = await self._broker.depth(WORK)
            if waiting and batch["dispatchedAt"] >= self._newest_answered:
                await self._prolong(batch, now)
            elif batch["lost"] + 1 >= MOST_LOST:
                log.error("batch_given_up", file_id=batch["fileId"], batch_id=batch["_id"])
                await self._recorder.give_up(batch)
            else:
                await self._take_back(batch, "lost", lost=1)

    async def _take_back(self, batch: Document, why: str, *, lost: int) -> None:
        fence = {**TAKE_BACK.where, "attempt": batch["attempt"]}
        change = Change(set=TAKE_BACK.set, inc={"lost": lost})
        if await self._documents.update(BATCHES, batch["_id"], change, fence) is not None:
            metrics.TAKEN_BACK.labels(why).inc()
            log.warning("batch_taken_back", file_id=batch["fileId"], batch_id=batch["_id"], why=why)
            self._dispatcher.wake(batch["fileId"])

    async def _prolong(self, batch: Document, now: float) -> None:
        longer = Change(set={"leaseUntil": now + LONGER * self._batch_lease})
        await self._documents.update(BATCHES, batch["_id"], longer, {**TAKE_BACK.where, "attempt": batch["attempt"]})

    # --- files ---
    async def _remove_abandoned(self, *, everyone: bool) -> None:
        until = float("inf") if everyone else self._clock()
        async for file in self._documents.scan(FILES, {"status": str(FileStatus.RECEIVING)}):
            if file["aliveUntil"] <= until:
                await self._remove(file)

    async def _remove(self, file: Document) -> None:
        """The first step is conditional and takes the file from whoever may be storing it still, only slowly."""
        file_id, silent = file["_id"], {"aliveUntil": file["aliveUntil"]}
        if file.get("wasReady"):
            back = await self._documents.update(FILES, file_id, Change(set=PUT_BACK.set), {**PUT_BACK.where, **silent})
            if back is not None:
                await self._documents.delete_many(BATCHES, {"fileId": file_id})
            return
        given_up = Change(set={"eraseState": "running"})
        if await self._documents.update(FILES, file_id, given_up, {**ACCEPT.where, **silent}) is None:
            return
        log.warning("abandoned_file_removed", file_id=file_id)
        await self._erase(file)
        await self._ledger.release(file["orgId"], file_id)
        await self._documents.delete(FILES, file_id)

    async def _finish_settling(self, *, everyone: bool) -> None:
        late = self._clock() - SETTLING_FOR
        async for file in self._documents.scan(FILES, {"status": str(FileStatus.SETTLING)}):
            if everyone or file["settlingSince"] <= late:
                await self._finisher.resume(file)

    async def _finish_erasing(self) -> None:
        over = {"expiresAt": Lte(self._clock()), "eraseState": Missing()}
        async for file in self._documents.scan(FILES, over):
            await self._erase(file)
        async for file in self._documents.scan(FILES, {"eraseState": "running"}):
            await self._erase(file)
