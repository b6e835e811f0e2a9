"""Addresses that come as JSON: lists through the pipeline, single ones asked of a validator directly."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest
from fastapi import FastAPI, Request, Response

from gateway.collections import IDEMPOTENCY_KEYS
from shared.documents import Change
from shared.http_server import bind, port_of, serving
from shared.internal_token import token_matches
from tests.integration.batch_gateway import CREDITS, BatchGateway
from tests.integration.scripted_validator import say
from tests.servers import ValkeyServer


class Internal:
    """A validator's internal API, scripted like the one behind the queue. `slow` answers only when released."""

    def __init__(self) -> None:
        self.app = FastAPI()
        self.app.post("/internal/v1/validate")(self.validate)
        self.asked: list[dict[str, Any]] = []
        self.release = asyncio.Event()
        self.broken = False

    async def validate(self, request: Request) -> Response:
        assert token_matches(request.headers.get("authorization"), "internal-token-of-the-test")
        body = await request.json()
        self.asked.append(body)
        if self.broken:
            return Response("oops", 500)
        if body["email"].startswith("slow"):
            await self.release.wait()
        result = say(body["email"], 0, last=False)
        if result is None:
            return Response(msgspec.json.encode({"putOff": {"index": 0, "reason": "put_off", "after": None}}), 202)
        return Response(msgspec.json.encode(result.result()))


@pytest.fixture(scope="module")
async def internal() -> AsyncIterator[tuple[Internal, str]]:
    scripted = Internal()
    bound = bind("127.0.0.1", 0, "TEST")
    async with serving(scripted.app, bound):
        yield scripted, f"http://127.0.0.1:{port_of(bound)}"


@pytest.fixture(scope="module")
async def gateway(
    tmp_path_factory, valkey: ValkeyServer, internal: tuple[Internal, str]
) -> AsyncIterator[BatchGateway]:
    urls = ("http://127.0.0.1:9", internal[1])  # the first one is never there
    async with BatchGateway(tmp_path_factory.mktemp("validate"), valkey.url, validator_urls=urls) as running:
        yield running


async def poll(gateway: BatchGateway, path: str) -> Any:
    async with asyncio.timeout(10):
        while (answer := await gateway.client.get(path)).status_code == 202:
            await asyncio.sleep(0.02)
    assert answer.status_code == 200, answer.text
    return answer.json()


# --- lists ---
async def test_a_list_gets_one_result_per_address_in_the_order_it_was_sent(gateway: BatchGateway) -> None:
    emails = ["no1@z.example.com", "ok1@a.example.com", " ok1@A.example.com ", "", "broken", "later@m.example.com"]
    answer = await gateway.client.post("/api/v1/validate-batch", json={"emails": emails})
    accepted = answer.json()
    assert answer.status_code == 202
    assert answer.headers["location"] == f"/api/v1/validate-batch/{accepted['batchId']}"
    counts = ("totalEmails", "uniqueEmails", "duplicates", "malformed", "creditsReserved")
    assert [accepted[name] for name in counts] == [6, 3, 1, 2, 3]
    await gateway.until(accepted["fileId"])
    body = (await gateway.client.get(answer.headers["location"])).json()
    assert (body["status"], body["processedEmails"], body["totalEmails"]) == ("completed", 5, 6)
    assert [result["email"] for result in body["results"]] == [
        "no1@z.example.com", "ok1@a.example.com", "", "broken", "later@m.example.com",
    ]  # fmt: skip
    assert [result["status"] for result in body["results"]] == ["invalid", "valid", "invalid", "invalid", "valid"]


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "body.emails"),
        ({"emails": []}, "body.emails"),
        ({"emails": "a@b.example.com"}, "body.emails"),
        ({"emails": ["a@b.example.com", 7]}, "body.emails.1"),
        ({"emails": ["a@b.example.com", "b@b.example.com", None]}, "body.emails.2"),
        ({"emails": ["a@b.example.com"] * 10_001}, "body.emails"),
        ({"emails": ["a@b.example.com"], "extra": 1}, "body.extra"),
        ({"emails": ["a@b.example.com"], "callbackUrl": "ftp://x"}, "body.callbackUrl"),
    ],
)
async def test_a_wrong_list_is_refused_by_the_name_of_what_is_wrong(
    gateway: BatchGateway, body: Any, field: str
) -> None:
    answer = await gateway.client.post("/api/v1/validate-batch", json=body)
    assert (answer.status_code, answer.json()["field"]) == (422, field)


async def test_the_same_idempotency_key_makes_one_list(gateway: BatchGateway) -> None:
    send = {"json": {"emails": ["ok1@a.example.com"]}, "headers": {"Idempotency-Key": "list-1"}}
    first = await gateway.client.post("/api/v1/validate-batch", **send)
    second = await gateway.client.post("/api/v1/validate-batch", **send)
    assert first.json() == second.json()
    assert second.headers["idempotent-replayed"] == "true"


async def test_a_list_without_credits_is_402_and_leaves_nothing(tmp_path, valkey: ValkeyServer) -> None:
    async with BatchGateway(tmp_path, valkey.url, bootstrap_credits=2) as gateway:
        emails = [f"ok{n}@a.example.com" for n in range(3)]
        answer = await gateway.client.post("/api/v1/validate-batch", json={"emails": emails})
        problem = answer.json()
        assert (answer.status_code, problem["required"], problem["available"]) == (402, 3, 2)
        assert (await gateway.client.get("/api/v1/files")).json()["items"] == []
        assert await gateway.credits() == {"balance": 2, "reserved": 0, "available": 2}


