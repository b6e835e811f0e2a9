"""Results in: one message, one conditional update of its batch, then the acknowledgement.

The update is fenced: the batch must still be open, in the look the message answers, and the message's attempt must
belong to that look. So a result that comes twice, late, or after the file was cancelled or erased changes nothing and
is acknowledged knowingly. Addresses that were put off stay in the batch, which goes back to `pending` for its next
look; on the last look they get their final verdict here, if the validator did not give it. Those whose turn at their
mail host never came in the batch's time were not looked at: they stay for another turn of the same look.

What each death leaves: before the update the broker delivers again; between update and acknowledgement it delivers
again and the fence drops it. Counting and announcing follow from the update and can be repeated from the documents.
While the documents do not answer, messages are kept and tried again, not sent round.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from gateway.batches.state import FINISH_BATCH, OPEN_BATCH, PUT_OFF
from gateway.collections import BATCHES, FILES
from gateway.health import metrics
from gateway.results.announce import Announcer
from gateway.results.summary import STATUSES, add_up, summarise
from gateway.results.verdicts import found_results, undecided_result
from shared.broker import Broker, Delivery, Subscription
from shared.documents import Change, Document, Documents, Lte
from shared.errors import DocumentsUnavailable, MessageUndecodable
from shared.logs import get_log
from shared.messages import PutOff, ResultMessage
from shared.topology import RESULTS
from shared.verdict import Reason

log = get_log("gateway.results.record")

PREFETCH = 16  # messages handled at the same time
LONGEST_HINT = 3600.0  # seconds: no server makes us wait longer
MOST_WAITS = 12  # turns of a batch that end without an answer to some and are no look: an hour at a busy host
RETRY_PAUSE = 1.0  # seconds between tries while the documents do not answer

Clock = Callable[[], float]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What recording a message changes: the update and its fence, and the results it brings."""

    change: Change
    where: dict[str, Any]
    results: list[dict[str, Any]]
    put_off: int


def plan_record(batch: Document, message: ResultMessage, delays: tuple[float, ...], now: float) -> Outcome | None:
    """The update for `message`, or None where it changes nothing. Pure.

    Raises MessageUndecodable for a message that does not fit the batch it names.
    """
    look, attempt = batch["look"], message.attempt
    if batch["status"] not in OPEN_BATCH or message.look != look or attempt < batch["lookAttempt"]:
        return None
    emails, rows = batch["emails"], batch["rows"]
    put_off = {one.index: one for one in message.put_off}
    missing = {index for index, finding in enumerate(message.found) if finding is None}
    if len(message.found) != len(emails) or missing != put_off.keys():
        raise MessageUndecodable("a ResultMessage whose results are not those of its batch", b"")
    left = sorted(put_off)
    unasked = {index for index, one in put_off.items() if one.unasked}
    same_look = bool(unasked) and batch.get("waits", 0) < MOST_WAITS
    if look >= len(delays):
        left = sorted(unasked) if same_look else []
    results = found_results(message, emails, rows)
    results += [
        {**undecided_result(emails[at], put_off[at].reason, now), "row": rows[at]}
        for at in sorted(put_off.keys() - set(left))
    ]
    fresh = summarise(results)
    where = {"look": look, "lookAttempt": Lte(attempt)}
    kept: dict[str, Any] = {
        "results": batch["results"] + results,
        "processedEmails": batch["processedEmails"] + len(results),
        "summary": add_up(batch["summary"], fresh),
        "recordedAt": now,
        "leaseUntil": 0.0,
        "lost": 0,
        "emails": [emails[index] for index in left],
        "rows": [rows[index] for index in left],
    }
    if not left:
        return Outcome(Change(set={**kept, **FINISH_BATCH.set}), {**FINISH_BATCH.where, **where}, results, 0)
    waited = [one for index, one in put_off.items() if index not in unasked and index in set(left)]
    again = {
        "look": look if same_look else look + 1,
        "waits": batch.get("waits", 0) + same_look,
        "lookAttempt": batch["attempt"] + 1,
        "dueAt": now + (_delay(delays[look], waited) if waited or not same_look else 0.0),
    }
    return Outcome(Change(set={**kept, **PUT_OFF.set, **again}), {**PUT_OFF.where, **where}, results, len(left))


def _delay(delay: float, put_off: list[PutOff]) -> float:
    """Seconds until the next look: ours, or what a server asked for where that is longer."""
    return max([delay, *(min(LONGEST_HINT, one.after) for one in put_off if one.after is not None)])


class Watchers(Protocol):
    """Who wants to know of a recorded batch."""

    def recorded(self, file_id: str, *, put_off: int, dispatched_at: float) -> None: ...


