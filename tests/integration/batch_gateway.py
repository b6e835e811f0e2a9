"""A whole gateway on a socket over the embedded store and broker, with a scripted validator behind it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, Self

import httpx

from gateway.accounts.caller import DEFAULT_ORG
from gateway.collections import ALL, BATCHES, FILES
from gateway.parts import Parts
from gateway.serve import running_gateway
from shared.broker import Broker
from shared.broker.inprocess import InProcessBroker
from shared.documents import Document, Documents
from shared.documents.sqlite import SqliteDocuments
from shared.http_server import bind, port_of
from shared.settings import Settings
from tests.integration.scripted_validator import ScriptedValidator

KEY = "mv_test_of_the_machine_0123456789"
CREDITS = 100_000


class BatchGateway:
    """`async with BatchGateway(folder, redis_url) as gateway:`; without `validator` nobody answers."""

    def __init__(
        self,
        folder: Path,
        redis_url: str,
        *,
        documents: Documents | None = None,
        broker: Broker | None = None,
        validator: bool = True,
        **settings: Any,
    ) -> None:
        given = {
            "batch_size": 10,
            "retry_delays": (0.05, 0.05),
            "api_key": KEY,
            "bootstrap_credits": CREDITS,
            "internal_token": "internal-token-of-the-test",
            "requests_per_minute": 0,
            "validator_urls": ("http://127.0.0.1:9",),
            **settings,
        }
        self.settings = Settings.load(data_dir=folder / "data", redis_url=redis_url, **given)
        self._given_documents, self._given_broker = documents, broker
        self._with_validator = validator
        self._folder = folder

    async def __aenter__(self) -> Self:
        self._stack = AsyncExitStack()
        enter = self._stack.enter_async_context
        self.documents = self._given_documents or await enter(SqliteDocuments(self._folder / "documents.db", ALL))
        self.broker = self._given_broker or await enter(InProcessBroker())
        bound = bind("127.0.0.1", 0, "MAILVET_PORT")
        self.url = f"http://127.0.0.1:{port_of(bound)}"
        self.app = await enter(running_gateway(self.settings, self.broker, self.documents, bound))
        self.parts: Parts = self.app.state.parts
        if self._with_validator:
            self.validator = await enter(ScriptedValidator(self.broker))
        headers = {"Authorization": f"Bearer {KEY}"}
        self.client = await enter(httpx.AsyncClient(base_url=self.url, headers=headers, timeout=30))
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    async def submit(self, emails: list[str]) -> str:
        """A list through the API; the file's id."""
        answer = await self.client.post("/api/v1/validate-batch", json={"emails": emails})
        assert answer.status_code == 202, answer.text
        file_id: str = answer.json()["fileId"]
        return file_id

    async def file(self, file_id: str) -> dict[str, Any]:
        answer = await self.client.get(f"/api/v1/files/{file_id}")
        assert answer.status_code == 200, answer.text
        body: dict[str, Any] = answer.json()
        return body

    async def until(self, file_id: str, *statuses: str, within: float = 15.0) -> dict[str, Any]:
        """The file once it has one of these statuses (`completed` where none is named)."""
        wanted = statuses or ("completed",)
        async with asyncio.timeout(within):
            while (file := await self.file(file_id))["status"] not in wanted:
                await asyncio.sleep(0.02)
        return file

    async def batches(self, file_id: str) -> list[Document]:
        return [batch async for batch in self.documents.scan(BATCHES, {"fileId": file_id}, sort="no")]

    async def stored(self, file_id: str) -> Document:
        file = await self.documents.get(FILES, file_id)
        assert file is not None
        return file

    async def credits(self) -> dict[str, int]:
        answer = await self.client.get("/api/v1/credits")
        body: dict[str, int] = answer.json()
        return body


async def eventually(holds: Callable[[], Any], within: float = 10.0) -> None:
    """Until `holds()` (a function or coroutine function) is true."""
    async with asyncio.timeout(within):
        while True:
            found = holds()
            if asyncio.iscoroutine(found):
                found = await found
            if found:
                return
            await asyncio.sleep(0.01)


@asynccontextmanager
async def another_client(gateway: BatchGateway, key: str) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=gateway.url, headers={"Authorization": f"Bearer {key}"}) as client:
        yield client


ORG = DEFAULT_ORG
