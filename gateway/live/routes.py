"""GET /api/v1/files/{fileId}/events."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial
from typing import Annotated

from fastapi import APIRouter, Header, Request
from sse_starlette import EventSourceResponse, ServerSentEvent
from starlette.background import BackgroundTask

from gateway.files.find import ReadableFile
from gateway.live.hub import Watch
from gateway.live.stream import FileStream
from gateway.parts import Parts, PartsDep
from gateway.problem import Problem
from shared.errors import DocumentsUnavailable

router = APIRouter(tags=["files"])

HEARTBEAT = 10.0  # seconds between comments
SLOWEST_READER = 30.0  # seconds one send may take
ASK_AGAIN = 30.0  # seconds after which a stream's credentials are judged anew


@router.get(
    "/api/v1/files/{file_id}/events",
    response_class=EventSourceResponse,
    responses={
        200: {"content": {"text/event-stream": {}}, "description": "progress, stats, emails; then done or failed"}
    },
)
async def follow_file(
    request: Request,
    file: ReadableFile,
    parts: PartsDep,
    last_event_id: Annotated[str | None, Header(alias="Last-Event-ID")] = None,
) -> EventSourceResponse:
    """Server-sent events of a file. `Last-Event-ID` resumes without a gap; the first event is the present state."""
    watch = parts.live.watch(file["_id"], file["orgId"])
    stream = FileStream(parts.documents, parts.redis, watch, last_event_id)
    return EventSourceResponse(
        _closing(stream.events(file), watch, partial(_still_welcome, request, parts)),
        ping=HEARTBEAT,
        ping_message_factory=lambda: ServerSentEvent(comment="still here"),
        send_timeout=SLOWEST_READER,
        sep="\n",
        background=BackgroundTask(watch.close),  # also where the stream never began
    )


async def _closing(
    events: AsyncIterator[ServerSentEvent], watch: Watch, welcome: Callable[[], Awaitable[bool]]
) -> AsyncIterator[ServerSentEvent]:
    asking = asyncio.create_task(end_when_unwelcome(watch, welcome), name="stream-credentials")
    try:
        async for event in events:
            yield event
    finally:
        asking.cancel()
        watch.close()


async def end_when_unwelcome(watch: Watch, welcome: Callable[[], Awaitable[bool]], *, every: float = ASK_AGAIN) -> None:
    """A revoked key ends its streams within `every` seconds, also those in which nothing happens."""
    try:
        while True:
            await asyncio.sleep(every)
            if not await welcome():
                return
    finally:  # also where asking failed: nobody reads on unjudged
        watch.end()


async def _still_welcome(request: Request, parts: Parts) -> bool:
    try:
        await parts.callers.identify(request)
    except Problem as problem:
        return problem.status not in (401, 403)
    except DocumentsUnavailable:  # nobody can say; whoever asks again is told so
        return False
    return True
