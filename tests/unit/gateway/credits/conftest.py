from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from gateway.collections import ALL
from gateway.credits.ledger import Ledger
from shared.documents import Documents
from shared.documents.sqlite import SqliteDocuments


@pytest.fixture
async def documents(tmp_path: Path) -> AsyncIterator[Documents]:
    async with SqliteDocuments(tmp_path / "documents.db", ALL) as documents:
        yield documents


@pytest.fixture
def clock() -> Callable[[], float]:
    seconds = itertools.count(1_000.0)
    return lambda: next(seconds)


@pytest.fixture
def ledger(documents: Documents, clock: Callable[[], float]) -> Ledger:
    return Ledger(documents, clock)
