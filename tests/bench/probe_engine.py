"""The probe engine against the way everybody else does it: one connection for each address.

Both ask the same mail lab (a process of its own, on the other core where there is one) in the same run, with the same
cap of connections for each MX. What counts is the ratio; absolute numbers depend on the machine and on the lab, which
is written in Python too and is mostly the slower side. Rows: `naive` is aiosmtplib as its documentation shows it;
`engine` is MailHost and below, fed with recipients; `probe` is the whole of check_batch: syntax, lists, DNS, catch-
all, judging. `C` is a client in C that does nothing else than pipeline RCPT: on the lab it shows the lab's own limit.
The last tables are for comparing with it: mail hosts in C too, on a processor of their own. `C, our manners` sizes
its flights and ends its sessions as we do, so that few refusals come together ("refused": the most in one session).

`python -m tests.bench probe_engine [--rounds N]`: all ways take turns, N times. Rates are medians of the rounds and
ratios are medians of the ratios within one round, with the least and the most.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import multiprocessing
import os
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from multiprocessing.connection import Connection
from statistics import median
from typing import Any

import uvloop

from gateway.batches.store import GOLDEN_RATIO
from services.maillab.big import big_addresses, big_world
from services.maillab.lab import Lab
from shared.process import GC_THRESHOLDS
from shared.settings import Settings
from shared.verdict import Status
from tests.bench.c_yardstick import Sink, c_client, c_sink, why_not
from tests.bench.measure import table
from tests.bench.naive import reply_code
from validator.dns.resolver import Resolver
from validator.dns.route import MailHost as Host
from validator.egress.breaker import Breakers
from validator.egress.catch_all import CatchAllMemory
from validator.egress.identity import Identity
from validator.egress.limits import Limits
from validator.evidence import Attempt
from validator.probe import Probe
from validator.providers import load_providers
from validator.smtp.crowd import Crowd
from validator.smtp.mail_host import FLIGHTS
from validator.smtp.pace import FLIGHT, REJECTS, SESSION
from validator.smtp.recipient import Recipient

SLOTS = 2  # connections at once to one MX, for everybody
BATCH = 500
PREFETCH = 64


@dataclass
class Run:
    """One way of asking, and what it cost."""

    name: str
    addresses: int
    seconds: float
    cpu: float
    valid: int
    trips: float
    lab: dict[
        str, Any
    ]  # what the mail hosts saw: connections, peak at one host, worst, complaints; and their cpu seconds

    @property
    def rate(self) -> float:
        return self.addresses / self.seconds


# --- the lab's process ---


def _serve_lab(pipe: Connection, hosts: int, domains: int, rtt: float) -> None:
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})

    async def serve() -> None:
        world = big_world(domains, hosts, cap=SLOTS)
        async with Lab(world, rtt=rtt, keep="counts") as lab:
            pipe.send((lab.env(), {name: host.ip for name, host in world.hosts.items()}))
            loop = asyncio.get_running_loop()
            seen = 0
            while await loop.run_in_executor(None, pipe.recv):
                sessions = lab.log.sessions()[seen:]
                seen += len(sessions)
                peak = max(lab.log.peak_connections(name) for name in world.hosts)
                worst = max((session.reject_count for session in sessions), default=0)
                seen_now = {
                    "connections": len(sessions),
                    "peak": peak,
                    "worst": worst,
                    "complaints": len(lab.complaints()),
                }
                pipe.send(seen_now | {"cpu": time.process_time()})

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serve())


@dataclass
class LabProcess:
    settings: Settings
    addresses: dict[str, str]  # of hosts, by name
    pipe: Connection

    def count(self) -> dict[str, Any]:
        """Since the last call: `connections` and `worst`, the most refusals in one; in all: the others."""
        self.pipe.send(True)
        counted: dict[str, Any] = self.pipe.recv()
        return counted


class SinkProcess(LabProcess):
    """The lab with its name server, but with mail hosts in C at its addresses."""

    def __init__(self, lab: LabProcess, sink: Sink) -> None:
        settings = lab.settings.model_copy(update={"smtp_port": sink.port})
        super().__init__(settings, lab.addresses, lab.pipe)
        self._sink = sink

    def count(self) -> dict[str, Any]:
        counted = self._sink.count()
        return counted | {"complaints": counted["rude"]}


@asynccontextmanager
async def lab_process(hosts: int, domains: int, rtt: float) -> AsyncIterator[LabProcess]:
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_serve_lab, args=(theirs, hosts, domains, rtt), daemon=True)
    process.start()
    try:
        loop = asyncio.get_running_loop()
        env, addresses = await loop.run_in_executor(None, ours.recv)
        told = {name.removeprefix("MAILVET_").lower(): value for name, value in env.items()}
        limits = {"global_max_concurrency": 10_000, "per_mx_max_concurrency_default": SLOTS}
        yield LabProcess(Settings.load(_env_file=None, **told, **limits), addresses, ours)
        ours.send(False)
        await loop.run_in_executor(None, process.join, 10)
    finally:
        process.kill()


# --- ways of asking ---


def _mx_of(email: str, hosts: int) -> str:
    return f"mx{int(email.partition('@d')[2].partition('.')[0]) % hosts}.bench.test"


async def naive(lab: LabProcess, emails: list[str], hosts: int) -> int:
    """A connection for each address, SLOTS at once to each MX."""
    slots: dict[str, asyncio.Semaphore] = defaultdict(lambda: asyncio.Semaphore(SLOTS))

    async def ask(email: str) -> int:
        mx = _mx_of(email, hosts)
        async with slots[mx]:
            return await reply_code(lab.addresses[mx], lab.settings.smtp_port, email)

    return sum(code == 250 for code in await asyncio.gather(*map(ask, emails)))


class _Tally:
    """An asker that only counts."""

    closed = curious = traced = False

    def __init__(self, expected: int) -> None:
        self.expected = expected
        self.accepted_count = 0
        self.complete = asyncio.Event()

    def accepted(self) -> None:
        return None

    def answered(self, recipient: Recipient, attempt: Attempt) -> None:
        self.accepted_count += attempt.code == 250
        self.expected -= 1
        if not self.expected:
            self.complete.set()


@asynccontextmanager
async def probe_of(lab: LabProcess) -> AsyncIterator[Probe]:
    settings = lab.settings
    async with Resolver(settings) as resolver, Limits(settings, None) as limits, Breakers(None) as breakers:
        probe = Probe(
            settings=settings,
            routes=resolver,
            identity=Identity(settings),
            limits=limits,
            breakers=breakers,
            catch_all=CatchAllMemory(None),
            providers=load_providers(),
        )
        yield probe
        await probe.drain(10)


async def engine(lab: LabProcess, emails: list[str], hosts: int) -> int:
    tally = _Tally(len(emails))
    by_host: dict[str, list[Recipient]] = defaultdict(list)
    for index, email in enumerate(emails):
        by_host[_mx_of(email, hosts)].append(Recipient(email, tally, index))
    async with probe_of(lab) as probe:
        for mx, recipients in by_host.items():
            probe._host(Host(mx, 10, (lab.addresses[mx],))).ask(Crowd(tally, len(recipients), recipients.__getitem__))
        await tally.complete.wait()
    return tally.accepted_count


async def whole_probe(lab: LabProcess, emails: list[str], hosts: int) -> int:
    """check_batch as the worker calls it: batches of one list, in the order in which they are sent, PREFETCH at once."""
    ordered = sorted(emails, key=lambda email: email.partition("@")[2])
    cut = [ordered[start : start + BATCH] for start in range(0, len(ordered), BATCH)]
    batches = iter([batch for _, batch in sorted((no * GOLDEN_RATIO % 1.0, batch) for no, batch in enumerate(cut, 1))])
    valid = 0
    async with probe_of(lab) as probe:

        async def work() -> None:
            nonlocal valid
            for batch in batches:
                results, put_off = await probe.check_batch(batch, look=0, last_look=True, trace=False, deadline=600)
                valid += sum(result is not None and result.status is Status.VALID for result in results)
                if put_off:
                    raise RuntimeError("a healthy lab puts nothing off")

        async with asyncio.TaskGroup() as group:
            for number in range(PREFETCH):
                group.create_task(work(), name=f"bench-{number}")
    return valid


Way = Callable[[LabProcess, list[str], int], Awaitable[int]]


async def measure(name: str, way: Way, lab: LabProcess, emails: list[str], hosts: int) -> Run:
    before = lab.count()
    flights = FLIGHTS._value.get()
    started, cpu = time.perf_counter(), time.process_time()
    valid = await way(lab, emails, hosts)
    seconds, cpu = time.perf_counter() - started, time.process_time() - cpu
    seen = lab.count()
    # connect, banner and EHLO come before the flights; the naive way has MAIL, RCPT and QUIT behind them
    trips = 3 * seen["connections"] + (3 * len(emails) if way is naive else FLIGHTS._value.get() - flights)
    return _checked(Run(name, len(emails), seconds, cpu, valid, trips, _since(before, seen)), emails)


async def measure_c(name: str, refusals: int, lab: LabProcess, emails: list[str], hosts: int) -> Run:
    by_address: dict[str, list[str]] = defaultdict(list)
    for email in emails:
        by_address[lab.addresses[_mx_of(email, hosts)]].append(email)
    before = lab.count()
    told = await c_client(
        by_address, port=lab.settings.smtp_port, slots=SLOTS, flight=FLIGHT, recipients=SESSION, refusals=refusals
    )
    seen = lab.count()
    trips = 3 * seen["connections"] + told["flights"]
    run = Run(name, len(emails), told["seconds"], told["cpu"], told["valid"], trips, _since(before, seen))
    return _checked(run, emails)


def _since(before: dict[str, Any], seen: dict[str, Any]) -> dict[str, Any]:
    return seen | {"cpu": seen["cpu"] - before["cpu"]}


def _checked(run: Run, emails: list[str]) -> Run:
    expected = sum(email.startswith("user") for email in emails)
    if run.valid != expected:
        raise RuntimeError(f"{run.name}: {run.valid} of {expected} found valid")
    if run.lab["peak"] > SLOTS:
        raise RuntimeError(f"{run.name}: {run.lab['peak']} connections at once to one MX")
    return run


Turn = Callable[[], Awaitable[Run]]


async def take_turns(turns: list[Turn], rounds: int) -> list[list[Run]]:
    """The runs of each, in the order of `turns`."""
    return [list(runs) for runs in zip(*[[await turn() for turn in turns] for _ in range(rounds)], strict=True)]


def shown(title: str, all_runs: list[list[Run]], against: str) -> str:
    """`against`: what the ratios are to, and the first of the runs."""
    columns = (
        "", "addr/s", f"x {against}", "from, to", "CPU us/addr", "hosts us/addr", "conn/addr", "trips/addr", "peak/MX", "refused",
    )  # fmt: skip
    rows: list[list[object]] = []
    for runs in all_runs:
        ratios = [run.rate / first.rate for run, first in zip(runs, all_runs[0], strict=True)]
        each = [
            [run.cpu * 1e6, run.lab["cpu"] * 1e6, run.lab["connections"], run.trips] for run in runs
        ]  # fmt: skip
        rows.append(
            [
                runs[0].name, median(run.rate for run in runs), median(ratios),
                f"{min(ratios):.3g} to {max(ratios):.3g}",
                *[median(values) / runs[0].addresses for values in zip(*each, strict=True)],
                *[max(run.lab[what] for run in runs) for what in ("peak", "worst")],
            ]
        )  # fmt: skip
    return table(title, columns, rows)


async def compare(*, rtt: float, hosts: int, few: int, many: int, bad: float, rounds: int, has_c: bool) -> str:
    """`few` addresses for the slow way, `many` for ours; `bad`: share of mailboxes that do not exist."""
    some, emails = (list(big_addresses(count, domains=hosts, bad=bad)) for count in (few, many))
    async with lab_process(hosts, hosts, rtt) as lab:
        turns: list[Turn] = [
            partial(measure, "naive aiosmtplib", naive, lab, some, hosts),
            partial(measure, "engine", engine, lab, emails, hosts),
            partial(measure, "probe", whole_probe, lab, emails, hosts),
        ]
        if has_c:
            turns.append(partial(measure_c, "C, our manners", REJECTS, lab, emails, hosts))
        runs = await take_turns(turns, rounds)
    return shown(f"{rtt * 1000:.0f} ms round trip, {_setting(hosts, bad)}", runs, "naive")


async def compare_with_c(*, hosts: int, many: int, bad: float, rounds: int) -> str:
    """All ask mail hosts in C; the clients in C about four times as many, or they would be done too soon to tell."""
    emails, more = (list(big_addresses(count, domains=hosts, bad=bad)) for count in (many, 4 * many))
    async with lab_process(hosts, hosts, 0.0) as lab:
        with c_sink(lab.addresses.values()) as sink:
            fast = SinkProcess(lab, sink)
            turns: list[Turn] = [
                partial(measure_c, "C", 0, fast, more, hosts),
                partial(measure_c, "C, our manners", REJECTS, fast, more, hosts),
                partial(measure, "engine", engine, fast, emails, hosts),
                partial(measure, "probe", whole_probe, fast, emails, hosts),
            ]
            runs = await take_turns(turns, rounds)
    return shown(f"Mail hosts in C, 0 ms, {_setting(hosts, bad)}", runs, "C")


def _setting(hosts: int, bad: float) -> str:
    return f"{hosts} MX, {SLOTS} connections each, {bad:.0%} unknown mailboxes"


async def main(arguments: list[str] | None = None) -> None:
    """Print one table for each round trip time and share of unknown mailboxes, on the lab and on mail hosts in C."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench probe_engine")
    parser.add_argument("--rounds", type=int, default=3)
    rounds = parser.parse_args(arguments or []).rounds
    gc.set_threshold(*GC_THRESHOLDS)  # as every process of ours
    reason = why_not()
    cases: list[dict[str, Any]] = [
        {"rtt": 0.0, "hosts": 100, "few": 4_000, "many": 50_000, "bad": 0.05},
        {"rtt": 0.0, "hosts": 100, "few": 4_000, "many": 50_000, "bad": 0.2},
        {"rtt": 0.05, "hosts": 100, "few": 1_500, "many": 60_000, "bad": 0.05},
        {"rtt": 0.05, "hosts": 100, "few": 1_500, "many": 60_000, "bad": 0.2},
    ]
    for case in cases:
        print(await compare(**case, rounds=rounds, has_c=reason is None))
    if reason is not None:
        print(f"no comparison with C: {reason}\n")
        return
    for bad in (0.05, 0.2):
        print(await compare_with_c(hosts=100, many=100_000, bad=bad, rounds=rounds))


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main())
