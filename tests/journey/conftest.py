"""Servers, labs and systems that journeys share. Every test gets lists of its own, by a tag in their addresses."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from itertools import count, zip_longest
from pathlib import Path

import pytest
from redis.asyncio import Redis

from tests.journey import system
from tests.journey.internet import Internet, Lab, people
from tests.journey.observer import List, Observer
from tests.journey.system import Listening
from tests.servers import MongoServer, RabbitServer, ValkeyServer
from tests.servers.needed import running

RTT = 0.1  # seconds: a host that offers no pipelining then answers some 20 addresses a second, on two connections
SLOW = 4  # such hosts
TAGS = count()


def tag() -> str:
    """For addresses that no other test asks about."""
    return f".t{next(TAGS)}"


def slow_internet() -> Internet:
    """Hosts that take one command at a time, and some quick ones; behind RTT that makes runs long enough to disturb."""
    internet = Internet()
    internet.sites("slow{}.example", SLOW, "no_pipelining")
    internet.sites("quick{}.example", 4)
    internet.site("grey.example", "greylisting", wait=0.8)
    internet.site("all.example", "catch_all")
    return internet


def disturbed_list(shares: Sequence[int] = (40,) * SLOW) -> List:
    """Takes some seconds in the slow internet: `shares` addresses at its slow hosts, a quarter as many elsewhere.

    Equal shares end together. Uneven ones end one after the other, so that a part is done long before the rest, however
    fast the machine is.
    """
    mark = tag()
    slow = [email for n, share in enumerate(shares) for email in people([f"slow{n}.example"], share, mark)]
    others = people([*(f"quick{n}.example" for n in range(4)), "grey.example", "all.example"], len(slow) // 4, mark)
    emails = [email for pair in zip_longest(slow, others) for email in pair if email]
    return List([*emails, *(email.upper() for email in emails[::25])], malformed=["nonsense", "a@@b.example"])


@pytest.fixture(scope="session")
async def slow_lab(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Lab]:
    lab = Lab(tmp_path_factory.mktemp("slow-lab"), slow_internet(), RTT)
    await lab.start()
    yield lab
    await lab.stop()


@dataclass
class Cluster:
    """RabbitMQ, Valkey, a MongoDB server, a gateway and two validators, and the slow lab that they ask."""

    folder: Path
    lab: Lab
    rabbit: RabbitServer
    valkey: ValkeyServer
    mongo: MongoServer
    gateway: Listening = field(init=False)
    validators: list[Listening] = field(init=False)

    def __post_init__(self) -> None:
        common = {
            **self.lab.settings,
            "MAILVET_AMQP_URL": self.rabbit.url,
            "MAILVET_REDIS_URL": self.valkey.url,
            "MAILVET_MONGO_URL": self.mongo.url,
            "MAILVET_BATCH_SIZE": "25",
            "MAILVET_VALIDATOR_PREFETCH": "2",
            "MAILVET_BOOTSTRAP_CREDITS": "100000",
        }
        self.validators = [system.validator(self.folder, number, common) for number in (1, 2)]
        urls = ",".join(validator.url for validator in self.validators)
        self.gateway = system.gateway(self.folder, {**common, "MAILVET_VALIDATOR_URLS": urls})

    @property
    def programs(self) -> list[Listening]:
        return [*self.validators, self.gateway]

    async def up(self) -> None:
        """Start what is not running."""
        await asyncio.gather(*(listening.start() for listening in self.programs if not listening.program.running))

    async def down(self) -> None:
        still = [listening for listening in self.programs if listening.program.running]
        ends = await asyncio.gather(*(listening.terminate() for listening in still))
        assert {listening.program.name: end for listening, end in zip(still, ends, strict=True) if end != 0} == {}

    async def forget(self) -> None:
        """All that Redis knows is gone."""
        async with Redis.from_url(self.valkey.url) as redis:
            await redis.flushall()

    async def finish_right(self, given: List, file_id: str, since: float, cuts: tuple[float, ...] = ()) -> None:
        """The list comes to its end; then everything an outside observer can check is right."""
        async with Observer(self.gateway.url) as observer:
            await observer.ended(file_id)
            await observer.check(file_id, self.lab.internet.verdicts(given.unique), given.malformed)
            assert (await observer.ask("DELETE", f"/api/v1/files/{file_id}")).status_code == 204
        await self.lab.check_manners(given.unique, since, cuts)


@pytest.fixture(scope="session")
async def cluster_once(tmp_path_factory: pytest.TempPathFactory, slow_lab: Lab) -> AsyncIterator[Cluster]:
    make = tmp_path_factory.mktemp
    async with (
        running(RabbitServer, make("rabbit")) as rabbit,
        running(ValkeyServer, make("valkey")) as valkey,
        running(MongoServer, make("mongo")) as mongo,
    ):
        cluster = Cluster(make("cluster"), slow_lab, rabbit, valkey, mongo)
        yield cluster
        try:
            await cluster.down()
        finally:
            for listening in cluster.programs:
                await listening.program.close()


@pytest.fixture
async def cluster(cluster_once: Cluster) -> Cluster:
    """All of it running, whatever the test before did."""
    await cluster_once.up()
    return cluster_once


@pytest.fixture
async def outside(cluster: Cluster) -> AsyncIterator[Observer]:
    async with Observer(cluster.gateway.url) as observer:
        yield observer


@pytest.fixture
def began() -> float:
    """When the test did."""
    return time.time()


@pytest.fixture(scope="session")
async def served(tmp_path_factory: pytest.TempPathFactory, slow_lab: Lab) -> AsyncIterator[Listening]:
    """`mailvet serve` on the slow lab, for journeys that leave it as it was."""
    serving = system.serve(tmp_path_factory.mktemp("served"), {**slow_lab.settings, "MAILVET_BATCH_SIZE": "20"})
    await serving.start()
    yield serving
    try:
        assert await serving.terminate() == 0
    finally:
        await serving.program.close()
