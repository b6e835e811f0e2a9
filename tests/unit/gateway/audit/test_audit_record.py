from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from gateway.accounts.caller import Caller
from gateway.audit.record import append, record
from gateway.collections import AUDIT
from shared.documents import Documents
from shared.documents.sqlite import SqliteDocuments


@pytest.fixture
async def documents(tmp_path: Path) -> AsyncIterator[Documents]:
    async with SqliteDocuments(tmp_path / "documents.db", (AUDIT,)) as documents:
        yield documents


async def all_of(documents: Documents, org_id: str) -> list[dict[str, Any]]:
    return [entry async for entry in documents.scan(AUDIT, {"orgId": org_id}, sort="at")]


async def test_a_record_says_who_did_what_to_what(documents: Documents) -> None:
    parts = cast("Any", SimpleNamespace(documents=documents))
    caller = Caller("org_one", "user:ann", frozenset())
    await record(parts, caller, "file.deleted", "file1")
    await record(parts, caller, "api_key.created", "key_1", {"scopes": ["*"]})
    found = await all_of(documents, "org_one")
    assert [(entry["actor"], entry["action"], entry["target"], entry["detail"]) for entry in found] == [
        ("user:ann", "file.deleted", "file1", {}),
        ("user:ann", "api_key.created", "key_1", {"scopes": ["*"]}),
    ]
    assert found[0]["at"] <= found[1]["at"]
    assert await all_of(documents, "org_two") == []


async def test_what_has_an_id_is_recorded_once(documents: Documents) -> None:
    for expected in (True, False):
        assert await append(documents, "org_one", "a", "session.started", "b", detail={}, id_="session:1") is expected
    assert len(await all_of(documents, "org_one")) == 1
