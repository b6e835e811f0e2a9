"""Test keys over HTTP: the whole way of a list with verdicts that are made up, free of charge, and apart from all that is
live.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from gateway.accounts.caller import SANDBOX
from gateway.collections import ALL, CREDIT_ENTRIES
from services.webhooks.serve import running_webhooks
from shared.broker.rabbitmq import RabbitBroker
from shared.documents.mongodb import MongoDocuments
from shared.topology import WORK
from shared.verdict import Reason
from tests.integration.batch_gateway import BatchGateway, another_client, eventually
from tests.servers import MongoServer, RabbitServer, ValkeyServer
from tests.servers.receiver import Came, Receiver

LIST = (
    "email,name\nann@a.example,Ann\nmailbox-missing@a.example,Bob\nAnn@a.example,Ann\ncatch-all@b.example,C\nbroken,D\n"
)


class Sandbox:
    """A gateway with a validator that must see nothing, and clients with a live and a test key."""

    def __init__(self, gateway: BatchGateway, test: httpx.AsyncClient) -> None:
        self.gateway = gateway
        self.live = gateway.client
        self.test = test

    async def until(self, file_id: str, status: str = "completed") -> dict[str, Any]:
        async def reached() -> bool:
            return bool((await self.test.get(f"/api/v1/files/{file_id}")).json()["status"] == status)

        await eventually(reached)
        shown: dict[str, Any] = (await self.test.get(f"/api/v1/files/{file_id}")).json()
        return shown

    async def upload(self, text: str = LIST, query: str = "") -> dict[str, Any]:
        answer = await self.test.post(f"/api/v1/files{query}", files={"file": ("list.csv", text)})
        assert answer.status_code == 202, answer.text
        body: dict[str, Any] = answer.json()
        return body

    async def money(self) -> tuple[dict[str, int], int]:
        documents = self.gateway.documents
        return await self.gateway.credits(), await documents.count(CREDIT_ENTRIES, {"orgId": "org_default"})


async def _made(gateway: BatchGateway, **wanted: Any) -> str:
    made = await gateway.client.post("/api/v1/api-keys", json={"name": "a test key", "test": True, **wanted})
    key: str = made.json()["key"]
    return key


@pytest.fixture
async def sandbox(tmp_path, valkey: ValkeyServer) -> AsyncIterator[Sandbox]:
    async with (
        BatchGateway(tmp_path, valkey.url, webhook_allow_networks=("127.0.0.0/8",)) as gateway,
        another_client(gateway, await _made(gateway, scopes=["*"])) as test,
    ):
        yield Sandbox(gateway, test)
        assert all(not work.file_id.startswith("test_") for work in gateway.validator.seen)


async def test_a_single_address_is_answered_by_its_name_free_and_marked(sandbox: Sandbox) -> None:
    before = await sandbox.money()
    for reason in (Reason.ACCEPTED, Reason.MAILBOX_MISSING, Reason.CATCH_ALL, Reason.PROBER_BLOCKED):
        answer = await sandbox.test.post("/api/v1/validate", json={"email": f"{reason}@nowhere.example"})
        assert answer.status_code == 200
        assert (answer.json()["reason"], answer.json()["test"]) == (reason, True)
        assert answer.headers["mailvet-test"] == "true"
    broken = (await sandbox.test.post("/api/v1/validate", json={"email": "broken"})).json()
    assert (broken["reason"], broken["test"]) == ("invalid_syntax", True)
    assert await sandbox.money() == before
    assert "mailvet-test" not in (await sandbox.live.get("/api/v1/credits")).headers


async def test_a_greylisted_address_answers_202_and_is_there_after_its_second_look(sandbox: Sandbox) -> None:
    answer = await sandbox.test.post("/api/v1/validate", json={"email": "greylisted@a.example"})
    assert (answer.status_code, answer.json()["test"]) == (202, True)
    where = answer.headers["location"]

    async def there() -> bool:
        return (await sandbox.test.get(where)).status_code == 200

    await eventually(there)
    result = (await sandbox.test.get(where)).json()
    assert (result["status"], result["test"]) == ("valid", True)
    assert (await sandbox.live.get(where)).status_code == 404


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/api/v1/validate", {"email": "insufficient-credits@a.example"}),
        ("/api/v1/validate-batch", {"emails": ["ann@a.example", "insufficient-credits@a.example"]}),
    ],
)
async def test_what_happens_without_credits_can_be_tried(sandbox: Sandbox, path: str, body: dict[str, Any]) -> None:
    answer = await sandbox.test.post(path, json=body)
    assert (answer.status_code, answer.json()["code"]) == (402, "insufficient_credits")


async def test_a_list_goes_the_whole_way_free_of_charge(sandbox: Sandbox) -> None:
    before = await sandbox.money()
    accepted = await sandbox.upload()
    file_id = accepted["fileId"]
    assert file_id.startswith("test_")
    assert (accepted["test"], accepted["creditsReserved"], accepted["cost"]) == (True, 0, 0)
    file = await sandbox.until(file_id)
    assert (file["test"], file["creditsCharged"]) == (True, 0)
    assert (file["valid"], file["invalid"], file["risky"], file["processed"]) == (1, 2, 1, 4)
    stats = (await sandbox.test.get(f"/api/v1/files/{file_id}/stats")).json()
    assert stats["reasons"] == {"accepted": 1, "catch_all": 1, "invalid_syntax": 1, "mailbox_missing": 1}
    emails = (await sandbox.test.get(f"/api/v1/files/{file_id}/emails?status=risky")).json()["items"]
    assert [one["email"] for one in emails] == ["catch-all@b.example"]
    download = await sandbox.test.get(f"/api/v1/files/{file_id}/download?format=csv")
    rows = download.text.splitlines()
    assert len(rows) == 6
    assert rows[1].startswith("ann@a.example,Ann,valid,accepted")
    assert "sandbox" in rows[1]
    assert download.headers["mailvet-test"] == "true"
    assert await sandbox.money() == before


async def test_its_events_are_those_of_every_list(sandbox: Sandbox) -> None:
    file_id = (await sandbox.upload())["fileId"]
    events: list[str] = []
    async with sandbox.test.stream("GET", f"/api/v1/files/{file_id}/events") as stream:
        assert stream.headers["mailvet-test"] == "true"
        async for line in stream.aiter_lines():
            if line.startswith("event: "):
                events.append(line.removeprefix("event: "))
            if events[-1:] == ["done"]:
                break
    assert {"progress", "stats", "done"} <= set(events)


async def test_a_list_that_waits_is_started_paused_resumed_and_cancelled(tmp_path, valkey: ValkeyServer) -> None:
    async with (
        BatchGateway(tmp_path, valkey.url, retry_delays=(3600.0,)) as gateway,
        another_client(gateway, await _made(gateway)) as test,
    ):
        sandbox = Sandbox(gateway, test)
        ready = await sandbox.upload("email\ngreylisted@a.example\nann@a.example\n", "?start=false")
        assert (ready["status"], ready["cost"]) == ("ready", 0)
        path = f"/api/v1/files/{ready['fileId']}"
        for step, status in (("start", "processing"), ("pause", "paused"), ("resume", "processing")):
            assert (await test.post(f"{path}/{step}")).status_code == 202, step
            assert (await sandbox.until(ready["fileId"], status))["status"] == status
        await eventually(lambda: _processed(test, path))
        assert (await test.post(f"{path}/cancel")).json()["status"] == "cancelled"
        assert (await sandbox.until(ready["fileId"], "cancelled"))["valid"] == 1
        assert (await test.delete(path)).status_code == 204


async def _processed(client: httpx.AsyncClient, path: str) -> bool:
    return bool((await client.get(path)).json()["processed"])


async def test_live_and_test_keys_do_not_see_each_others_lists(sandbox: Sandbox) -> None:
    test_id = (await sandbox.upload())["fileId"]
    live_id = await sandbox.gateway.submit(["ok@nest.example"])
    await sandbox.until(test_id)
    await sandbox.gateway.until(live_id)
    never = await sandbox.live.get("/api/v1/files/never")
    for client, mine, theirs in ((sandbox.live, live_id, test_id), (sandbox.test, test_id, live_id)):
        listed = (await client.get("/api/v1/files")).json()["items"]
        assert [one["fileId"] for one in listed] == [mine]
        for method, path in (
            ("GET", ""),
            ("GET", "/stats"),
            ("GET", "/emails"),
            ("GET", "/events"),
            ("GET", "/download"),
            ("POST", "/pause"),
            ("POST", "/resume"),
            ("POST", "/cancel"),
            ("POST", "/start"),
            ("DELETE", ""),
        ):
            answer = await client.request(method, f"/api/v1/files/{theirs}{path}")
            assert answer.status_code == 404, (method, path)
            assert answer.json()["detail"] == never.json()["detail"]
        assert (await client.get(f"/api/v1/validate-batch/{theirs}")).status_code == 404
    assert not any("test" in one and one["test"] for one in (await sandbox.live.get("/api/v1/files")).json()["items"])


async def test_an_idempotency_key_of_the_sandbox_is_not_one_of_the_live_keys(sandbox: Sandbox) -> None:
    body, key = {"emails": ["ok@nest.example"]}, {"Idempotency-Key": "the same"}
    test = await sandbox.test.post("/api/v1/validate-batch", json=body, headers=key)
    live = await sandbox.live.post("/api/v1/validate-batch", json=body, headers=key)
    assert (test.json()["test"], live.json()["test"]) == (True, False)
    assert "idempotent-replayed" not in live.headers


async def test_webhooks_of_the_sandbox_are_told_of_the_sandbox_and_no_others(sandbox: Sandbox) -> None:
    async with Receiver() as receiver, running_webhooks(sandbox.gateway.settings, sandbox.gateway.documents):
        made = {}
        for name, client in (("live", sandbox.live), ("test", sandbox.test)):
            answer = await client.post("/api/v1/webhooks", json={"url": f"{receiver.url}/{name}"})
            made[name] = answer.json()["id"]
        callback = {"emails": ["ann@a.example"], "callbackUrl": f"{receiver.url}/callback"}
        batch = (await sandbox.test.post("/api/v1/validate-batch", json=callback)).json()
        live_id = await sandbox.gateway.submit(["ok@nest.example"])
        await eventually(lambda: receiver.to("live") and receiver.to("test") and receiver.to("callback"))
        for path, file_id, test in (("live", live_id, None), ("test", batch["fileId"], True)):
            (came,) = receiver.to(path)
            assert (_body(came)["data"]["fileId"], _body(came).get("test")) == (file_id, test)
        assert _body(receiver.to("callback")[0])["test"] is True
        listed = (await sandbox.test.get("/api/v1/webhooks")).json()["items"]
        assert [one["id"] for one in listed] == [made["test"]]
        for client, theirs in ((sandbox.live, made["test"]), (sandbox.test, made["live"])):
            assert (await client.get(f"/api/v1/webhooks/{theirs}")).status_code == 404
        assert (await sandbox.test.post(f"/api/v1/webhooks/{made['test']}/test")).status_code == 202
        await eventually(lambda: len(receiver.to("test")) == 2)
        assert _body(receiver.to("test")[1])["test"] is True


def _body(came: Came) -> dict[str, Any]:
    body: dict[str, Any] = json.loads(came.body)
    return body


async def test_a_test_key_can_do_nothing_outside_the_sandbox_even_with_every_scope(sandbox: Sandbox) -> None:
    address = {"email": "ann@a.example"}
    for method, path, body in (
        ("POST", "/api/v1/api-keys", {"name": "a live one"}),
        ("GET", "/api/v1/api-keys", None),
        ("POST", "/api/v1/members", {"userId": "user_1"}),
        ("GET", "/api/v1/audit-log", None),
        ("PATCH", "/api/v1/organisation", {"name": "x"}),
        ("POST", "/api/v1/suppressions", address),
        ("POST", "/api/v1/erasures", address),
        ("POST", "/api/v1/billing/checkout", {"pack": "credits_10k"}),
    ):
        answer = await sandbox.test.request(method, path, json=body)
        assert (answer.status_code, answer.json()["code"]) == (403, "test_key"), path
    assert "keys:write" not in SANDBOX


async def test_suppression_is_of_live_lists_and_erasure_of_all(sandbox: Sandbox) -> None:
    address = {"email": "ann@a.example"}
    assert (await sandbox.live.post("/api/v1/suppressions", json=address)).status_code == 201
    file_id = (await sandbox.upload())["fileId"]
    await sandbox.until(file_id)
    path = f"/api/v1/files/{file_id}/emails"
    found = {one["email"]: one["reason"] for one in (await sandbox.test.get(path)).json()["items"]}
    assert found["ann@a.example"] == "accepted"
    erasure = await sandbox.live.post("/api/v1/erasures", json=address)

    async def done() -> bool:
        return bool((await sandbox.live.get(erasure.headers["location"])).json()["state"] == "done")

    await eventually(done)
    assert "ann@a.example" not in (await sandbox.test.get(path)).text


@pytest.mark.rabbitmq
@pytest.mark.mongodb
async def test_over_the_real_broker_and_store_no_work_is_queued(
    tmp_path, rabbit: RabbitServer, mongo: MongoServer, valkey: ValkeyServer
) -> None:
    async with (
        RabbitBroker(rabbit.url) as broker,
        MongoDocuments(mongo.url_of("sandbox"), ALL) as documents,
        BatchGateway(tmp_path, valkey.url, broker=broker, documents=documents, validator=False) as gateway,
        another_client(gateway, await _made(gateway)) as test,
    ):
        sandbox = Sandbox(gateway, test)
        queued = await broker.depth(WORK)
        file_id = (await sandbox.upload("email\ngreylisted@a.example\nmailbox-full@b.example\n"))["fileId"]
        file = await sandbox.until(file_id)
        assert (file["valid"], file["risky"], file["creditsCharged"]) == (1, 1, 0)
        assert await broker.depth(WORK) == queued
        assert [one["fileId"] for one in (await test.get("/api/v1/files")).json()["items"]] == [file_id]
        assert (await gateway.client.get("/api/v1/files")).json()["items"] == []
