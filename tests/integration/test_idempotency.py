"""Idempotency keys over HTTP and on both document stores: races, and a gateway that is killed in between."""

from __future__ import annotations

import asyncio
import itertools
import os
import secrets
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest
from fastapi import Response
from fastapi.responses import JSONResponse

from gateway.accounts.caller import Caller
from gateway.collections import ALL, FILES, IDEMPOTENCY_KEYS
from gateway.idempotency.run_once import KEPT, LEASE, hash_content, run_once
from gateway.parts import Parts
from gateway.problem import Problem
from shared.documents import Documents
from shared.documents.mongodb import MongoDocuments
from shared.documents.sqlite import SqliteDocuments
from tests.servers import MongoServer

ANN = Caller("org_one", "key:a", frozenset({"*"}))


def parts_of(documents: Documents, folder: Path) -> Parts:
    return cast("Parts", SimpleNamespace(documents=documents, settings=SimpleNamespace(data_dir=folder)))


@pytest.fixture(params=["sqlite", pytest.param("mongodb", marks=pytest.mark.mongodb)])
def server(request: pytest.FixtureRequest) -> MongoServer | None:
    return request.getfixturevalue("mongo") if request.param == "mongodb" else None


@pytest.fixture
async def documents(server: MongoServer | None, tmp_path: Path) -> AsyncIterator[Documents]:
    if server is None:
        async with SqliteDocuments(tmp_path / "documents.db", (IDEMPOTENCY_KEYS,)) as documents:
            yield documents
    else:
        async with MongoDocuments(server.url_of("t" + secrets.token_hex(6)), (IDEMPOTENCY_KEYS,)) as documents:
            yield documents


async def test_on_either_store_a_key_has_one_effect_then_replays_and_is_new_after_a_day(
    documents: Documents, tmp_path: Path
) -> None:
    parts = parts_of(documents, tmp_path)
    made: list[str] = []
    now = itertools.repeat(1_000_000.0)

    async def make(resource_id: str) -> Response:
        made.append(resource_id)
        return JSONResponse({"id": resource_id}, 202, {"Location": "/there"})

    async def post(body: bytes = b"one") -> Response | Problem:
        try:
            return await run_once(parts, ANN, "key", hash_content("POST /x", body), make, clock=lambda: next(now))
        except Problem as problem:
            return problem

    answers = await asyncio.gather(*(post() for _ in range(50)))
    assert len(made) == 1
    assert {answer.status for answer in answers if isinstance(answer, Problem)} <= {409}
    replay = await post()
    assert isinstance(replay, Response)
    assert (replay.status_code, replay.headers["location"], replay.body) == (
        202,
        "/there",
        b'{"id":"%s"}' % made[0].encode(),
    )
    refused = await post(b"two")
    assert isinstance(refused, Problem)
    assert refused.status == 422
    now = itertools.repeat(1_000_000.0 + KEPT)
    later = await asyncio.gather(*(post(b"two") for _ in range(20)))
    assert len(made) == 2
    assert any(isinstance(answer, Response) for answer in later)


# A gateway that makes a file and dies before it can answer.
DYING = """
import asyncio, os, signal, sys
from pathlib import Path
from types import SimpleNamespace
from gateway.accounts.caller import Caller
from gateway.collections import ALL, FILES
from gateway.idempotency.run_once import hash_content, run_once
from shared.documents.sqlite import SqliteDocuments

async def main(path):
    async with SqliteDocuments(Path(path), ALL) as documents:
        async def make(resource_id):
            await documents.insert(FILES, {"_id": resource_id, "orgId": "org_one"})
            os.kill(os.getpid(), signal.SIGKILL)
        caller = Caller("org_one", "key:a", frozenset({"*"}))
        parts = SimpleNamespace(documents=documents, settings=SimpleNamespace(data_dir=Path(path).parent))
        await run_once(parts, caller, "key", hash_content("POST /x"), make)

asyncio.run(main(sys.argv[1]))
"""


async def test_a_retry_after_a_killed_gateway_finds_the_file_that_it_made(tmp_path: Path) -> None:
    path = tmp_path / "documents.db"
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", DYING, str(path), cwd=Path(__file__).parents[2], env={**os.environ, "PYTHONPATH": "."}
    )
    assert await process.wait() == -signal.SIGKILL
    async with SqliteDocuments(path, ALL) as documents:
        parts = parts_of(documents, tmp_path)
        record = await anext(documents.scan(IDEMPOTENCY_KEYS, {}))
        assert record["state"] == "running"

        async def make(resource_id: str) -> Response:
            inserted = await documents.insert(FILES, {"_id": resource_id, "orgId": "org_one"})
            return JSONResponse({"id": resource_id, "again": not inserted}, 202)

        async def post(now: float) -> Response:
            return await run_once(parts, ANN, "key", hash_content("POST /x"), make, clock=lambda: now)

        with pytest.raises(Problem, match="is running"):
            await post(record["leaseUntil"] - 0.1)
        answer = await post(record["createdAt"] + LEASE)
        assert answer.body == b'{"id":"%s","again":true}' % record["resourceId"].encode()
        assert await documents.count(FILES, {"orgId": "org_one"}) == 1
