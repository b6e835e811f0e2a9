"""The machine when servers go away and come back, on the real ones."""

from __future__ import annotations

import asyncio

import pytest

from gateway.app import create_app
from gateway.collections import ALL
from shared.broker.rabbitmq import RabbitBroker
from shared.documents.mongodb import MongoDocuments
from shared.errors import RedisUnavailable, ServerUnreachable, SettingsError
from shared.settings import Settings
from tests.integration.batch_gateway import BatchGateway, eventually
from tests.integration.test_live_events import all_events, stream
from tests.servers import MongoServer, RabbitServer, ValkeyServer


def emails(count: int) -> list[str]:
    return [f"ok{n}@d{n % 7}.example.com" for n in range(count - 2)] + ["later@a.example.com", "no@a.example.com"]


@pytest.mark.rabbitmq
@pytest.mark.mongodb
async def test_a_list_runs_over_the_real_broker_and_store(
    tmp_path, rabbit: RabbitServer, mongo: MongoServer, valkey: ValkeyServer
) -> None:
    documents = MongoDocuments(mongo.url_of("machine"), ALL)
    async with (
        RabbitBroker(rabbit.url) as broker,
        documents,
        BatchGateway(tmp_path, valkey.url, broker=broker, documents=documents) as gateway,
    ):
        before = await gateway.credits()
        file_id = await gateway.submit(emails(40))
        events = await all_events(gateway, file_id)
        file = await gateway.until(file_id)
        assert (file["valid"], file["invalid"], file["processed"]) == (39, 1, 40)
        assert events[-1].name == "done"
        after = await gateway.credits()
        assert (after["balance"], after["reserved"]) == (before["balance"] - 40, 0)
        assert (await gateway.client.get("/readyz")).json()["checks"]["broker"] == "ok"


async def test_without_redis_lists_finish_and_streams_end(tmp_path, own_valkey: ValkeyServer) -> None:
    async with BatchGateway(tmp_path / "gateway", own_valkey.url) as gateway:
        gateway.validator.gate.clear()
        file_id = await gateway.submit(emails(60))
        async with asyncio.timeout(40), stream(gateway, file_id) as events:
            await anext(events)
            await own_valkey.kill()
            gateway.validator.gate.set()
            seen = [event async for event in events]
        assert seen[-1].name == "done"
        assert seen[-1].data["processed"] == 60
        ids = [event.id for event in seen]
        assert ids == sorted(set(ids))
        fresh = await all_events(gateway, file_id)
        assert [event.name for event in fresh] == ["progress", "stats", "done"]
        ready = await gateway.client.get("/readyz")
        assert (ready.status_code, ready.json()["checks"]["redis"]) == (200, "unreachable")
        await own_valkey.start()
        await eventually(gateway.parts.live.connected.is_set)
        again = await gateway.submit(emails(30))
        assert (await all_events(gateway, again))[-1].data["processed"] == 30


async def test_a_server_that_is_not_there_at_start_is_said_so(tmp_path) -> None:
    settings = Settings.load(
        data_dir=tmp_path, redis_url="redis://127.0.0.1:9/0", internal_token="internal-token-of-the-test"
    )
    app = create_app(settings)
    with pytest.raises(RedisUnavailable) as caught:
        async with app.router.lifespan_context(app):
            pass
    assert isinstance(caught.value, ServerUnreachable)


@pytest.mark.parametrize(
    ("given", "setting"),
    [
        ({}, "MAILVET_REDIS_URL"),
        ({"redis_url": "redis://127.0.0.1:9/0"}, "MAILVET_INTERNAL_TOKEN"),
    ],
)
async def test_a_setting_that_is_missing_is_named(tmp_path, given: dict[str, str], setting: str) -> None:
    app = create_app(Settings.load(data_dir=tmp_path, **given))
    with pytest.raises(SettingsError) as caught:
        async with app.router.lifespan_context(app):
            pass
    assert caught.value.setting == setting
