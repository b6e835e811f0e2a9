"""Servers for the integration tests: each is started once a session, when the first test asks for it. Mail servers are
cheap, and every test configures and starts its own.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from functools import partial
from pathlib import Path

import pytest

from tests.servers import EximServer, MongoServer, PostfixServer, RabbitServer, ValkeyServer
from tests.servers.needed import need, running


@pytest.fixture(scope="session")
async def rabbit(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[RabbitServer]:
    async with running(RabbitServer, tmp_path_factory.mktemp("rabbit")) as server:
        yield server


@pytest.fixture(scope="session")
async def valkey(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[ValkeyServer]:
    async with running(ValkeyServer, tmp_path_factory.mktemp("valkey")) as server:
        yield server


@pytest.fixture
async def own_valkey(tmp_path: Path) -> AsyncIterator[ValkeyServer]:
    """One that may be emptied and killed."""
    async with running(ValkeyServer, tmp_path / "valkey") as server:
        yield server


@pytest.fixture(scope="session")
async def mongo(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[MongoServer]:
    async with running(MongoServer, tmp_path_factory.mktemp("mongo")) as server:
        yield server


@pytest.fixture
def postfix(tmp_path: Path) -> Callable[..., PostfixServer]:
    need(PostfixServer.missing())
    return partial(PostfixServer, tmp_path / "postfix")


@pytest.fixture
def exim(tmp_path: Path) -> Callable[..., EximServer]:
    need(EximServer.missing())
    return partial(EximServer, tmp_path / "exim")
