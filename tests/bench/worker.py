"""A validator between its queues: work from a quorum queue, SMTP, results into a quorum queue, confirmed, then the ack.

`python -m tests.bench worker [--rows N] [--rtt MS ...]`. A RabbitMQ and a Valkey of their own, the lab in a process of
its own, the validator alone in a process as `mailvet validator` runs it. The floor is the same worker with the probe
that everybody writes first: aiosmtplib, a connection for each address, the same cap for each MX. `in flight`: addresses
of the batches that the worker held at once.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import gc
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiosmtplib
import msgspec

from services.maillab.big import big_addresses, big_world
from shared.broker.rabbitmq import RabbitBroker
from shared.http_server import bind
from shared.messages import PutOff, ResultMessage, WorkMessage
from shared.process import GC_THRESHOLDS
from shared.redis_client import connect
from shared.settings import Settings
from shared.topology import RESULTS, WORK
from shared.verdict import Finding, Reason, RiskLevel, Status, Verdict
from shared.verdicts import Verdicts
from tests.bench.measure import LabInfo, lab_of, peak_rss, run_apart, table
from tests.servers import RabbitServer, ValkeyServer
from validator.progress import ProgressReporter
from validator.serve import running_validator
from validator.verdict_cache import VerdictCache
from validator.worker import Worker

HOSTS = 1_000
BATCH = 500
SLOTS = 2
PREFETCH = 256
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
            client = aiosmtplib.SMTP(
                hostname=self.addresses[mx], port=self.settings.smtp_port, start_tls=False, local_hostname="probe.test"
            )
            await client.connect()
            await client.ehlo()
            await client.mail("")
            try:
                code = (await client.rcpt(email)).code
            except aiosmtplib.SMTPRecipientRefused as error:
                code = error.code
            await client.quit()
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


def _batches(rows: int) -> list[bytes]:
    emails = sorted(big_addresses(rows, domains=HOSTS), key=lambda email: email.partition("@")[2])
    return [
        WorkMessage(
            batch_id=f"b{start}",
            file_id="f",
            org_id="o",
            attempt=1,
            emails=emails[start : start + BATCH],
            last_look=True,
        ).encode()
        for start in range(0, rows, BATCH)
    ]


async def _publish(rows: int, amqp_url: str) -> None:
    """By another process than the validator's, whose memory is measured."""
    async with RabbitBroker(amqp_url) as broker:
        await asyncio.gather(*(broker.publish(WORK, body, str(at)) for at, body in enumerate(_batches(rows))))


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
        rss = peak_rss()
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


async def _run(kind: str, rows: int, lab: LabInfo, settings: dict[str, Any]) -> dict[str, Any]:
    command = run_apart("tests.bench.worker", kind=kind, rows=rows, settings=settings, addresses=lab.addresses)
    await _publish(rows, settings["amqp_url"])
    before = lab.seen()
    process = await asyncio.create_subprocess_exec(sys.executable, *command, stdout=asyncio.subprocess.PIPE)
    try:
        out, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if process.returncode:
        raise RuntimeError(f"the {kind} worker failed")
    run: dict[str, Any] = msgspec.json.decode(out.splitlines()[-1])
    seen = lab.seen()
    expected = sum(email.startswith("user") for email in big_addresses(rows, domains=HOSTS))
    if run["reasons"].get("accepted") != expected:
        raise RuntimeError(f"{kind}: {expected} are there, found {run['reasons']}")
    if kind == "ours" and seen["complaints"]:
        raise RuntimeError(f"{seen['complaints']} complaints")
    return run | {"connections": (seen["connections"] - before["connections"]) / rows, "peak": seen["peak"]}


async def _compare(rtt: float, rows: int, few: int, rabbit: RabbitServer, valkey: ValkeyServer) -> str:
    async with lab_of(big_world, rtt=rtt, domains=HOSTS, hosts=HOSTS) as lab:
        settings = {name.removeprefix("MAILVET_").lower(): value for name, value in lab.env.items()} | {
            "amqp_url": rabbit.url,
            "redis_url": valkey.url,
            "internal_token": "bench-internal-token",
            "global_max_concurrency": SLOTS * HOSTS,
            "log_level": "warning",
        }
        ours = await _run("ours", rows, lab, settings | {"validator_prefetch": PREFETCH})
        again = await _run("ours", rows, lab, settings | {"validator_prefetch": PREFETCH})
        many = min(rows // BATCH, 600)
        full = await _run("ours", rows, lab, settings | {"validator_prefetch": many, "result_cache_ttl": 0})
        floor = await _run("naive", few, lab, settings | {"validator_prefetch": PREFETCH})
    named = (
        (f"ours, {PREFETCH} batches at once", min(PREFETCH * BATCH, rows), ours),
        ("ours, the same list again", min(PREFETCH * BATCH, rows), again),
        (f"ours, {many} batches at once, no cache", many * BATCH, full),
        ("one connection an address", min(PREFETCH * BATCH, few), floor),
    )
    least = floor["rows"] / floor["seconds"]
    columns = ("worker", "in flight", "addr/s", "x floor", "us/addr", "conn/addr", "peak/MX", "RSS MB")
    return table(
        f"worker between quorum queues, {rtt * 1000:.0f} ms, {HOSTS:,} MX, {SLOTS} connections each, 20% unknown mailboxes",
        columns,
        [
            (
                name,
                held,
                run["rows"] / run["seconds"],
                run["rows"] / run["seconds"] / least,
                run["cpu"] / run["rows"] * 1e6,
                run["connections"],
                run["peak"],
                run["rss"],
            )
            for name, held, run in named
        ],
    )


async def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.bench worker")
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--few", type=int, default=4_000, help="addresses for the floor")
    parser.add_argument("--rtt", type=float, nargs="+", default=[0, 50], help="milliseconds")
    told = parser.parse_args(arguments or [])
    if missing := RabbitServer.missing() or ValkeyServer.missing():
        print(f"worker: {missing}\n")
        return
    with tempfile.TemporaryDirectory() as folder:
        rabbit, valkey = RabbitServer(Path(folder) / "rabbit"), ValkeyServer(Path(folder) / "valkey")
        try:
            await rabbit.start()
            await valkey.start()
            for rtt in told.rtt:
                async with connect(valkey.url) as redis:
                    await redis.flushall()
                print(await _compare(rtt / 1000, told.rows, told.few, rabbit, valkey))
        finally:
            await rabbit.stop()
            await valkey.stop()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1:]))
