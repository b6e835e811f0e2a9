"""The whole system as `mailvet serve` runs it, before the lab: upload, batches, probing, recording, the end of the file.

`python -m tests.bench whole [--rows N ...] [--rtt MS]`. One list of N addresses for each N, in a fresh data folder, with the
settings as they are by default; the lab is a process of its own, and both share the machine's processors. Columns:
`x time`: seconds an address, as a multiple of the first row's (1 is linear); processor microseconds an address in the
validator's process, the server's (gateway and document store), the embedded Redis and the lab; `msg/addr`: messages
through the broker, work and results.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx

from services.maillab.big import big_list, big_world
from tests.bench.measure import LabInfo, children_of, cpu_of, lab_of, peak_rss, table

DOMAINS = HOSTS = 1_000
ROWS = (10_000, 50_000)
PAUSE = 0.1  # seconds between two looks at the file
PATIENCE = 900.0  # seconds for a file


@contextlib.asynccontextmanager
async def serving(folder: Path, lab: LabInfo, **settings: str) -> AsyncIterator[tuple[int, httpx.AsyncClient]]:
    """`mailvet serve` on `folder`: its pid, and a client of it."""
    command = (str(Path(sys.executable).with_name("mailvet")), "serve", "--port", "0", "--data", str(folder / "data"))
    environment = {**os.environ, **lab.env, "MAILVET_LOG_LEVEL": "warning", **settings}
    process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE, env=environment)
    assert process.stdout is not None
    try:
        url = ""
        while not url:
            line = (await process.stdout.readline()).decode()
            if not line:
                raise RuntimeError("mailvet serve did not start")
            url = line.split()[1].rstrip("/") if line.strip().startswith("dashboard") else ""
        async with httpx.AsyncClient(base_url=url, timeout=600) as client:
            yield process.pid, client
        process.terminate()
        await process.wait()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def one_list(rows: int, folder: Path, lab: LabInfo, **settings: str) -> dict[str, Any]:
    """What a list of `rows` addresses costs. Raises RuntimeError for a verdict too few or bad manners."""
    path = folder / "list.csv"
    known = big_list(rows, path, domains=DOMAINS).known
    async with serving(folder, lab, **settings) as (pid, client):
        before = _costs(pid, lab)
        seen = lab.seen()
        started = time.perf_counter()
        with path.open("rb") as file:
            answer = await client.post("/api/v1/files", files={"file": ("list.csv", file)})
        answer.raise_for_status()
        uploaded = time.perf_counter()
        state = await _finished(client, answer.json()["fileId"], uploaded + PATIENCE)
        ended = time.perf_counter()
        after = _costs(pid, lab)
        rss = peak_rss(pid), peak_rss(_validator_of(pid))
    now = lab.seen()
    if now["complaints"] or (state["valid"], state["processed"]) != (known, rows):
        raise RuntimeError(f"{now['complaints']} complaints, {state['valid']} of {known} valid")
    return {
        "rows": rows,
        "upload": uploaded - started,
        "seconds": ended - uploaded,
        "cpu": {name: (after[name] - before[name]) / rows * 1e6 for name in after},
        "messages": 2 * state["totalBatches"] / rows,
        "connections": (now["connections"] - seen["connections"]) / rows,
        "peak": now["peak"],
        "rss": rss,
    }


async def _finished(client: httpx.AsyncClient, file_id: str, deadline: float) -> dict[str, Any]:
    while time.perf_counter() < deadline:
        state: dict[str, Any] = (await client.get(f"/api/v1/files/{file_id}")).json()
        if state["status"] == "completed":
            return state
        await asyncio.sleep(PAUSE)
    raise RuntimeError(f"not done in time: {state['processed']} of {state['totalEmails']}")


def _costs(pid: int, lab: LabInfo) -> dict[str, float]:
    children = children_of(pid)
    redis = sum(cpu_of(child) for child, name in children.items() if "valkey" in name)
    return {"validator": cpu_of(_validator_of(pid)), "server": cpu_of(pid), "redis": redis, "lab": cpu_of(lab.pid)}


def _validator_of(pid: int) -> int:
    """The child that runs the validator."""
    commands = {child: Path(f"/proc/{child}/cmdline").read_bytes() for child in children_of(pid)}
    return next(child for child, command in commands.items() if b"services.standalone.validator" in command)


async def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.bench whole")
    parser.add_argument("--rows", type=int, nargs="+", default=ROWS)
    parser.add_argument("--rtt", type=float, default=0, help="milliseconds until the lab answers")
    parser.add_argument("--set", action="append", default=[], metavar="MAILVET_NAME=VALUE", help="a setting")
    told = parser.parse_args(arguments or [])
    settings = dict(pair.split("=", 1) for pair in told.set)
    runs: list[dict[str, Any]] = []
    for rows in told.rows:
        with tempfile.TemporaryDirectory() as folder:
            async with lab_of(big_world, rtt=told.rtt / 1000, domains=DOMAINS, hosts=HOSTS) as lab:
                runs.append(await one_list(rows, Path(folder), lab, **settings))
    columns = (
        "rows", "upload s", "run s", "addr/s", "x time", "us validator", "us server", "us redis", "us lab", "msg/addr", "conn/addr",
        "peak/MX", "RSS MB server", "validator",
    )  # fmt: skip
    first = runs[0]["seconds"] / runs[0]["rows"]
    print(
        table(
            f"whole system: mailvet serve, {HOSTS:,} MX, 2 connections each, {told.rtt:g} ms, 20% unknown mailboxes, "
            f"{os.cpu_count()} processors, " + (" ".join(told.set) or "default settings"),
            columns,
            [
                (
                    f"{run['rows']:,}",
                    run["upload"],
                    run["seconds"],
                    run["rows"] / run["seconds"],
                    run["seconds"] / run["rows"] / first,
                    *run["cpu"].values(),
                    run["messages"],
                    run["connections"],
                    run["peak"],
                    *run["rss"],
                )
                for run in runs
            ],
        )
    )


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1:]))
