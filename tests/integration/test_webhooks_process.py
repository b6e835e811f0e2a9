"""`mailvet webhooks` as a process of its own: it delivers, and says how it is to whoever runs it."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

import httpx
import pytest

from gateway.collections import WEBHOOK_DELIVERIES, WEBHOOK_ENDPOINTS
from gateway.webhooks.endpoints import new_endpoint
from gateway.webhooks.events import TEST_TYPE, body
from gateway.webhooks.expand import new_delivery
from services.webhooks.health import create_health
from shared.documents import Documents
from shared.documents.mongodb import MongoDocuments
from shared.errors import DocumentsUnavailable
from shared.http_server import bind, port_of
from tests.integration.batch_gateway import eventually
from tests.journey.system import Listening, Program, metric, run
from tests.servers import MongoServer
from tests.servers.process import free_port
from tests.servers.receiver import Receiver

WEBHOOKS = (sys.executable, "-m", "services.webhooks")


def settings(mongo_url: str, port: int) -> dict[str, str]:
    return {
        "MAILVET_MONGO_URL": mongo_url,
        "MAILVET_WEBHOOKS_PORT": str(port),
        "MAILVET_WEBHOOK_ALLOW_NETWORKS": "127.0.0.0/8",
    }


@pytest.mark.mongodb
async def test_it_delivers_says_so_and_ends_when_told(mongo: MongoServer, tmp_path: Path) -> None:
    url, port = mongo.url_of(f"webhooks{os.getpid()}"), free_port()
    base = f"http://127.0.0.1:{port}"
    program = Program(tmp_path, "webhooks", WEBHOOKS, settings(url, port))
    async with (
        Receiver() as receiver,
        MongoDocuments(url, (WEBHOOK_ENDPOINTS, WEBHOOK_DELIVERIES)) as documents,
        httpx.AsyncClient(base_url=base) as client,
    ):
        now = time.time()
        endpoint = new_endpoint("org_one", receiver.url, ["credits.low"], "", now)
        await documents.insert(WEBHOOK_ENDPOINTS, endpoint)
        await documents.insert(
            WEBHOOK_DELIVERIES, new_delivery(endpoint, "evt_1", TEST_TYPE, body(TEST_TYPE, now, {}), now)
        )
        try:
            await Listening(program, base).start()

            async def delivered() -> bool:
                return await metric(base, 'mailvet_webhook_tries_total{outcome="delivered"}') == 1.0

            await eventually(delivered, within=30)
            assert len(receiver.came) == 1
            assert (await client.get("/healthz")).json() == {"status": "ok"}
            ready = await client.get("/readyz")
            assert (ready.status_code, ready.json()) == (200, {"status": "ready", "checks": {"documents": "ok"}})
            for path in ("/healthz", "/readyz", "/metrics"):
                head = await client.head(path)
                assert (head.status_code, head.content) == (200, b"")
            assert await program.terminate(15) == 0
        finally:
            await program.close()


async def test_a_port_that_is_taken_is_one_line_naming_the_setting(tmp_path: Path) -> None:
    with bind("127.0.0.1", 0, "TEST") as taken:
        told = settings("mongodb://127.0.0.1:9/none", port_of(taken))
        ended = await run(*WEBHOOKS, folder=tmp_path, settings=told, seconds=20)
    assert ended.returncode == 2
    assert "MAILVET_WEBHOOKS_PORT" in ended.stderr
    assert ended.stderr.count("\n") == 1


async def test_without_its_documents_it_lives_and_is_not_ready() -> None:
    class Away:
        async def check(self) -> None:
            raise DocumentsUnavailable("away")

    documents: Documents = Away()  # type: ignore[assignment]
    transport = httpx.ASGITransport(create_health(documents))
    async with httpx.AsyncClient(transport=transport, base_url="http://webhooks") as client:
        assert (await client.get("/healthz")).status_code == 200
        ready = await client.get("/readyz")
    assert (ready.status_code, ready.json()["checks"]) == (503, {"documents": "unreachable"})
    assert int(ready.headers["retry-after"]) > 0
