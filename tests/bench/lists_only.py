"""Lists and DNS only: addresses whose domains take no mail (RFC 7505), so that no session follows.

Syntax, role, free and disposable lists, one look-up a domain, judging: everything but SMTP. `domains` is what costs:
each is one question to the lab's name server.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import time

from services.maillab.world import World
from shared.process import GC_THRESHOLDS
from tests.bench.measure import lab_of, table
from tests.bench.probe_engine import LabProcess, probe_of

BATCH = 500
AT_ONCE = 64


def mailless_world(domains: int) -> World:
    world = World()
    for number in range(domains):
        world.domain(f"d{number}.bench.test", null_mx=True)
    return world


async def _run(rows: int, domains: int) -> list[object]:
    each = rows // domains
    emails = [f"user{number}@d{number // each}.bench.test" for number in range(each * domains)]
    async with lab_of(mailless_world, domains=domains) as lab:
        known = LabProcess(lab.settings(), {}, None)  # type: ignore[arg-type]
        async with probe_of(known) as probe:
            batches = iter([emails[at : at + BATCH] for at in range(0, len(emails), BATCH)])

            async def work() -> int:
                found = 0
                for batch in batches:
                    results, _ = await probe.check_batch(batch, look=0, last_look=True, trace=False, deadline=600)
                    found += sum(result is not None and result.reason == "null_mx" for result in results)
                return found

            started, cpu = time.perf_counter(), time.process_time()
            found = sum(await asyncio.gather(*(work() for _ in range(AT_ONCE))))
            seconds, cpu = time.perf_counter() - started, time.process_time() - cpu
    if found != len(emails):
        raise RuntimeError(f"{found} of {len(emails)} verdicts right")
    return [f"{domains:,}", len(emails), len(emails) / seconds, cpu / len(emails) * 1e6]


async def main(arguments: list[str] | None = None) -> None:
    gc.set_threshold(*GC_THRESHOLDS)
    parser = argparse.ArgumentParser(prog="python -m tests.bench lists_only")
    parser.add_argument("--rows", type=int, default=100_000)
    told = parser.parse_args(arguments or [])
    rows = [await _run(told.rows, domains) for domains in (1_000, told.rows // 15)]
    print(table("lists and DNS only, one process", ("domains", "addresses", "addr/s", "us/addr"), rows))
