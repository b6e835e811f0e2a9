"""One effect per key, whatever crashes: on the embedded store, with a clock of the test's own."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from cryptography.exceptions import InvalidTag
from fastapi import FastAPI, Response
from fastapi.responses import JSONResponse

from gateway.accounts.caller import Caller
from gateway.collections import IDEMPOTENCY_KEYS
from gateway.idempotency.purge import purge, purging
from gateway.idempotency.run_once import (
    KEPT,
    KEY_FILE,
    LEASE,
    MAX_KEY,
    IdempotencyKey,
    hash_content,
    run_once,
)
from gateway.idempotency.seal import seal, unseal
from gateway.parts import Parts
from gateway.problem import Problem, install_problem_handlers
from shared.documents import Documents
from shared.documents.sqlite import SqliteDocuments
from shared.errors import DocumentsUnavailable
from tests.interrupted import Crash, Interrupted

ANN = Caller("org_one", "key:a", frozenset({"*"}))
BOB = Caller("org_two", "key:b", frozenset({"*"}))


class House:
    """Files that were made, by resource id: what `produce` does, repeatably."""

    def __init__(self, documents: Documents, folder: Path) -> None:
        self.documents = documents
        self.settings = SimpleNamespace(data_dir=folder)
        self.now = 1_000_000.0
        self.runs: list[str] = []
        self.files: set[str] = set()

    async def make(self, resource_id: str) -> Response:
        self.runs.append(resource_id)
        self.files.add(resource_id)
        return JSONResponse({"fileId": resource_id}, 202, {"Location": f"/f/{resource_id}", "X-Other": "1"})

    async def post(
        self,
        key: str | None = "k",
        body: str = "body",
        *,
        caller: Caller = ANN,
        produce: Any = None,
        documents: Any = None,
    ) -> Response:
        parts = cast("Parts", SimpleNamespace(documents=documents or self.documents, settings=self.settings))
        return await run_once(
            parts, caller, key, hash_content("POST /x", body.encode()), produce or self.make, clock=self.clock
        )

    def clock(self) -> float:
        return self.now


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    async with SqliteDocuments(tmp_path / "documents.db", (IDEMPOTENCY_KEYS,)) as documents:
        yield House(documents, tmp_path / "data")


def bytes_in(folder: Path) -> bytes:
    return b"".join(path.read_bytes() for path in folder.iterdir() if path.is_file())


def id_in(answer: Response) -> str:
    return str(json.loads(bytes(answer.body))["fileId"])


async def test_without_a_key_every_request_has_its_effect(house: House) -> None:
    assert id_in(await house.post(None)) != id_in(await house.post(None))
    assert len(house.runs) == 2


async def test_the_same_key_and_body_get_the_same_answer_marked_as_replayed(house: House) -> None:
    first, second = await house.post(), await house.post()
    assert (second.status_code, second.body) == (first.status_code, first.body)
    assert second.headers["location"] == first.headers["location"]
    assert second.headers["content-type"] == "application/json"
    assert second.headers["idempotent-replayed"] == "true"
    assert "idempotent-replayed" not in first.headers
    assert "x-other" not in second.headers
    assert len(house.runs) == 1


async def test_the_same_key_with_another_body_is_refused(house: House) -> None:
    await house.post()
    with pytest.raises(Problem) as refused:
        await house.post(body="other")
    assert (refused.value.status, refused.value.code) == (422, "idempotency_key_reused")


async def test_a_key_belongs_to_its_organisation(house: House) -> None:
    assert id_in(await house.post()) != id_in(await house.post(body="other", caller=BOB))


async def test_a_test_key_and_a_live_key_do_not_share_idempotency_keys(house: House) -> None:
    assert id_in(await house.post()) != id_in(await house.post(caller=replace(ANN, test=True)))


async def test_an_answer_is_lost_without_the_installations_own_key(house: House) -> None:
    await house.post()
    (house.settings.data_dir / KEY_FILE).write_bytes(b"x" * 32)
    with pytest.raises(Problem) as lost:
        await house.post()
    assert (lost.value.status, lost.value.code) == (409, "idempotency_answer_lost")
    assert len(house.runs) == 1


async def test_a_second_request_while_the_first_runs_is_told_so(house: House) -> None:
    started, go_on = asyncio.Event(), asyncio.Event()

    async def slow(resource_id: str) -> Response:
        started.set()
        await go_on.wait()
        return await house.make(resource_id)

    first = asyncio.create_task(house.post(produce=slow))
    await started.wait()
    for body, status in (("body", 409), ("other", 422)):
        with pytest.raises(Problem) as refused:
            await house.post(body=body)
        assert refused.value.status == status
    go_on.set()
    assert id_in(await first) == id_in(await house.post())


async def test_a_hundred_requests_at_once_have_one_effect(house: House) -> None:
    answers = await asyncio.gather(*(house.post() for _ in range(100)), return_exceptions=True)
    ids = {id_in(answer) for answer in answers if isinstance(answer, Response)}
    assert len(ids) == len(house.runs) == 1
    assert {error.status for error in answers if isinstance(error, Problem)} <= {409}


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("at", [0, 1])
async def test_after_a_crash_at_any_step_a_retry_finds_the_same_resource(house: House, at: int, *, after: bool) -> None:
    with pytest.raises(Crash):
        await house.post(documents=Interrupted(house.documents, at, after=after))
    house.now += LEASE
    answer = await house.post()
    assert house.files == {id_in(answer)}
    assert id_in(await house.post()) == id_in(answer)


async def test_a_crashed_run_holds_the_key_until_its_lease_has_run_out(house: House) -> None:
    async def dies(resource_id: str) -> Response:
        await house.make(resource_id)
        raise Crash

    with pytest.raises(Crash):
        # The store dies with the process, so that nothing is cleaned up behind it.
        await house.post(produce=dies, documents=Interrupted(house.documents, 1))
    house.now += LEASE - 0.1
    with pytest.raises(Problem) as refused:
        await house.post()
    assert refused.value.status == 409
    assert refused.value.headers["Retry-After"] == "1"
    house.now += 0.1
    assert {id_in(await house.post())} == house.files


async def test_a_long_run_keeps_its_lease(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.idempotency.run_once.LEASE", 0.03)
    renewed = asyncio.Event()

    async def slow(resource_id: str) -> Response:
        house.now += 3_600
        while not renewed.is_set():
            await asyncio.sleep(0.001)
            async for record in house.documents.scan(IDEMPOTENCY_KEYS, {}):
                if record["leaseUntil"] > house.now:
                    renewed.set()
        with pytest.raises(Problem, match="is running"):
            await house.post()
        return await house.make(resource_id)

    async with asyncio.timeout(10):
        assert {id_in(await house.post(produce=slow))} == house.files


@pytest.mark.parametrize("how", ["problem", "answer"])
async def test_what_was_refused_frees_the_key(house: House, how: str) -> None:
    async def refuse(_: str) -> Response:
        if how == "problem":
            raise Problem(402, "insufficient_credits", "No.")
        return Response(b"", 422)

    if how == "problem":
        with pytest.raises(Problem):
            await house.post(produce=refuse)
    else:
        assert (await house.post(produce=refuse)).status_code == 422
    assert (await house.post(body="another")).status_code == 202


@pytest.mark.parametrize("how", ["unreachable", "cancelled", "problem 503", "answer 500"])
async def test_an_unknown_effect_is_tried_again_at_once_with_the_same_resource(house: House, how: str) -> None:
    async def fail(resource_id: str) -> Response:
        await house.make(resource_id)
        if how == "unreachable":
            raise DocumentsUnavailable("gone")
        if how == "cancelled":
            raise asyncio.CancelledError
        if how == "problem 503":
            raise Problem(503, "unavailable", "Away.")
        return Response(b"", 500)

    if how == "answer 500":
        await house.post(produce=fail)
    else:
        with pytest.raises((DocumentsUnavailable, asyncio.CancelledError, Problem)):
            await house.post(produce=fail)
    assert {id_in(await house.post())} == house.files


async def test_an_answer_is_replayed_for_a_day_and_then_the_key_is_new(house: House) -> None:
    first = await house.post()
    house.now += KEPT - 1
    assert id_in(await house.post()) == id_in(first)
    house.now += 1
    answers = await asyncio.gather(*(house.post(body="other") for _ in range(5)), return_exceptions=True)
    later = {id_in(answer) for answer in answers if isinstance(answer, Response)}
    assert len(later) == 1
    assert later != {id_in(first)}


async def test_old_records_are_purged_and_young_ones_kept(house: House) -> None:
    await house.post("old")
    house.now += KEPT
    await house.post("young")
    assert await purge(house.documents, clock=house.clock) == 1
    assert await house.documents.count(IDEMPOTENCY_KEYS, {}) == 1


async def test_the_purge_runs_by_itself_and_ends_when_told(house: House) -> None:
    await house.post("old")  # by its clock of long ago
    async with asyncio.timeout(10):
        async with purging(house.documents):
            while await house.documents.count(IDEMPOTENCY_KEYS, {}):
                await asyncio.sleep(0.001)


async def test_at_rest_neither_the_key_nor_the_answer_can_be_read(house: House, tmp_path: Path) -> None:
    async def secretive(_: str) -> Response:
        return JSONResponse({"key": "SECRET-CANARY"}, 201)

    await house.post("KEY-CANARY", produce=secretive)
    assert b"CANARY" not in bytes_in(tmp_path)
    assert b"SECRET-CANARY" in (await house.post("KEY-CANARY")).body


def test_an_answer_is_sealed_for_its_key_and_record_only() -> None:
    sealed = seal(b"answer", "key", "record")
    assert unseal(sealed, "key", "record") == b"answer"
    for key, record in (("other", "record"), ("key", "other")):
        with pytest.raises(InvalidTag):
            unseal(sealed, key, record)


def test_requests_differ_by_call_and_by_where_one_part_ends() -> None:
    same = hash_content("POST /x", b"ab", b"c")
    assert same == hash_content("POST /x", b"ab", b"c")
    assert len({same, hash_content("POST /y", b"ab", b"c"), hash_content("POST /x", b"a", b"bc")}) == 3


async def test_keys_that_are_none_answer_400() -> None:
    import httpx

    app = FastAPI()
    install_problem_handlers(app)

    @app.post("/once")
    async def once(key: IdempotencyKey) -> dict[str, Any]:
        return {"key": key}

    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://gateway") as client:
        for key in ("", "x" * (MAX_KEY + 1), b"\xc3\xa4"):
            answer = await client.post("/once", headers={"Idempotency-Key": key})
            assert (answer.status_code, answer.json()["code"]) == (400, "idempotency_key_malformed")
        whole = await client.post("/once", headers={"Idempotency-Key": "x" * MAX_KEY})
        assert whole.json()["key"] == "x" * MAX_KEY