# --- single addresses ---
async def test_a_single_address_is_answered_at_once_and_paid_by_its_verdict(
    gateway: BatchGateway, internal: tuple[Internal, str]
) -> None:
    owned = (await gateway.credits())["balance"]
    answer = await gateway.client.post("/api/v1/validate", json={"email": "ok1@a.example.com"})
    assert (answer.status_code, answer.json()["status"]) == (200, "valid")
    assert (await gateway.credits())["balance"] == owned - 1
    free = await gateway.client.post("/api/v1/validate", json={"email": "dunno@a.example.com", "timeout": 5})
    assert free.json()["status"] == "unknown"
    assert internal[0].asked[-1]["timeout"] == 5
    malformed = await gateway.client.post("/api/v1/validate", json={"email": "a@b\r\nRCPT TO:<x@y.z>"})
    assert (malformed.status_code, malformed.json()["reason"]) == (200, "invalid_syntax")
    assert await gateway.credits() == {"balance": owned - 1, "reserved": 0, "available": owned - 1}


async def test_an_address_that_was_put_off_is_polled_free_of_charge(gateway: BatchGateway) -> None:
    owned = (await gateway.credits())["balance"]
    answer = await gateway.client.post("/api/v1/validate", json={"email": "later@a.example.com"})
    assert (answer.status_code, answer.json()["status"]) == (202, "queued")
    result = await poll(gateway, answer.headers["location"])
    assert (result["email"], result["status"]) == ("later@a.example.com", "valid")
    works = [work for work in gateway.validator.seen if work.emails == ["later@a.example.com"]]
    assert [work.look for work in works][-1] == 1  # the first look was the direct question
    for _ in range(3):
        await poll(gateway, answer.headers["location"])
    assert await gateway.credits() == {"balance": owned - 1, "reserved": 0, "available": owned - 1}
    listed = (await gateway.client.get("/api/v1/files")).json()["items"]
    assert all(item["kind"] == "batch" for item in listed)


async def test_validators_that_answer_nonsense_leave_it_to_the_pipeline(
    gateway: BatchGateway, internal: tuple[Internal, str]
) -> None:
    internal[0].broken = True
    answer = await gateway.client.post("/api/v1/validate", json={"email": "no1@a.example.com"})
    internal[0].broken = False
    assert answer.status_code == 202
    assert (await poll(gateway, answer.headers["location"]))["reason"] == "mailbox_missing"


async def test_a_slow_answer_becomes_a_file(gateway: BatchGateway, internal: tuple[Internal, str]) -> None:
    answer = await gateway.client.post("/api/v1/validate", json={"email": "slow@a.example.com", "timeout": 1})
    internal[0].release.set()
    assert answer.status_code == 202
    assert (await poll(gateway, answer.headers["location"]))["email"] == "slow@a.example.com"


async def test_without_credits_nothing_is_asked(tmp_path, valkey: ValkeyServer, internal: tuple[Internal, str]) -> None:
    async with BatchGateway(tmp_path, valkey.url, bootstrap_credits=0, validator_urls=(internal[1],)) as gateway:
        before = len(internal[0].asked)
        answer = await gateway.client.post("/api/v1/validate", json={"email": "ok1@a.example.com"})
        assert (answer.status_code, answer.json()["code"]) == (402, "insufficient_credits")
        assert len(internal[0].asked) == before


async def test_the_last_credit_buys_its_answer_also_when_a_crash_comes_between(
    tmp_path, valkey: ValkeyServer, internal: tuple[Internal, str]
) -> None:
    async with BatchGateway(tmp_path, valkey.url, bootstrap_credits=1, validator_urls=(internal[1],)) as gateway:

        async def ask() -> tuple[int, Any]:
            headers = {"Idempotency-Key": "last"}
            answer = await gateway.client.post("/api/v1/validate", json={"email": "ok1@a.example.com"}, headers=headers)
            return answer.status_code, answer.json()["status"]

        assert await ask() == (200, "valid")
        async for record in gateway.documents.scan(IDEMPOTENCY_KEYS, {}):  # as a kill after the charge leaves it
            cut_off = Change(set={"state": "running", "leaseUntil": 0.0, "answer": None})
            await gateway.documents.update(IDEMPOTENCY_KEYS, record["_id"], cut_off)
        assert await ask() == (200, "valid")
        assert (await gateway.client.get("/api/v1/credits")).json()["balance"] == 0


@pytest.mark.parametrize(
    "body", [{}, {"email": 7}, {"email": "a@b.c", "timeout": 0.5}, {"email": "a@b.c", "timeout": 61}]
)
async def test_a_wrong_question_is_refused(gateway: BatchGateway, body: Any) -> None:
    assert (await gateway.client.post("/api/v1/validate", json=body)).status_code == 422


async def test_a_single_validation_is_nobody_elses_list(gateway: BatchGateway) -> None:
    answer = await gateway.client.post("/api/v1/validate", json={"email": "later2@a.example.com"})
    id_ = answer.json()["id"]
    assert (await gateway.client.get(f"/api/v1/validate-batch/{id_}")).status_code == 404
    assert CREDITS > 0
