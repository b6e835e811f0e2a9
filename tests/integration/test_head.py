"""HEAD on every GET of the OpenAPI document: the same status and headers, no body; also where the answer would not end."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from gateway.app import create_app
from services.webhooks.serve import running_webhooks
from shared.settings import Settings
from tests.integration.batch_gateway import BatchGateway
from tests.integration.belongings import belongings
from tests.servers import ValkeyServer
from tests.servers.fake_stripe import FakeStripe
from tests.servers.receiver import Receiver

pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=<...>':DeprecationWarning")

PATHS = create_app(Settings.load(_env_file=None)).openapi()["paths"]
GETS = sorted(path for path, methods in PATHS.items() if "get" in methods)
CHANGING = {"x-request-id", "date", "content-length", "transfer-encoding", "ratelimit-remaining", "ratelimit-reset"}


@pytest.fixture(scope="module")
async def house(tmp_path_factory, valkey: ValkeyServer) -> AsyncIterator[tuple[BatchGateway, dict[str, str]]]:
    async with (
        FakeStripe() as stripe,
        Receiver() as receiver,
        BatchGateway(
            tmp_path_factory.mktemp("head"), valkey.url, webhook_allow_networks=("127.0.0.0/8",), **stripe.settings
        ) as gateway,
        running_webhooks(gateway.settings, gateway.documents),
    ):
        yield gateway, await belongings(gateway, receiver)


@pytest.mark.parametrize("path", [*GETS, "/", "/api/v1/files/never"])
async def test_head_is_get_without_the_body(house: tuple[BatchGateway, dict[str, str]], path: str) -> None:
    gateway, ids = house
    url = path.format(**ids)
    async with asyncio.timeout(10):
        got = await gateway.client.get(url)
        head = await gateway.client.head(url)
        assert (head.status_code, head.content) == (got.status_code, b"")
        kept = [{name: one.headers[name] for name in one.headers if name not in CHANGING} for one in (got, head)]
        assert kept[0] == kept[1]
        assert "x-request-id" in head.headers
        assert (await gateway.client.get("/healthz")).status_code == 200  # on the same connection


async def test_a_stream_that_goes_on_is_ended_at_its_headers_and_leaves_nothing_open(
    house: tuple[BatchGateway, dict[str, str]],
) -> None:
    gateway, _ = house
    gateway.validator.gate.clear()
    file_id = await gateway.submit(["ok@nest.example"])
    async with asyncio.timeout(5):
        head = await gateway.client.head(f"/api/v1/files/{file_id}/events")
        assert head.headers["content-type"].startswith("text/event-stream")
    gateway.validator.gate.set()
    await gateway.until(file_id)
    assert not [task for task in asyncio.all_tasks() if task.get_name().startswith("head")]


async def test_where_there_is_only_a_post_head_is_refused(house: tuple[BatchGateway, dict[str, str]]) -> None:
    gateway, _ = house
    head = await gateway.client.head("/api/v1/validate")
    assert (head.status_code, head.headers["allow"]) == (405, "POST")
    patch = await gateway.client.patch("/api/v1/files")
    assert (patch.status_code, patch.headers["allow"]) == (405, "GET, HEAD, POST")
