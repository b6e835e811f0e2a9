"""Servers as fixtures want them. One that cannot run here skips its tests with one line on a laptop, and fails them
under CI=true.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TypeVar

import pytest

from tests.servers.mongo import MongoServer
from tests.servers.rabbit import RabbitServer
from tests.servers.valkey import ValkeyServer

Kind = TypeVar("Kind", RabbitServer, ValkeyServer, MongoServer)


def need(why: str | None) -> None:
    """`why`: what `missing` of a server said."""
    if why is None:
        return
    if os.environ.get("CI") == "true":
        pytest.fail(f"CI must have every server: {why}")
    pytest.skip(f"SKIPPED FOR WANT OF A SERVER: {why}")


@asynccontextmanager
async def running(kind: type[Kind], folder: Path) -> AsyncIterator[Kind]:
    need(kind.missing())
    server = kind(folder)
    await server.start()
    try:
        yield server
    finally:
        await server.stop()
