"""The deliverer on its own clock: crashes, races, waiting, giving up."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from fastapi import Response

from gateway.collections import ALL, AUDIT, WEBHOOK_DELIVERIES, WEBHOOK_ENDPOINTS
from gateway.webhooks.endpoints import new_endpoint
from gateway.webhooks.expand import new_delivery
from services.webhooks.deliver import LEASE, Deliverer
from services.webhooks.post import Poster
from shared.address_guard import allowed_networks
from shared.documents.sqlite import SqliteDocuments
from tests.interrupted import Crash, Interrupted
from tests.servers.receiver import Receiver

ORG = "org_told"
LOOPBACK = allowed_networks(["127.0.0.0/8"])


class Scene:
    """A store, a receiver, an endpoint, and a clock that stands until it is set."""

    def __init__(self, documents: SqliteDocuments, receiver: Receiver, endpoint: dict[str, Any]) -> None:
        self.documents, self.receiver, self.endpoint = documents, receiver, endpoint
        self.now = 1_800_000_000.0

    def deliverer(self, documents: Any = None) -> Deliverer:
        async def nothing(_: str) -> list[str]:
            return []

        poster = Poster(nothing, LOOPBACK)
        return Deliverer(documents or self.documents, poster, clock=lambda: self.now, chance=lambda: 0.5)

    async def delivery(self, event: str = "evt_1") -> str:
        one = new_delivery(self.endpoint, event, "bulk_job.finished", '{"a":1}', self.now)
        await self.documents.insert(WEBHOOK_DELIVERIES, one)
        id_: str = one["_id"]
        return id_

    async def stored(self, id_: str) -> dict[str, Any]:
        found = await self.documents.get(WEBHOOK_DELIVERIES, id_)
        assert found is not None
        return found

    async def shown(self) -> dict[str, Any]:
        found = await self.documents.get(WEBHOOK_ENDPOINTS, self.endpoint["_id"])
        assert found is not None
        return found


@pytest.fixture
async def scene(tmp_path) -> AsyncIterator[Scene]:
    async with SqliteDocuments(tmp_path / "documents.db", ALL) as documents, Receiver() as receiver:
        endpoint = new_endpoint(ORG, receiver.url + "/hook", ["bulk_job.finished"], "", 0.0)
        await documents.insert(WEBHOOK_ENDPOINTS, endpoint)
        yield Scene(documents, receiver, endpoint)


@pytest.mark.parametrize("after", [False, True])
async def test_wherever_it_dies_the_event_arrives_with_its_one_id(scene: Scene, *, after: bool) -> None:
    at = 0
    while True:
        id_ = await scene.delivery(f"evt_{at}_{after}")
        scene.receiver.came.clear()
        try:
            await scene.deliverer(Interrupted(scene.documents, at, after=after)).deliver(id_)
            finished = True
        except Crash:
            finished = False
        scene.now += LEASE
        await scene.deliverer().deliver(id_)
        assert (await scene.stored(id_))["state"] == "delivered"
        assert 1 <= len(scene.receiver.came) <= 2
        assert len({came.headers["webhook-id"] for came in scene.receiver.came}) == 1
        if finished:
            break
        at += 1
    assert at >= 3


async def test_of_many_deliverers_one_sends(scene: Scene) -> None:
    id_ = await scene.delivery()
    await asyncio.gather(*(scene.deliverer().deliver(id_) for _ in range(20)))
    assert len(scene.receiver.came) == 1
    assert (await scene.stored(id_))["tries"] == 1


async def test_a_try_under_way_is_not_repeated_before_its_lease_is_over(scene: Scene) -> None:
    id_ = await scene.delivery()
    claimed = await scene.deliverer()._claim(id_)
    assert claimed is not None
    scene.now += LEASE - 1
    await scene.deliverer().deliver(id_)
    assert scene.receiver.came == []
    # The first one wakes up late, after another has taken over: what it writes changes nothing.
    scene.now += 1
    await scene.deliverer().deliver(id_)
    await scene.deliverer()._write(claimed, {"state": "exhausted"})
    assert (await scene.stored(id_))["state"] == "delivered"


async def test_what_the_receiver_asks_to_wait_is_waited(scene: Scene) -> None:
    id_ = await scene.delivery()
    scene.receiver.answer = lambda _: Response(status_code=503, headers={"Retry-After": "900"})
    await scene.deliverer().deliver(id_)
    assert (await scene.stored(id_))["dueAt"] == scene.now + 900
    scene.now += 899
    await scene.deliverer().deliver(id_)
    assert len(scene.receiver.came) == 1


async def test_five_days_of_failures_disable_an_endpoint_and_one_success_forgives(scene: Scene) -> None:
    scene.receiver.answer = lambda _: Response(status_code=500)
    await scene.deliverer().deliver(await scene.delivery("evt_1"))
    began = scene.now
    assert (await scene.shown())["failingSince"] == began
    scene.receiver.answer = lambda _: Response(status_code=200)
    scene.now += 4 * 86_400
    await scene.deliverer().deliver(await scene.delivery("evt_2"))
    assert (await scene.shown())["failingSince"] is None
    scene.receiver.answer = lambda _: Response(status_code=500)
    await scene.deliverer().deliver(await scene.delivery("evt_3"))
    scene.now += 5 * 86_400
    await scene.deliverer().deliver(await scene.delivery("evt_4"))
    assert ((await scene.shown())["disabledWhy"], len(scene.receiver.came)) == ("failing", 4)
    dropped = await scene.delivery("evt_5")
    await scene.deliverer().deliver(dropped)
    assert (await scene.stored(dropped))["state"] == "dropped"
    told = [entry async for entry in scene.documents.scan(AUDIT, {"orgId": ORG}, sort="at")]
    assert [(entry["action"], entry["detail"]) for entry in told] == [("webhook.disabled", {"why": "failing"})]


async def test_stopping_finishes_what_is_being_sent(scene: Scene) -> None:
    scene.endpoint |= {"url": scene.receiver.url + "/slow"}
    await scene.documents.replace(WEBHOOK_ENDPOINTS, scene.endpoint)
    scene.receiver.gate.clear()
    id_ = await scene.delivery()
    stop = asyncio.Event()
    running = asyncio.create_task(scene.deliverer().run(stop))
    async with asyncio.timeout(5):
        while not scene.receiver.came:
            await asyncio.sleep(0.01)
    stop.set()
    _, pending = await asyncio.wait([running], timeout=0.3)
    assert pending
    scene.receiver.gate.set()
    await asyncio.wait_for(running, 5)
    assert (await scene.stored(id_))["state"] == "delivered"
