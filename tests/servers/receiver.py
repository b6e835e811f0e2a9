"""A webhook receiver: answers as the test says, and keeps what came."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Self

from fastapi import FastAPI, Request, Response

from shared.http_server import bind, port_of, serving


@dataclass(frozen=True)
class Came:
    path: str
    headers: dict[str, str]
    body: bytes


class Receiver:
    """`async with Receiver() as receiver:`; `answer` is called for each request and makes the answer."""

    def __init__(self) -> None:
        self.came: list[Came] = []
        self.answer: Callable[[Came], Response] = lambda _: Response(status_code=204)
        self.gate = asyncio.Event()  # cleared: requests to /slow wait
        self.gate.set()
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        bound = bind("127.0.0.1", 0, "RECEIVER")
        self.port = port_of(bound)
        self.url = f"http://127.0.0.1:{self.port}"
        app = FastAPI()
        app.add_api_route("/{path:path}", self._serve, methods=["GET", "POST"])
        await self._stack.enter_async_context(serving(app, bound))
        return self

    async def __aexit__(self, *_: object) -> None:
        self.gate.set()
        await self._stack.aclose()

    async def _serve(self, path: str, request: Request) -> Response:
        came = Came(path, dict(request.headers), await request.body())
        self.came.append(came)
        if path.startswith("slow"):
            await self.gate.wait()
        return self.answer(came)

    def to(self, path: str) -> list[Came]:
        return [one for one in self.came if one.path == path]
