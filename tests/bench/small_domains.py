"""The worst list there is: one address a domain, each domain with a mail host of its own, so a connection an address.

Nothing can be shared then; what is left is how cheap a session is. Both sides ask the same lab in the same run. Ours
asks a random address at each domain on top (in the same session); the other side does not.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import time
from typing import Any

from services.maillab.big import big_addresses, big_world
from shared.process import GC_THRESHOLDS
from shared.verdict import Status
from tests.bench.measure import LabInfo, lab_of, table
from tests.bench.probe_engine import LabProcess, naive, probe_of

HOSTS = 1_000
BATCH = 500
ROUNDS = 5


async def _ours(lab: LabProcess, emails: list[str]) -> int:
    """Every round asks each domain about another address, after a fresh start: nothing is known from before."""
    valid = 0
    for start in range(0, len(emails), HOSTS):
        async with probe_of(lab) as probe:
            batches = [emails[at : at + BATCH] for at in range(start, start + HOSTS, BATCH)]
            for results, put_off in await asyncio.gather(
                *(probe.check_batch(batch, look=0, last_look=True, trace=False, deadline=600) for batch in batches)
            ):
                valid += sum(result is not None and result.status is Status.VALID for result in results)
                if put_off:
                    raise RuntimeError("a healthy lab puts nothing off")
    return valid


async def compare(rtt: float, rounds: int) -> str:
    emails = list(big_addresses(HOSTS * rounds, domains=HOSTS, bad=0.2))
    expected = sum(email.startswith("user") for email in emails)
    rows: list[list[Any]] = []
    async with lab_of(big_world, rtt=rtt, domains=HOSTS, hosts=HOSTS) as lab:
        known = LabProcess(lab.settings(global_max_concurrency=10_000), lab.addresses, None)  # type: ignore[arg-type]
        rows += [
            await _measured("one connection an address", lab, len(emails), naive(known, emails, HOSTS), expected),
            await _measured("ours", lab, len(emails), _ours(known, emails), expected),
        ]
        if lab.seen()["complaints"]:
            raise RuntimeError("bad manners")
    for row in rows:
        row.insert(2, row[1] / rows[0][1])
    columns = ("", "addr/s", "x", "us/addr", "conn/addr")
    return table(f"one address a domain and connection, {rtt * 1000:.0f} ms, {HOSTS:,} domains", columns, rows)


async def _measured(name: str, lab: LabInfo, count: int, work: Any, expected: int) -> list[Any]:
    before = lab.seen()["connections"]
    started, cpu = time.perf_counter(), time.process_time()
    valid = await work
    seconds, cpu = time.perf_counter() - started, time.process_time() - cpu
    if valid != expected:
        raise RuntimeError(f"{name}: {valid} of {expected} found valid")
    return [name, count / seconds, cpu / count * 1e6, (lab.seen()["connections"] - before) / count]


async def main(arguments: list[str] | None = None) -> None:
    gc.set_threshold(*GC_THRESHOLDS)
    parser = argparse.ArgumentParser(prog="python -m tests.bench small_domains")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    told = parser.parse_args(arguments or [])
    for rtt in (0.0, 0.05):
        print(await compare(rtt, told.rounds))
