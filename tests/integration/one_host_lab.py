"""A mail lab with one host for x.test, and the questions tests ask it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from services.maillab.lab import Lab
from services.maillab.world import World
from tests.integration.raw_smtp import RawClient


@asynccontextmanager
async def lab_with(character: str, **options) -> AsyncIterator[Lab]:
    """A lab with one host for x.test."""
    world = World()
    world.host("mx.x.test", character, **options)
    world.domain("x.test", mx=[(10, "mx.x.test")])
    async with Lab(world) as lab:
        yield lab


def client_of(lab: Lab) -> RawClient:
    return RawClient(lab.world.hosts["mx.x.test"].ip, lab.smtp_port)


async def asked(lab: Lab, *locals_: str) -> list[str]:
    """The replies to one RCPT after the other in one session, which ends with QUIT where there is anyone to hear it."""
    async with client_of(lab) as client:
        await client.greet()
        replies = [await client.ask(f"RCPT TO:<{local}@x.test>") for local in locals_]
        if replies[-1]:
            await client.ask("QUIT")
    return replies


def codes(replies: list[str]) -> list[str]:
    return [reply[:3] for reply in replies]
