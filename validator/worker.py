"""Batches in, verdicts out: the loop between the queue of work and the queue of results.

Order, for each batch: decode -> reuse cached verdicts -> probe the rest -> publish the results (confirmed) -> remember
the definite ones -> acknowledge the work. A death anywhere before the acknowledgement means that the broker hands the
batch to another validator; a death after the results were confirmed means a second, equal result, which the gateway
ignores. A batch may therefore be probed twice, and no address is ever lost.

Stopping: nothing new is fetched, what was fetched but not begun goes back to the queue, running batches get
DRAIN_SECONDS to finish, and what is left then goes back to the queue too.
"""

from __future__ import annotations

import asyncio
from collections import Counter as Counts
from collections.abc import Callable, Sequence
from typing import Protocol

import msgspec
import structlog
from prometheus_client import Counter, Gauge

from shared.broker import Broker, Delivery
from shared.errors import BrokerUnavailable, MessageUndecodable
from shared.logs import get_log
from shared.messages import PutOff, ResultMessage, WorkMessage
from shared.topology import RESULTS, WORK
from shared.verdict import Verdict
from shared.verdicts import Verdicts
from validator.progress import ProgressReporter
from validator.verdict_cache import VerdictCache

log = get_log("validator.worker")

FAULT_PAUSE = 2.0  # seconds before a batch that failed by a fault of ours goes back: its deliveries are counted
DRAIN_SECONDS = 25.0  # below the 30 s that container platforms grant between SIGTERM and SIGKILL

BATCHES = Counter("mailvet_validator_batches_total", "Batches by how they ended", ["outcome"])
ADDRESSES = Counter("mailvet_validator_addresses_total", "Addresses answered, by status", ["status"])
RUNNING = Gauge("mailvet_validator_batches_running", "Batches being probed now")


class BatchProber(Protocol):
    """What the worker needs of the probe (validator.probe.Probe)."""

    async def check_batch(
        self,
        emails: list[str],
        *,
        look: int,
        last_look: bool,
        trace: bool,
        deadline: float,
        on_progress: Callable[[int], None] | None = None,
        file_id: str = "",
        urgent: bool = False,
    ) -> tuple[Verdicts, list[PutOff]]: ...


class Worker:
    """Runs batches until stopped. One for each validator process."""

    def __init__(
        self,
        *,
        broker: Broker,
        probe: BatchProber,
        cache: VerdictCache,
        progress: ProgressReporter,
        prefetch: int,
        batch_deadline: float,
        fault_pause: float = FAULT_PAUSE,
    ) -> None:
        self._broker = broker
        self._probe = probe
        self._cache = cache
        self._progress = progress
        self._prefetch = prefetch
        self._batch_deadline = batch_deadline
        self._fault_pause = fault_pause
        self._running: set[asyncio.Task[None]] = set()
        self._stop = asyncio.Event()

    def stop(self) -> None:
        """Ask `run` to end; repeatable."""
        self._stop.set()

    async def run(self) -> None:
        """Consume until `stop`; then drain. Raises BrokerUnavailable only when the first connection fails."""
        async with self._broker.subscribe(WORK, self._prefetch) as deliveries:
            stopping = asyncio.create_task(self._stop.wait(), name="worker-stop")
            stopping.add_done_callback(lambda _: asyncio.ensure_future(deliveries.stop()))
            try:
                async for delivery in deliveries:
                    task = asyncio.create_task(self._handle(delivery), name=f"batch-{delivery.message_id}")
                    self._running.add(task)
                    task.add_done_callback(self._running.discard)
            finally:
                stopping.cancel()
                await self._drain()

    async def _drain(self) -> None:
        if not self._running:
            return
        _, late = await asyncio.wait(set(self._running), timeout=DRAIN_SECONDS)
        for task in late:
            task.cancel()
        if late:
            log.warning("drain_gave_up", batches=len(late))
            await asyncio.gather(*late, return_exceptions=True)

    async def _handle(self, delivery: Delivery) -> None:
        """One batch. This is the worker's outer boundary: whatever goes wrong in it costs only this delivery."""
        try:
            work = WorkMessage.decode(delivery.body)
        except MessageUndecodable as error:
            BATCHES.labels("undecodable").inc()
            log.warning("work_undecodable", message_id=delivery.message_id, why=str(error))
            await delivery.dead_letter(str(error))
            return
        structlog.contextvars.bind_contextvars(file_id=work.file_id, batch_id=work.batch_id)
        with RUNNING.track_inprogress():
            try:
                await self._verify(work)
            except BrokerUnavailable:
                BATCHES.labels("unpublished").inc()
                log.warning("results_unpublished")
                await delivery.requeue()
            except Exception as error:
                BATCHES.labels("failed").inc()
                log.exception("batch_failed", error=type(error).__name__)
                await self._pause()
                await delivery.requeue()
            else:
                BATCHES.labels("reported").inc()
                await delivery.ack()

    async def _pause(self) -> None:
        """Ends early when the worker is told to stop."""
        try:
            async with asyncio.timeout(self._fault_pause):
                await self._stop.wait()
        except TimeoutError:
            return

    async def _verify(self, work: WorkMessage) -> None:
        cached = await self._cache.recall(work.org_id, work.emails) if not work.trace else {}
        asked: Sequence[int] = range(len(work.emails))
        emails = work.emails
        if cached:
            asked = [index for index in asked if index not in cached]
            emails = [work.emails[index] for index in asked]
        fresh = Verdicts(emails)
        put_off: list[PutOff] = []
        if asked:
            fresh, put_off = await self._probe.check_batch(
                emails,
                look=work.look,
                last_look=work.last_look,
                trace=work.trace,
                deadline=self._batch_deadline,
                on_progress=self._progress.of_batch(work.file_id, work.batch_id, work.attempt, already=len(cached)),
                file_id=work.file_id,
            )
            put_off = [msgspec.structs.replace(late, index=asked[late.index]) for late in put_off]
        verdicts = _joined(work.emails, cached, asked, fresh) if cached else fresh
        message = ResultMessage.about(work, verdicts, put_off)
        await self._broker.publish(RESULTS, message.encode(), f"{work.batch_id}:{work.attempt}")
        self._progress.forget(work.batch_id)
        for status, count in Counts(finding.status for finding in verdicts.findings if finding is not None).items():
            ADDRESSES.labels(status.value).inc(count)
        await self._cache.remember(work.org_id, fresh)


def _joined(emails: list[str], cached: dict[int, Verdict], asked: Sequence[int], fresh: Verdicts) -> Verdicts:
    verdicts = Verdicts(emails)
    for index, verdict in (*cached.items(), *zip(asked, fresh, strict=True)):
        if verdict is not None:
            verdicts[index] = verdict
    return verdicts
