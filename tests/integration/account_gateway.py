"""A gateway with only the routes of accounts, keys, credits and audit, asked in process. Two of them on one store and one
Redis are two processes of one installation.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import AsyncExitStack
from pathlib import Path
from types import SimpleNamespace
from typing import Annotated, Any, Self, cast

import httpx
from fastapi import Depends, FastAPI
from redis.asyncio import Redis

from gateway.accounts import routes as accounts
from gateway.accounts.bootstrap import bootstrap
from gateway.accounts.caller import Caller, CallerDep, need_role, need_scope
from gateway.accounts.identify import Callers
from gateway.api_keys import routes as api_keys
from gateway.audit import routes as audit
from gateway.collections import ALL
from gateway.credits import routes as credit_routes
from gateway.credits.ledger import Ledger
from gateway.parts import Parts
from gateway.problem import install_problem_handlers
from gateway.rate_limits.headers import RateLimitHeaders
from shared.documents import Documents
from shared.documents.sqlite import SqliteDocuments
from shared.settings import Settings

KEY = "the-first-key-of-this-installation"


class AccountGateway:
    """`async with AccountGateway(folder, redis_url, **settings) as gateway:`; `client` speaks to it without a key.

    `ticks`: its own clock for what is remembered and counted.
    """

    def __init__(
        self,
        folder: Path,
        redis_url: str,
        *,
        documents: Documents | None = None,
        ticks: Callable[[], float] = time.monotonic,
        clock: Callable[[], float] = time.time,
        **settings: Any,
    ) -> None:
        self.settings = Settings.load(**{"_env_file": None, "api_key": KEY, "data_dir": folder, **settings})
        self.path = folder / "documents.db"
        self.documents = documents
        self.ticks = ticks
        self.clock = clock
        self._redis_url = redis_url
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        enter = self._stack.enter_async_context
        if self.documents is None:
            self.documents = await enter(SqliteDocuments(self.path, ALL))
        redis = Redis.from_url(self._redis_url, socket_connect_timeout=0.2)
        self._stack.push_async_callback(redis.aclose)
        self.callers = await enter(Callers(self.settings, self.documents, redis, ticks=self.ticks, clock=self.clock))
        self.ledger = Ledger(self.documents, time.time)
        self.parts = cast(
            "Parts",
            SimpleNamespace(
                settings=self.settings, documents=self.documents, redis=redis, ledger=self.ledger, callers=self.callers
            ),
        )
        await bootstrap(self.parts)
        transport = httpx.ASGITransport(self._app())
        self.client = await enter(httpx.AsyncClient(transport=transport, base_url="http://gateway"))
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    def _app(self) -> FastAPI:
        app = FastAPI()
        app.state.parts = self.parts
        app.add_middleware(RateLimitHeaders)
        install_problem_handlers(app)
        for routes in (accounts, api_keys, audit, credit_routes):
            app.include_router(routes.router)

        @app.get("/whoami")
        async def whoami(caller: CallerDep) -> dict[str, Any]:
            return {"org": caller.org_id, "actor": caller.actor, "role": caller.role, "scopes": sorted(caller.scopes)}

        @app.get("/writes")
        async def writes(caller: Annotated[Caller, Depends(need_scope("files:write"))]) -> str:
            return caller.actor

        @app.get("/owns", dependencies=[Depends(need_role("owner"))])
        async def owns() -> str:
            return "yes"

        return app

    async def get(self, path: str, key: str | None = KEY, **options: Any) -> httpx.Response:
        return await self.ask("GET", path, key, **options)

    async def post(self, path: str, key: str | None = KEY, **options: Any) -> httpx.Response:
        return await self.ask("POST", path, key, **options)

    async def ask(self, method: str, path: str, key: str | None = KEY, **options: Any) -> httpx.Response:
        headers = options.pop("headers", {})
        if key is not None:
            headers = {"Authorization": f"Bearer {key}", **headers}
        return await self.client.request(method, path, headers=headers, **options)

    async def make_key(self, **wanted: Any) -> dict[str, Any]:
        answer = await self.post("/api/v1/api-keys", json={"name": "a key", **wanted})
        assert answer.status_code == 201, answer.text
        made: dict[str, Any] = answer.json()
        return made
