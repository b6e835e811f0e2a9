"""Hosts that offer PIPELINING and cannot: each still gets every recipient's verdict out of them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from shared.settings import Settings
from validator.dns.route import MailHost, MailRoute, Outcome
from validator.egress.breaker import Breakers
from validator.egress.catch_all import CatchAllMemory
from validator.egress.identity import Identity
from validator.egress.limits import Limits
from validator.probe import Probe
from validator.providers import load_providers

ADDRESS = "127.44.0.1"


class BrokenHost:
    """Takes one command a read. `manner`: what it does with more that came along."""

    def __init__(self, manner: str) -> None:
        self.manner = manner
        self.flights = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 mx.test ESMTP\r\n")
        while chunk := await reader.read(65_536):
            line, _, rest = chunk.partition(b"\r\n")
            if rest:
                self.flights += 1
                if self.manner == "hangs up":
                    break
            writer.write(self.answer(line))
            if rest and self.manner == "bad sequence":
                writer.write(b"503 5.5.1 bad sequence of commands\r\n" * rest.count(b"\r\n"))
            if line == b"QUIT":
                break
        writer.close()

    def answer(self, line: bytes) -> bytes:
        if line.startswith(b"EHLO"):
            return b"250-mx.test\r\n250 PIPELINING\r\n"
        if line.startswith(b"RCPT") and b"<ann" not in line:
            return b"550 5.1.1 no such user\r\n"
        return b"221 bye\r\n" if line == b"QUIT" else b"250 ok\r\n"


class OneHost:
    """Every domain's mail goes to the one host."""

    async def mail_route(self, domain: str) -> MailRoute:
        return MailRoute(Outcome.HOSTS, (MailHost(f"mx.{domain}", 10, (ADDRESS,)),), expires=float("inf"))


@asynccontextmanager
async def probing(host: BrokenHost) -> AsyncIterator[Probe]:
    server = await asyncio.start_server(host.serve, ADDRESS, 0)
    port = server.sockets[0].getsockname()[1]
    settings = Settings(
        _env_file=None,
        smtp_port=port,
        probe_timeout=0.3,
        probe_allow_networks=("127.0.0.0/8",),
        probe_helo="probe.test",
    )
    async with server, Limits(settings, None) as limits, Breakers(None) as breakers:
        probe = Probe(
            settings=settings,
            routes=OneHost(),
            identity=Identity(settings),
            limits=limits,
            breakers=breakers,
            catch_all=CatchAllMemory(None),
            providers=load_providers(),
        )
        yield probe
        await probe.drain(5)


@pytest.mark.parametrize("manner", ["drops the rest", "bad sequence", "hangs up"])
async def test_everybody_is_asked_again_one_by_one(manner):
    host = BrokenHost(manner)
    emails = [f"{name}{number}@corp.test" for number in range(12) for name in ("ann", "missing")]
    async with probing(host) as probe:
        results, put_off = await probe.check_batch(emails, look=0, last_look=True, trace=False, deadline=30)
    assert put_off == []
    assert [result.status.value for result in results] == ["valid", "invalid"] * 12
    assert host.flights <= 4
