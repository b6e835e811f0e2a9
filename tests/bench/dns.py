"""The resolver against dnspython: MX look-ups of names that are all different, from the lab's name server."""

from __future__ import annotations

import argparse
import asyncio
import gc
import time
from collections.abc import Awaitable, Callable, Sequence

import dns.asyncresolver

from services.maillab.world import World
from shared.process import GC_THRESHOLDS
from tests.bench.lists_only import mailless_world
from tests.bench.measure import LabInfo, lab_of, table
from validator.dns.resolver import Resolver

AT_ONCE = 200


async def _each(names: Sequence[str], ask: Callable[[str], Awaitable[bool]]) -> list[float]:
    """Look-ups a second and processor microseconds for each. Raises RuntimeError for a wrong answer."""
    waiting = iter(names)

    async def work() -> int:
        right = 0
        for name in waiting:
            right += await ask(name)
        return right

    started, cpu = time.perf_counter(), time.process_time()
    right = sum(await asyncio.gather(*(work() for _ in range(AT_ONCE))))
    seconds, cpu = time.perf_counter() - started, time.process_time() - cpu
    if right != len(names):
        raise RuntimeError(f"{right} of {len(names)} answers right")
    return [len(names) / seconds, cpu / len(names) * 1e6]


async def _ours(lab: LabInfo, names: Sequence[str]) -> list[float]:
    async with Resolver(lab.settings()) as resolver:

        async def ask(name: str) -> bool:
            return (await resolver.mail_route(name)).outcome == "null_mx"

        return await _each(names, ask)


async def _dnspython(lab: LabInfo, names: Sequence[str]) -> list[float]:
    address, _, port = lab.env["MAILVET_DNS_NAMESERVERS"].rpartition(":")
    resolver = dns.asyncresolver.Resolver(configure=False)
    resolver.nameservers, resolver.port = [address], int(port)

    async def ask(name: str) -> bool:
        return (await resolver.resolve(name, "MX"))[0].exchange.to_text() == "."

    return await _each(names, ask)


async def main(arguments: list[str] | None = None) -> None:
    gc.set_threshold(*GC_THRESHOLDS)
    parser = argparse.ArgumentParser(prog="python -m tests.bench dns")
    parser.add_argument("--names", type=int, default=20_000)
    told = parser.parse_args(arguments or [])
    world: Callable[..., World] = mailless_world
    async with lab_of(world, domains=told.names) as lab:
        names = [f"d{number}.bench.test" for number in range(told.names)]
        theirs = await _dnspython(lab, names[: told.names // 10])
        ours = await _ours(lab, names)
    rows = [["dnspython", theirs[0], 1.0, theirs[1]], ["ours", ours[0], ours[0] / theirs[0], ours[1]]]
    print(table(f"MX of {told.names:,} names, {AT_ONCE} at once", ("resolver", "names/s", "x", "us/name"), rows))
