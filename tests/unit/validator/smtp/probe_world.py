"""A whole probe over scripted peers in virtual time: real limits, breakers, memory, sessions; no network, no waiting."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any

from shared.messages import PutOff
from shared.settings import Settings
from shared.verdict import Result
from tests.unit.validator.smtp.scripted_peer import Peer, Wire
from tests.unit.validator.smtp.virtual_time import run_virtually
from validator.dns.route import MailHost, MailRoute, Outcome
from validator.egress.breaker import Breakers
from validator.egress.catch_all import CatchAllMemory
from validator.egress.limits import Limits
from validator.probe import Probe
from validator.providers import load_providers
from validator.smtp.mail_host import SESSIONS

LONGEST_CHAIN = 5_000.0  # virtual seconds in which all that a batch left behind must have come to rest


@dataclass
class World:
    """`routes`: for each domain its hosts as (name, address); `peers`: by address."""

    routes: dict[str, tuple[tuple[str, str], ...]]
    peers: dict[str, Peer]

    async def mail_route(self, domain: str) -> MailRoute:
        hosts = tuple(MailHost(name, place, (address,)) for place, (name, address) in enumerate(self.routes[domain]))
        return MailRoute(Outcome.HOSTS, hosts, mx_names=tuple(host.name for host in hosts))


@dataclass
class Seen:
    """What came of the batches, and what the peers saw."""

    batches: list[tuple[list[Result | None], list[PutOff]]]
    world: World
    wire: Wire
    took: list[float]  # virtual seconds for each batch
    faults: float  # sessions that a fault of ours ended


class Running:
    """The probe before its world."""

    def __init__(self, probe: Probe, limits: Limits, breakers: Breakers, wire: Wire) -> None:
        self.probe = probe
        self.limits = limits
        self.breakers = breakers
        self.wire = wire

    async def check(self, *emails: str, last_look: bool = True, deadline: float = 300.0) -> tuple[Any, list[PutOff]]:
        verdicts, put_off = await self.probe.check_batch(
            list(emails), look=0, last_look=last_look, trace=True, deadline=deadline
        )
        return [verdict and verdict.result() for verdict in verdicts], put_off

    async def come_to_rest(self) -> None:
        """All sessions over, all that was held given back; raises AssertionError where that does not happen."""
        async with asyncio.timeout(LONGEST_CHAIN):
            while not all(host.idle for host in self.probe._hosts.values()) or self.probe._side_tasks:
                await asyncio.sleep(5)
        assert self.limits._held == {}
        assert all(scope.held == 0 for scope in self.limits._scopes.values())
        assert not any(circuit.probing for circuit in self.breakers._circuits.values())
        assert not any(domain.busy for domain in self.probe._domains.values())


def settings(**more: object) -> Settings:
    return Settings.load(_env_file=None, probe_helo="probe.test", **more)


async def with_probe(world: World, work: Any, **more: object) -> Any:
    loaded, wire, loop = settings(**more), Wire(world.peers), asyncio.get_running_loop()
    async with Limits(loaded, None, clock=loop.time) as limits, Breakers(None, clock=loop.time) as breakers:
        probe = Probe(
            settings=loaded,
            routes=world,
            identity=wire,  # type: ignore[arg-type]
            limits=limits,
            breakers=breakers,
            catch_all=CatchAllMemory(None, clock=loop.time),
            providers=load_providers(),
        )
        try:
            return await work(Running(probe, limits, breakers, wire))
        finally:
            await probe.drain(5)


def probe_all(world: World, *batches: list[str], last_look: bool = True, deadline: float = 300.0) -> Seen:
    """All batches at the same time, and everything they left behind to its end."""

    async def work(running: Running) -> Seen:
        loop = asyncio.get_running_loop()
        before = SESSIONS.labels("fault")._value.get()
        took: list[float] = []

        async def one(emails: list[str]) -> tuple[Any, list[PutOff]]:
            began = loop.time()
            told = await running.check(*emails, last_look=last_look, deadline=deadline)
            took.append(loop.time() - began)
            return told

        told = await asyncio.gather(*(one(emails) for emails in batches))
        await running.come_to_rest()
        faults = SESSIONS.labels("fault")._value.get() - before
        return Seen(list(told), world, running.wire, took, faults)

    return run_virtually(with_probe(world, work))
