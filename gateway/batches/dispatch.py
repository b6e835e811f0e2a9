"""The one place that publishes work: first sending, second looks and repaired batches alike.

A round: count what is in flight (from the documents, so two gateways share the bounds) -> choose the fairest file with
a due batch -> move that batch `pending -> dispatched` in one conditional update (the other gateway loses) -> publish
with confirm -> stamp the full lease. Of batches that hold one domain alone only a few are in flight: more of them would
wait at its mail hosts, and keep others from going on meanwhile. What each failure leaves:

- killed before or during the publish: the batch is dispatched with a short lease; repair takes it back
- the broker did not confirm: the batch goes back to pending at once; if the message is there all the same, its result
  still counts (same attempt), and the second message's result changes nothing
- killed after the confirm: the short lease runs out and it is sent once more

The loop sleeps until it is woken (a new file, a recorded result, a resume) or until the next batch is due.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable

from gateway.batches.fairness import Turns, Waiting
from gateway.batches.state import DISPATCH, START, TAKE_BACK, BatchStatus, FileStatus
from gateway.batches.store import NEVER_SENT
from gateway.collections import BATCHES, FILES
from gateway.health import metrics
from shared.broker import Broker
from shared.documents import Change, Document, Documents, Gte, In, Lt, Lte
from shared.errors import BrokerUnavailable
from shared.logs import get_log
from shared.messages import WorkMessage
from shared.settings import Settings
from shared.topology import WORK

log = get_log("gateway.batches.dispatch")

PUBLISH_LEASE = 30.0  # seconds: longer than any publish waits for its confirm
AT_ONCE = 16  # publishes under way at the same time
IDLE = 5.0  # seconds after which the loop looks even if nobody woke it
QUIET = 30.0  # seconds a file without due batches is not asked again unless woken
CROWDED = 1.0  # the same, for one whose due batches are of domains that have enough in flight
AHEAD = 4  # times as many due batches are looked through as there is room for
PAUSE = 0.02  # seconds between rounds, so that a flood of results makes few rounds

Clock = Callable[[], float]


_RUNNING = {"status": In((str(FileStatus.QUEUED), str(FileStatus.PROCESSING)))}


class Dispatcher:
    def __init__(self, documents: Documents, broker: Broker, settings: Settings, clock: Clock = time.time) -> None:
        self._documents = documents
        self._broker = broker
        self._settings = settings
        self._clock = clock
        self._turns = Turns()
        self._quiet_until: dict[str, float] = {}
        self._queued: set[str] = set()
        self._woken = asyncio.Event()

    def wake(self, file_id: str | None = None) -> None:
        """There may be something to send, of this file or of any."""
        if file_id is not None:
            self._quiet_until.pop(file_id, None)
        self._woken.set()

    async def run(self, stop: asyncio.Event) -> None:
        """Until `stop` is set (and then `wake` called). Raises ServerUnreachable; to be run again after a while."""
        while not stop.is_set():
            self._woken.clear()
            sent = await self.round()
            if sent:
                await asyncio.sleep(PAUSE)
                continue
            await self._sleep()

    async def _sleep(self) -> None:
        soonest = min(self._quiet_until.values(), default=float("inf")) - self._clock()
        try:
            async with asyncio.timeout(max(PAUSE, min(IDLE, soonest))):
                await self._woken.wait()
        except TimeoutError:
            return
        await asyncio.sleep(PAUSE)

    async def round(self) -> int:
        """Send what is due and has room; how many batches that were. Raises BrokerUnavailable, DocumentsUnavailable."""
        chosen = await self._choose()
        sent = 0
        for at in range(0, len(chosen), AT_ONCE):
            tasks = [self._send(batch_id) for batch_id in chosen[at : at + AT_ONCE]]
            outcomes = await asyncio.gather(*tasks, return_exceptions=True)
            sent += sum(outcome is True for outcome in outcomes)
            for outcome in outcomes:
                if isinstance(outcome, BaseException):
                    raise outcome
        return sent

    async def _choose(self) -> list[str]:
        """Ids of the batches to send now, fairest first."""
        by_org, by_file, by_domain = await self._in_flight()
        room = self._settings.batches_in_flight - by_org.total()
        if room <= 0:
            return []
        line = self._turns.line(await self._waiting(), by_org, by_file)
        due: dict[str, list[tuple[str, str]]] = {}
        chosen: list[str] = []
        while len(chosen) < room and (file := line.front()) is not None:
            if by_file[file.file_id] >= self._settings.batches_in_flight_per_file:
                line.leave(file)
                continue
            if file.file_id not in due:
                due[file.file_id] = await self._due(file.file_id, room, by_domain)
            batch_id = self._next(due[file.file_id], by_domain)
            if batch_id is None:
                line.leave(file)
                continue
            if file.file_id in self._queued:
                await self._start(file.file_id)
            chosen.append(batch_id)
            line.sent(file)
        return chosen

    def _next(self, due: list[tuple[str, str]], by_domain: Counter[str]) -> str | None:
        while due:
            batch_id, domain = due.pop()
            if not domain:
                return batch_id
            if by_domain[domain] < self._settings.batches_in_flight_per_domain:
                by_domain[domain] += 1
                return batch_id
        return None

    async def _in_flight(self) -> tuple[Counter[str], Counter[str], Counter[str]]:
        """Batches by organisation, by file and, of those with a single one, by domain."""
        by_org: Counter[str] = Counter()
        by_file: Counter[str] = Counter()
        by_domain: Counter[str] = Counter()
        dispatched = {"status": str(BatchStatus.DISPATCHED)}
        async for batch in self._documents.scan(BATCHES, dispatched, fields=("fileId", "orgId", "domain")):
            by_org[batch["orgId"]] += 1
            by_file[batch["fileId"]] += 1
            if domain := batch.get("domain"):
                by_domain[domain] += 1
        return by_org, by_file, by_domain

    async def _waiting(self) -> list[Waiting]:
        """Running files that are not known to be quiet."""
        now = self._clock()
        fields = ("orgId", "createdAt", "status")
        files = [file async for file in self._documents.scan(FILES, _RUNNING, sort="createdAt", fields=fields)]
        self._queued = {file["_id"] for file in files if file["status"] == FileStatus.QUEUED}
        names = {file["_id"] for file in files}
        self._quiet_until = {name: until for name, until in self._quiet_until.items() if name in names}
        self._turns.forget_all_but(names | {file["orgId"] for file in files})
        return [Waiting(file["_id"], file["orgId"]) for file in files if self._quiet_until.get(file["_id"], 0.0) <= now]

    async def _due(self, file_id: str, limit: int, by_domain: Counter[str]) -> list[tuple[str, str]]:
        """Due batches whose domain has room, with that domain, the next one at the end. Where there are none, remembers
        until when.

        What was put off comes before what was never sent, in the order in which it is due: servers that asked us to
        come again do not wait for the end of a long list.
        """
        now = self._clock()
        limit = min(limit, self._settings.batches_in_flight_per_file)
        again = QUIET
        busy = by_domain.copy()
        due: list[tuple[str, str]] = []
        for when in (Gte(NEVER_SENT), Lt(NEVER_SENT)):
            pending = {"fileId": file_id, "status": str(BatchStatus.PENDING), "dueAt": when}
            fields = ("dueAt", "domain")
            async for batch in self._documents.scan(BATCHES, pending, sort="dueAt", limit=AHEAD * limit, fields=fields):
                if batch["dueAt"] > now or len(due) == limit:
                    again = min(again, max(0.0, batch["dueAt"] - now))
                    break
                domain = batch.get("domain", "")
                if domain and busy[domain] >= self._settings.batches_in_flight_per_domain:
                    again = min(again, CROWDED)
                    continue
                busy[domain] += 1
                due.append((batch["_id"], domain))
        if not due:
            self._quiet_until[file_id] = now + again
        return due[::-1]

    async def _send(self, batch_id: str) -> bool:
        """Lease and publish one batch. False where another gateway was faster."""
        now = self._clock()
        lease = PUBLISH_LEASE if self._broker.survives_restart else self._settings.batch_lease
        leased = await self._documents.update(
            BATCHES,
            batch_id,
            Change(
                set={**DISPATCH.set, "leaseUntil": now + lease, "dispatchedAt": now, "confirmedAt": None},
                inc={"attempt": 1},
            ),
            {**DISPATCH.where, "dueAt": Lte(now)},
        )
        if leased is None:
            return False
        fence = {**TAKE_BACK.where, "attempt": leased["attempt"]}
        try:
            await self._broker.publish(WORK, self._message(leased), f"{batch_id}:{leased['attempt']}")
        except BrokerUnavailable:
            metrics.TAKEN_BACK.labels("unconfirmed").inc()
            await self._documents.update(BATCHES, batch_id, Change(set=TAKE_BACK.set), fence)
            raise
        metrics.DISPATCHED.inc()
        if self._broker.survives_restart:
            now = self._clock()
            confirmed = Change(set={"leaseUntil": now + self._settings.batch_lease, "confirmedAt": now})
            await self._documents.update(BATCHES, batch_id, confirmed, fence)
        return True

    async def _start(self, file_id: str) -> None:
        self._queued.discard(file_id)
        started = Change(set={**START.set, "startedAt": self._clock()})
        await self._documents.update(FILES, file_id, started, START.where)

    def _message(self, batch: Document) -> bytes:
        return WorkMessage(
            batch_id=batch["_id"],
            file_id=batch["fileId"],
            org_id=batch["orgId"],
            attempt=batch["attempt"],
            emails=batch["emails"],
            look=batch["look"],
            last_look=batch["look"] >= len(self._settings.retry_delays),
            trace=batch.get("trace", False),
        ).encode()
