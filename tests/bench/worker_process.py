"""The process of the worker's benchmark: it holds what a validator holds and no more, because its memory is measured."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import resource
import time
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any

import msgspec

from shared.broker.rabbitmq import RabbitBroker
from shared.http_server import bind
from shared.messages import PutOff, ResultMessage
from shared.process import GC_THRESHOLDS
from shared.redis_client import connect
from shared.settings import Settings
from shared.topology import RESULTS
from shared.verdict import Finding, Reason, RiskLevel, Status, Verdict
from shared.verdicts import Verdicts
from tests.bench.naive import reply_code
from validator.progress import ProgressReporter
from validator.serve import running_validator
from validator.verdict_cache import VerdictCache
from validator.worker import Worker

HOSTS = 1_000
BATCH = 500
SLOTS = 2
LOOK = 0.02  # seconds between two looks at the queue of results


@dataclass
class Naive:
    """BatchProber: a connection for each address."""

    settings: Settings
    addresses: dict[str, str]

    def __post_init__(self) -> None:
        self._slots: dict[str, asyncio.Semaphore] = defaultdict(lambda: asyncio.Semaphore(SLOTS))

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
    ) -> tuple[Verdicts, list[PutOff]]:
        return Verdicts.of(emails, await asyncio.gather(*map(self._ask, emails))), []

    async def _ask(self, email: str) -> Verdict:
        mx = f"mx{int(email.partition('@d')[2].partition('.')[0]) % HOSTS}.bench.test"
        async with self._slots[mx]:
            code = await reply_code(self.addresses[mx], self.settings.smtp_port, email)
        finding = Finding(
            status=Status.VALID if code == 250 else Status.INVALID,
            reason=Reason.ACCEPTED if code == 250 else Reason.MAILBOX_MISSING,
            risk_level=RiskLevel.LOW,
            score=50,
        )
        return Verdict(email=email, normalized=email, finding=finding, checked_at="2026-01-01T00:00:00Z")


@contextlib.asynccontextmanager
async def _naive_worker(settings: Settings, broker: RabbitBroker, addresses: dict[str, str]) -> AsyncIterator[None]:
    redis = connect(str(settings.redis_url))
    worker = Worker(
        broker=broker,
        probe=Naive(settings, addresses),
        cache=VerdictCache(redis, ttl=0, secret="bench"),
        progress=ProgressReporter(redis),
        prefetch=settings.validator_prefetch,
        batch_deadline=settings.batch_deadline,
    )
    task = asyncio.create_task(worker.run(), name="worker")
    try:
        yield
    finally:
        worker.stop()
        await task
        await redis.aclose()


async def case(*, kind: str, rows: int, settings: dict[str, Any], addresses: dict[str, str]) -> dict[str, float]:
    """Runs in the validator's process: until every batch has its result."""
    gc.set_threshold(*GC_THRESHOLDS)
    told = Settings.load(_env_file=None, **settings)
    wanted = -(-rows // BATCH)
    async with RabbitBroker(str(told.amqp_url)) as broker:
        bound = bind("127.0.0.1", 0, "bench")
        started, cpu = time.perf_counter(), time.process_time()
        opened = running_validator(told, broker, bound) if kind == "ours" else _naive_worker(told, broker, addresses)
        async with opened:
            while await broker.depth(RESULTS) < wanted:
                await asyncio.sleep(LOOK)
            seconds, cpu = time.perf_counter() - started, time.process_time() - cpu
        bound.close()
        rss = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024  # MB
        reasons = await _count_reasons(broker, wanted)
    return {"rows": rows, "seconds": seconds, "cpu": cpu, "rss": rss, "reasons": reasons}


async def _count_reasons(broker: RabbitBroker, wanted: int) -> dict[str, int]:
    reasons: Counter[str] = Counter()
    async with broker.subscribe(RESULTS, 16) as deliveries:
        async for delivery in deliveries:
            message = msgspec.json.decode(delivery.body, type=ResultMessage)
            reasons.update("put_off" if at is None else str(message.findings[at].reason) for at in message.found)
            await delivery.ack()
            wanted -= 1
            if not wanted:
                break
    return dict(reasons)
