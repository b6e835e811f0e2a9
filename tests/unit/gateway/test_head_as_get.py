"""HEAD as GET: the body is dropped, what would go on is cancelled, errors and cancellation pass through."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from starlette.types import Message, Receive, Scope, Send

from gateway.head import HeadAsGet

START: Message = {"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"5")]}
HEAD: Scope = {"type": "http", "method": "HEAD", "path": "/"}


def piece(body: bytes, *, more: bool) -> Message:
    return {"type": "http.response.body", "body": body, "more_body": more}


async def never() -> Any:
    await asyncio.Event().wait()


async def asked(app: Any, scope: Scope = HEAD) -> list[Message]:
    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    await HeadAsGet(app)(scope, never, send)
    return sent


async def test_a_whole_answer_keeps_its_headers_and_what_runs_after_it() -> None:
    ran: list[str] = []

    async def app(scope: Scope, _receive: Receive, send: Send) -> None:
        ran.append(scope["method"])
        await send(START)
        await send(piece(b"hello", more=False))
        ran.append("afterwards")

    assert await asked(app) == [START, piece(b"", more=False)]
    assert ran == ["GET", "afterwards"]
    assert await asked(app, {**HEAD, "method": "GET"}) == [START, piece(b"hello", more=False)]


async def test_an_answer_that_goes_on_is_cancelled_after_its_first_piece() -> None:
    ended = asyncio.Event()

    async def app(_scope: Scope, _receive: Receive, send: Send) -> None:
        try:
            await send(START)
            while True:
                await send(piece(b"x", more=True))
                await asyncio.sleep(0)
        finally:
            ended.set()

    assert await asked(app) == [START, piece(b"", more=False)]
    assert ended.is_set()


async def test_an_error_comes_out() -> None:
    async def app(_scope: Scope, _receive: Receive, _send: Send) -> None:
        raise ValueError("a bug")

    with pytest.raises(ValueError, match="a bug"):
        await asked(app)


async def test_whoever_cancels_the_request_cancels_the_answer() -> None:
    began, ended = asyncio.Event(), asyncio.Event()

    async def app(_scope: Scope, _receive: Receive, _send: Send) -> None:
        began.set()
        try:
            await never()
        finally:
            ended.set()

    asking = asyncio.create_task(asked(app))
    await began.wait()
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    assert ended.is_set()