class Recorder:
    def __init__(
        self,
        *,
        documents: Documents,
        broker: Broker,
        announcer: Announcer,
        watchers: Watchers,
        retry_delays: tuple[float, ...],
        clock: Clock = time.time,
    ) -> None:
        self._documents = documents
        self._broker = broker
        self._announcer = announcer
        self._watchers = watchers
        self._delays = retry_delays
        self._clock = clock
        self._stopping = asyncio.Event()
        self._subscription: Subscription | None = None
        self._rows: dict[str, int] = {}  # of files with results lately, for the live list
        self._handlers: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        """Consume until `stop`, then finish what is under way."""
        if self._stopping.is_set():
            return
        async with self._broker.subscribe(RESULTS, PREFETCH) as deliveries:
            self._subscription = deliveries
            try:
                async for delivery in deliveries:
                    task = asyncio.create_task(self._handle(delivery), name="record-result")
                    self._handlers.add(task)
                    task.add_done_callback(self._handlers.discard)
            finally:
                self._subscription = None
                if self._handlers:
                    await asyncio.wait(set(self._handlers))

    async def stop(self) -> None:
        self._stopping.set()
        if self._subscription is not None:
            await self._subscription.stop()

    async def _handle(self, delivery: Delivery) -> None:
        """The outer boundary of one message: whatever is wrong with it costs only this delivery."""
        with metrics.RECORD_SECONDS.time():
            try:
                await self._record_patiently(delivery)
            except MessageUndecodable as error:
                metrics.DROPPED.labels("undecodable").inc()
                log.warning("result_undecodable", why=str(error))
                await delivery.dead_letter(str(error))
            except DocumentsUnavailable:
                await delivery.requeue()
            except Exception as error:
                metrics.DROPPED.labels("failed").inc()
                log.exception("result_failed", error=type(error).__name__)
                await delivery.requeue()  # the queue's delivery limit ends it in the dead letters
            else:
                await delivery.ack()

    async def _record_patiently(self, delivery: Delivery) -> None:
        message = ResultMessage.decode(delivery.body)
        while True:
            try:
                await self.record(message)
            except DocumentsUnavailable:
                log.warning("record_waits", file_id=message.file_id, batch_id=message.batch_id)
                if await self._stops_within(RETRY_PAUSE):
                    raise
            else:
                return

    async def _stops_within(self, seconds: float) -> bool:
        try:
            async with asyncio.timeout(seconds):
                await self._stopping.wait()
        except TimeoutError:
            return False
        return True

    async def record(self, message: ResultMessage) -> bool:
        """Store a message's results; False where they change nothing.

        Raises MessageUndecodable, DocumentsUnavailable.
        """
        batch = await self._documents.get(BATCHES, message.batch_id)
        if batch is None:
            metrics.DROPPED.labels("erased").inc()
            log.info("result_dropped", batch_id=message.batch_id, why="erased")
            return False
        planned = plan_record(batch, message, self._delays, self._clock())
        stored = planned and await self._documents.update(BATCHES, message.batch_id, planned.change, planned.where)
        if planned is None or stored is None:
            metrics.DROPPED.labels("late").inc()
            log.info("result_dropped", batch_id=message.batch_id, why="late", status=batch["status"])
            return False
        fresh = planned.change.set["summary"]
        for status in STATUSES:
            metrics.RECORDED.labels(status).inc(fresh[status] - batch["summary"][status])
        metrics.PUT_OFF.inc(planned.put_off)
        file_id = batch["fileId"]
        if planned.results:
            self._announcer.announce_emails(file_id, planned.results, await self._rows_of(file_id))
        self._watchers.recorded(file_id, put_off=planned.put_off, dispatched_at=batch.get("dispatchedAt") or 0.0)
        return True

    async def give_up(self, batch: Document) -> None:
        """Close a batch whose messages keep vanishing: what is left in it becomes unknown, free of charge."""
        now = self._clock()
        results = [
            {**undecided_result(email, Reason.TIMEOUT, now), "row": row}
            for email, row in zip(batch["emails"], batch["rows"], strict=True)
        ]
        change = Change(
            set={
                **FINISH_BATCH.set,
                "results": batch["results"] + results,
                "processedEmails": batch["processedEmails"] + len(results),
                "summary": add_up(batch["summary"], summarise(results)),
                "recordedAt": now,
                "emails": [],
                "rows": [],
            }
        )
        where = {**FINISH_BATCH.where, "look": batch["look"], "attempt": batch["attempt"]}
        if await self._documents.update(BATCHES, batch["_id"], change, where) is not None:
            metrics.GIVEN_UP.inc()
            self._announcer.announce_emails(batch["fileId"], results, len(results))
            self._watchers.recorded(batch["fileId"], put_off=0, dispatched_at=0.0)

    async def _rows_of(self, file_id: str) -> int:
        rows = self._rows.get(file_id)
        if rows is None:
            file = await self._documents.get(FILES, file_id)
            rows = 0 if file is None else file["uniqueEmails"] + file["malformed"]
            if len(self._rows) > 1_000:
                self._rows.clear()
            self._rows[file_id] = rows
        return rows
