"""`mailvet webhooks` as a process of its own: it delivers, and says how it is to whoever runs it."""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
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
from tests.servers import MongoServer
from tests.servers.receiver import Receiver


@asynccontextmanager
async def webhooks_process(mongo_url: str, port: int) -> AsyncIterator[asyncio.subprocess.Process]:
    ours = {
        "MAILVET_MONGO_URL": mongo_url,
        "MAILVET_WEBHOOKS_PORT": str(port),
        "MAILVET_WEBHOOK_ALLOW_NETWORKS": "127.0.0.0/8",
    }
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "services.webhooks"),
        cwd=Path(__file__).parents[2],
        env={**os.environ, **ours},
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


def free_port() -> int:
    with bind("127.0.0.1", 0, "TEST") as bound:
        return port_of(bound)


@pytest.mark.mongodb
async def test_it_delivers_says_so_and_ends_when_told(mongo: MongoServer) -> None:
    url, port = mongo.url_of(f"webhooks{os.getpid()}"), free_port()
    async with (
        Receiver() as receiver,
        MongoDocuments(url, (WEBHOOK_ENDPOINTS, WEBHOOK_DELIVERIES)) as documents,
        webhooks_process(url, port) as process,
        httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as client,
    ):
        now = time.time()
        endpoint = new_endpoint("org_one", receiver.url, ["credits.low"], "", now)
        await documents.insert(WEBHOOK_ENDPOINTS, endpoint)
        await documents.insert(
            WEBHOOK_DELIVERIES, new_delivery(endpoint, "evt_1", TEST_TYPE, body(TEST_TYPE, now, {}), now)
        )

        async def tried() -> bool:
            try:
                page = (await client.get("/metrics")).text
            except httpx.ConnectError:
                return False
            return 'mailvet_webhook_tries_total{outcome="delivered"} 1.0' in page

        await eventually(tried, within=30)
        assert len(receiver.came) == 1
        assert (await client.get("/healthz")).json() == {"status": "ok"}
        ready = await client.get("/readyz")
        assert (ready.status_code, ready.json()) == (200, {"status": "ready", "checks": {"documents": "ok"}})
        for path in ("/healthz", "/readyz", "/metrics"):
            head = await client.head(path)
            assert (head.status_code, head.content) == (200, b"")
        process.terminate()
        assert await asyncio.wait_for(process.wait(), 15) == 0


async def test_a_port_that_is_taken_is_one_line_naming_the_setting() -> None:
    with bind("127.0.0.1", 0, "TEST") as taken:
        async with webhooks_process("mongodb://127.0.0.1:9/none", port_of(taken)) as process:
            _, stderr = await asyncio.wait_for(process.communicate(), 20)
    assert process.returncode == 2
    assert b"MAILVET_WEBHOOKS_PORT" in stderr
    assert stderr.count(b"\n") == 1


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
