"""A probe before a real mail server: every name of the zone is this one server."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Protocol

from shared.messages import PutOff
from shared.settings import Settings
from shared.verdict import Result
from tests.servers.scripted_dns import ScriptedDns
from validator.dns.resolver import Resolver
from validator.egress.breaker import Breakers
from validator.egress.catch_all import CatchAllMemory
from validator.egress.identity import Identity
from validator.egress.limits import Limits
from validator.probe import Probe
from validator.providers import load_providers


class MailServer(Protocol):
    port: int

    async def start(self) -> None: ...

    async def stop(self) -> None: ...

    def ended(self) -> bool: ...

    def log(self) -> str: ...


class Asker:
    def __init__(self, probe: Probe) -> None:
        self.probe = probe

    async def check(
        self, *emails: str, look: int = 0, last_look: bool = True
    ) -> tuple[list[Result | None], list[PutOff]]:
        verdicts, put_off = await self.probe.check_batch(
            list(emails), look=look, last_look=last_look, trace=False, deadline=30
        )
        return [verdict and verdict.result() for verdict in verdicts], put_off

    async def results(self, *emails: str) -> list[Result]:
        """On a last look."""
        results, put_off = await self.check(*emails)
        assert put_off == []
        return [result for result in results if result is not None]

    async def reasons(self, *emails: str) -> list[str]:
        return [result.reason.value for result in await self.results(*emails)]


class Slots:
    """The real limits, and how many sessions were at once under them. A server's own count runs behind: it may not have
    noticed yet that a session is over when the next begins.
    """

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._taken = 0
        self.peak = 0

    @asynccontextmanager
    async def session(self, *names: object, **options: object) -> AsyncIterator[None]:
        async with self._limits.session(*names, **options):
            self._taken += 1
            self.peak = max(self.peak, self._taken)
            try:
                yield
            finally:
                self._taken -= 1


@asynccontextmanager
async def asking(
    server: MailServer, *, domains: Sequence[str] = ("known.test",), **settings: object
) -> AsyncIterator[Asker]:
    """Starts `server`; at the end the probe has said goodbye and the server's log is complete, and the server is gone."""
    zone = {(domain, "MX"): ["10 mx.known.test."] for domain in domains}
    await server.start()
    try:
        async with ScriptedDns({**zone, ("mx.known.test", "A"): ["127.0.0.1"]}) as dns:
            loaded = Settings.load(
                _env_file=None,
                **{
                    "dns_nameservers": dns.address,
                    "smtp_port": server.port,
                    "probe_allow_networks": "127.0.0.0/8",
                    "probe_helo": "probe.mailvet.test",
                    "probe_timeout": 5,
                    **settings,
                },
            )
            async with Resolver(loaded) as resolver, Limits(loaded, None) as limits, Breakers(None) as breakers:
                slots = Slots(limits)
                probe = Probe(
                    settings=loaded,
                    routes=resolver,
                    identity=Identity(loaded),
                    limits=slots,
                    breakers=breakers,
                    catch_all=CatchAllMemory(None),
                    providers=load_providers(),
                )
                yield Asker(probe)
                await probe.drain(5)
                assert slots.peak <= 2
        await until(server.ended)
    finally:
        await server.stop()


def unknown(count: int) -> list[str]:
    return [f"nobody{number}@known.test" for number in range(count)]


def anns(count: int) -> list[str]:
    """Mailboxes that exist where a test says so."""
    return [f"ann{number}@known.test" for number in range(count)]


async def until(met) -> None:
    deadline = time.monotonic() + 5
    while not met():
        assert time.monotonic() < deadline, "the server's log never told it"
        await asyncio.sleep(0.01)
