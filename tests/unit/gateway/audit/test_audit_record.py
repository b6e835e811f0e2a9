from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from structlog.testing import capture_logs

from gateway.accounts.caller import Caller
from gateway.audit.record import append, digest_of, record
from gateway.collections import AUDIT
from shared.documents import Change, Documents
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


async def test_the_log_has_the_digest_of_each_entry_so_that_a_change_in_the_store_shows(documents: Documents) -> None:
    with capture_logs() as lines:
        for id_ in ("session:1", "session:2", "session:1"):
            await append(documents, "org_one", "user:ann@one.example", "session.started", "b", detail={}, id_=id_)
    told = [line["digest"] for line in lines if line["event"] == "audit_recorded"]
    found = await all_of(documents, "org_one")
    assert told == [digest_of(entry) for entry in found]
    assert len(told) == 2
    assert "ann@" not in str(lines)
    await documents.update(AUDIT, "session:1", Change(set={"actor": "user:eve"}))
    changed = await documents.get(AUDIT, "session:1")
    assert changed is not None
    assert digest_of(changed) not in told
