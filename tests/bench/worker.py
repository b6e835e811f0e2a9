"""A validator between its queues: work from a quorum queue, SMTP, results into a quorum queue, confirmed, then the ack.

`python -m tests.bench worker [--rows N] [--rtt MS ...]`. A RabbitMQ and a Valkey of their own, the lab in a process of
its own, the validator alone in a process as `mailvet validator` runs it. The floor is the same worker with the probe
that everybody writes first: aiosmtplib, a connection for each address, the same cap for each MX. `in flight`: addresses
of the batches that the worker held at once.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
from pathlib import Path
from typing import Any

import msgspec

from services.maillab.big import big_addresses, big_world
from shared.broker.rabbitmq import RabbitBroker
from shared.messages import WorkMessage
from shared.redis_client import connect
from shared.topology import WORK
from tests.bench.measure import LabInfo, lab_of, run_apart, table
from tests.bench.worker_process import BATCH, HOSTS, SLOTS
from tests.servers import RabbitServer, ValkeyServer

PREFETCH = 256


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


async def _run(kind: str, rows: int, lab: LabInfo, settings: dict[str, Any]) -> dict[str, Any]:
    command = run_apart("tests.bench.worker_process", kind=kind, rows=rows, settings=settings, addresses=lab.addresses)
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
