"""A probe against a mail lab, both in this event loop."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from services.maillab.lab import Lab
from services.maillab.world import World
from shared.messages import PutOff
from shared.settings import Settings
from shared.verdict import Result
from validator.dns.resolver import Resolver
from validator.egress.breaker import Breakers
from validator.egress.catch_all import CatchAllMemory
from validator.egress.identity import Identity
from validator.egress.limits import Limits
from validator.probe import Probe
from validator.providers import load_providers


class Bench:
    """The lab, the probe before it, and the question in a word."""

    def __init__(self, lab: Lab, probe: Probe, memory: CatchAllMemory) -> None:
        self.lab = lab
        self.probe = probe
        self.memory = memory

    async def check(
        self, *emails: str, look: int = 0, last_look: bool = True, trace: bool = False, deadline: float = 60
    ) -> tuple[list[Result | None], list[PutOff]]:
        verdicts, put_off = await self.probe.check_batch(
            list(emails), look=look, last_look=last_look, trace=trace, deadline=deadline
        )
        return [verdict and verdict.result() for verdict in verdicts], put_off

    async def reasons(self, *emails: str) -> list[str]:
        results, put_off = await self.check(*emails)
        assert put_off == []
        return [result.reason.value if result is not None else "" for result in results]


@asynccontextmanager
async def probing(world: World, **settings: object) -> AsyncIterator[Bench]:
    """Ends with the manners that every test asserts."""
    async with Lab(world) as lab:
        told = {name.removeprefix("MAILVET_").lower(): value for name, value in lab.env().items()}
        loaded = Settings.load(_env_file=None, **{"probe_timeout": 1, **told, **settings})
        memory = CatchAllMemory(None)
        async with Resolver(loaded) as resolver, Limits(loaded, None) as limits, Breakers(None) as breakers:
            probe = Probe(
                settings=loaded,
                routes=resolver,
                identity=Identity(loaded),
                limits=limits,
                breakers=breakers,
                catch_all=memory,
                providers=load_providers(),
            )
            yield Bench(lab, probe, memory)
            await probe.drain(5)
        complaints = lab.complaints()
        assert complaints == []
        for session in lab.log.sessions():
            assert not session.data
            assert lab.log.peak_connections(session.host) <= 2
            assert session.reject_count <= 10
