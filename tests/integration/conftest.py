"""Servers for the integration tests: each is started once a session, when the first test asks for it. Mail servers are
cheap, and every test configures and starts its own.

A server that cannot run here skips its tests with one line on a laptop, and fails them under CI=true.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable
from functools import partial
from pathlib import Path

import pytest

from tests.servers import EximServer, MongoServer, PostfixServer, RabbitServer, ValkeyServer


def _need(why: str | None) -> None:
    if why is None:
        return
    if os.environ.get("CI") == "true":
        pytest.fail(f"CI must have every server: {why}")
    pytest.skip(f"SKIPPED FOR WANT OF A SERVER: {why}")


@pytest.fixture(scope="session")
async def rabbit(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[RabbitServer]:
    _need(RabbitServer.missing())
    server = RabbitServer(tmp_path_factory.mktemp("rabbit"))
    await server.start()
    yield server
    await server.stop()


@pytest.fixture(scope="session")
async def valkey(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[ValkeyServer]:
    _need(ValkeyServer.missing())
    server = ValkeyServer(tmp_path_factory.mktemp("valkey"))
    await server.start()
    yield server
    await server.stop()


@pytest.fixture(scope="session")
async def mongo(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[MongoServer]:
    _need(MongoServer.missing())
    server = MongoServer(tmp_path_factory.mktemp("mongo"))
    await server.start()
    yield server
    await server.stop()


@pytest.fixture
def postfix(tmp_path: Path) -> Callable[..., PostfixServer]:
    _need(PostfixServer.missing())
    return partial(PostfixServer, tmp_path / "postfix")


@pytest.fixture
def exim(tmp_path: Path) -> Callable[..., EximServer]:
    _need(EximServer.missing())
    return partial(EximServer, tmp_path / "exim")
