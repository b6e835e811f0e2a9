"""HEAD is answered as GET is, without the body (RFC 9110 section 9.3.2), wherever there is a GET."""

from __future__ import annotations

import asyncio

from starlette.types import ASGIApp, Message, Receive, Scope, Send


class HeadAsGet:
    """ASGI middleware. Routes see a GET; an answer that would go on (events, a download) is ended at its headers."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] != "HEAD":
            await self._app(scope, receive, send)
            return
        enough = asyncio.Event()

        async def send_head(message: Message) -> None:
            if message["type"] != "http.response.body":
                await send(message)
            elif not enough.is_set():
                await send({"type": "http.response.body", "body": b"", "more_body": False})
                if message.get("more_body", False):
                    enough.set()

        answering = asyncio.create_task(self._answer({**scope, "method": "GET"}, receive, send_head), name="head")
        waiting = asyncio.create_task(enough.wait(), name="head-enough")
        try:
            await asyncio.wait([answering, waiting], return_when=asyncio.FIRST_COMPLETED)
        finally:
            waiting.cancel()
            if enough.is_set() or not answering.done():
                answering.cancel()
            await asyncio.wait([answering, waiting])
        if not answering.cancelled():
            answering.result()  # raises what it raised

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._app(scope, receive, send)
