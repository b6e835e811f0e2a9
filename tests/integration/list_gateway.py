"""A gateway with only the routes for files in and files out, on a real socket, over the embedded store and the ledger."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Self, cast

import httpx
from fastapi import APIRouter, FastAPI

from gateway.accounts.caller import EVERYTHING, Caller, identify
from gateway.batches.store import batch_id
from gateway.collections import ALL, BATCHES, FILES
from gateway.credits.ledger import Ledger
from gateway.parts import Parts
from gateway.problem import install_problem_handlers
from shared.documents.sqlite import SqliteDocuments
from shared.http_server import bind, port_of, serving
from shared.settings import Settings

ORG = "org_lists"


class ListGateway:
    """`async with ListGateway(folder, routers) as gateway:`; `client` is an HTTP client for it."""

    def __init__(self, folder: Path, *routers: APIRouter, **settings: Any) -> None:
        self.settings = Settings.load(data_dir=folder / "data", batch_size=100, **settings)
        self.documents = SqliteDocuments(folder / "documents.db", ALL)
        self.announced: list[str] = []
        self.org_id = ORG
        self._routers = routers
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        await self._stack.enter_async_context(self.documents)
        self.ledger = Ledger(self.documents, lambda: 1.0)
        await self.ledger.grant(ORG, 100_000_000, "test")
        self.parts = cast(
            "Parts",
            SimpleNamespace(
                settings=self.settings,
                documents=self.documents,
                ledger=self.ledger,
                machine=SimpleNamespace(file_changed=self.announced.append),
            ),
        )
        app = FastAPI()
        app.state.parts = self.parts
        for router in self._routers:
            app.include_router(router)
        app.dependency_overrides[identify] = lambda: Caller(self.org_id, "dev", frozenset({EVERYTHING}))
        install_problem_handlers(app)
        bound = bind("127.0.0.1", 0, "MAILVET_PORT")
        self.port = port_of(bound)
        await self._stack.enter_async_context(serving(app, bound))
        self.client = await self._stack.enter_async_context(
            httpx.AsyncClient(base_url=f"http://127.0.0.1:{self.port}", timeout=60)
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    async def upload(self, content: bytes, name: str = "list.csv", **fields: str) -> httpx.Response:
        return await self.client.post("/api/v1/files", files={"file": (name, content)}, data=fields)

    async def batches(self, file_id: str) -> list[dict[str, Any]]:
        return [document async for document in self.documents.scan(BATCHES, {"fileId": file_id}, sort="no")]

    async def files(self) -> list[dict[str, Any]]:
        return [document async for document in self.documents.scan(FILES, {"orgId": self.org_id})]

    async def on_disk(self) -> list[str]:
        """Names in the folder of uploads and of exports."""

        def names() -> list[str]:
            folders = (self.settings.data_dir / "uploads", self.settings.data_dir / "exports")
            return sorted(path.name for folder in folders if folder.exists() for path in folder.iterdir())

        return await asyncio.to_thread(names)

    async def finish_batch(self, file_id: str, no: int, results: list[dict[str, Any]]) -> None:
        """As if the batch had been verified."""
        document = await self.documents.get(BATCHES, batch_id(file_id, no))
        assert document is not None
        await self.documents.replace(
            BATCHES, document | {"status": "done", "emails": [], "rows": [], "results": results}
        )
