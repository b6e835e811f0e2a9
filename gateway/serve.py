"""A gateway on a socket: inside a larger process, or as a process of its own (`mailvet gateway`)."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator

from fastapi import FastAPI

from gateway.app import create_app
from gateway.parts import Parts
from shared.broker import Broker
from shared.documents import Documents
from shared.http_server import bind, serving
from shared.settings import Settings


@contextlib.asynccontextmanager
async def running_gateway(
    settings: Settings, broker: Broker | None, documents: Documents | None, bound: socket.socket
) -> AsyncIterator[FastAPI]:
    """Serve on `bound` while the context is open. What is not given is opened from `settings`.

    Stopping: event streams end first (their readers come back elsewhere), then the server, then the machine.
    Raises SettingsError or ServerUnreachable when it cannot start.
    """
    app = create_app(settings, documents=documents, broker=broker)
    async with app.router.lifespan_context(app), serving(app, bound):
        parts: Parts = app.state.parts
        try:
            yield app
        finally:
            parts.live.end_streams()


async def serve_gateway(settings: Settings, stop: asyncio.Event) -> None:
    """Until `stop` is set; all servers are real ones, by their URLs."""
    settings.need("amqp_url", "redis_url", "mongo_url", "internal_token")
    bound = bind(settings.host, settings.port, "MAILVET_PORT")
    with contextlib.closing(bound):
        async with running_gateway(settings, None, None, bound):
            await stop.wait()
