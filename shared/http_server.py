"""An ASGI application on a socket of ours, inside a running event loop.

The socket is bound before anything else of the process starts, so that a taken port is one clear line naming the
setting. Stopping: no new connection, streams are told to end, running answers get GRACE_SECONDS.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import socket
from collections.abc import AsyncIterator, Iterator

import uvicorn
from starlette.types import ASGIApp

from shared.errors import SettingsError

GRACE_SECONDS = 5
_BACKLOG = 2048


def bind(host: str, port: int, setting: str) -> socket.socket:
    """A listening TCP socket. `setting`: the port's, `..._PORT`. Raises SettingsError naming it, or its `..._HOST`."""
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        bound = socket.create_server((host, port), family=family, backlog=_BACKLOG)
    except UnicodeError as error:  # a name that cannot be one
        raise SettingsError(_host_beside(setting), f"cannot listen on {host!r}: no host's name") from error
    except OSError as error:
        if isinstance(error, socket.gaierror) or error.errno == errno.EADDRNOTAVAIL:  # the host is none of ours
            setting = _host_beside(setting)
        raise SettingsError(setting, f"cannot listen on {host}:{port}: {error.strerror or error}") from error
    bound.setblocking(False)
    return bound


def _host_beside(setting: str) -> str:
    return setting.removesuffix("PORT") + "HOST"


def port_of(bound: socket.socket) -> int:
    port: int = bound.getsockname()[1]
    return port


class _Server(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Signals belong to the process (shared.process), which may hold several servers."""
        yield


@contextlib.asynccontextmanager
async def serving(app: ASGIApp, bound: socket.socket) -> AsyncIterator[None]:
    """Serve `app` on `bound` while the context is open. The application's own lifespan is not run."""
    config = uvicorn.Config(
        app,
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=GRACE_SECONDS,
        proxy_headers=False,
    )
    server = _Server(config)
    task = asyncio.create_task(server.serve(sockets=[bound]), name="http-server")
    try:
        while not server.started:
            if task.done():
                await task
            await asyncio.sleep(0.01)
        yield
    finally:
        server.should_exit = True
        await task
        bound.close()
