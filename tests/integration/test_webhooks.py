"""Events out: from the end of a file, over the wire, to a receiver that verifies them with the reference library."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any

import orjson
import pytest
from fastapi import Response
from standardwebhooks import Webhook, WebhookVerificationError

from gateway.collections import AUDIT, FILES, ORGANISATIONS, WEBHOOK_DELIVERIES, WEBHOOK_ENDPOINTS
from gateway.webhooks.endpoints import callback_id
from services.webhooks.serve import running_webhooks
from shared.documents import Change
from tests.integration.batch_gateway import ORG, BatchGateway, eventually
from tests.servers import ValkeyServer
from tests.servers.receiver import Came, Receiver

ALLOW = {"webhook_allow_networks": ("127.0.0.0/8",)}
FAST = (0.05,) * 9


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    async with Receiver() as running:
        yield running


@pytest.fixture
async def gateway(tmp_path, valkey: ValkeyServer) -> AsyncIterator[BatchGateway]:
    async with AsyncExitStack() as stack:
        running = await stack.enter_async_context(BatchGateway(tmp_path, valkey.url, **ALLOW))
        await stack.enter_async_context(running_webhooks(running.settings, running.documents, delays=FAST, every=0.1))
        yield running


async def subscribe(gateway: BatchGateway, url: str, *events: str) -> dict[str, Any]:
    body = {"url": url, **({"events": list(events)} if events else {})}
    answer = await gateway.client.post("/api/v1/webhooks", json=body)
    assert answer.status_code == 201, answer.text
    made: dict[str, Any] = answer.json()
    return made


def verified(came: Came, secret: str) -> dict[str, Any]:
    """By the reference library, over the exact bytes."""
    data: dict[str, Any] = Webhook(secret).verify(came.body, came.headers)
    return data


async def deliveries(gateway: BatchGateway, endpoint: dict[str, Any]) -> list[dict[str, Any]]:
    answer = await gateway.client.get(f"/api/v1/webhooks/{endpoint['id']}/deliveries")
    items: list[dict[str, Any]] = answer.json()["items"]
    return items


async def test_the_end_of_a_list_is_told_with_counts_and_no_addresses(
    gateway: BatchGateway, receiver: Receiver
) -> None:
    endpoint = await subscribe(gateway, receiver.url + "/all")
    await subscribe(gateway, receiver.url + "/credits", "credits.low")
    file_id = await gateway.submit(["ok1@a.example.com", "no1@a.example.com", "broken"])
    await gateway.until(file_id)
    await eventually(lambda: receiver.to("all"))
    [came] = receiver.to("all")
    told = verified(came, endpoint["secret"])
    assert told["type"] == "bulk_job.finished"
    assert told["data"]["fileId"] == file_id
    assert (told["data"]["valid"], told["data"]["invalid"], told["data"]["creditsCharged"]) == (1, 2, 2)
    assert b"@" not in came.body
    assert len(came.body) < 20_000
    assert came.headers["webhook-id"] == (await gateway.stored(file_id))["event"]["id"]
    assert "." not in came.headers["webhook-id"]
    assert receiver.to("credits") == []
    with pytest.raises(WebhookVerificationError):
        Webhook(endpoint["secret"]).verify(came.body + b" ", came.headers)


async def test_the_signed_bytes_are_refused_with_another_secret(gateway: BatchGateway, receiver: Receiver) -> None:
    first = await subscribe(gateway, receiver.url + "/a")
    second = await subscribe(gateway, receiver.url + "/b")
    await gateway.client.post(f"/api/v1/webhooks/{first['id']}/test")
    await eventually(lambda: receiver.to("a"))
    assert verified(receiver.to("a")[0], first["secret"])["type"] == "webhook.test"
    with pytest.raises(WebhookVerificationError):
        verified(receiver.to("a")[0], second["secret"])


async def test_tries_go_on_with_one_id_and_a_new_timestamp_until_one_succeeds(
    gateway: BatchGateway, receiver: Receiver
) -> None:
    endpoint = await subscribe(gateway, receiver.url + "/hook")
    receiver.answer = lambda _: Response("not\x00 now <b>", 200 if len(receiver.came) > 4 else 503)
    await gateway.until(await gateway.submit(["ok1@a.example.com"]))
    await eventually(lambda: len(receiver.came) == 5)
    assert len({came.headers["webhook-id"] for came in receiver.came}) == 1
    assert len({came.body for came in receiver.came}) == 1
    for came in receiver.came:
        verified(came, endpoint["secret"])

    async def delivered() -> bool:
        return (await deliveries(gateway, endpoint))[0]["state"] == "delivered"

    await eventually(delivered)
    [one] = await deliveries(gateway, endpoint)
    assert [tried["status"] for tried in one["log"]] == [503] * 4 + [200]
    assert one["log"][0]["why"] == "not now <b>"


async def test_ten_tries_use_a_delivery_up_and_a_replay_gives_it_more(
    gateway: BatchGateway, receiver: Receiver
) -> None:
    endpoint = await subscribe(gateway, receiver.url + "/hook")
    receiver.answer = lambda _: Response(status_code=500)
    await gateway.client.post(f"/api/v1/webhooks/{endpoint['id']}/test")

    async def exhausted() -> bool:
        return (await deliveries(gateway, endpoint))[0]["state"] == "exhausted"

    await eventually(exhausted)
    assert len(receiver.came) == 10
    receiver.answer = lambda _: Response(status_code=200)
    [one] = await deliveries(gateway, endpoint)
    path = f"/api/v1/webhooks/{endpoint['id']}/deliveries/{one['id']}/replay"
    assert (await gateway.client.post(path)).status_code == 202
    await eventually(lambda: len(receiver.came) == 11)
    assert len({came.headers["webhook-id"] for came in receiver.came}) == 1
    assert (await gateway.client.post(path + "x")).status_code in (404, 405)


async def test_a_410_disables_the_endpoint(gateway: BatchGateway, receiver: Receiver) -> None:
    endpoint = await subscribe(gateway, receiver.url + "/hook")
    receiver.answer = lambda _: Response(status_code=410)
    await gateway.until(await gateway.submit(["ok1@a.example.com"]))

    async def disabled() -> bool:
        return not (await gateway.client.get(f"/api/v1/webhooks/{endpoint['id']}")).json()["enabled"]

    await eventually(disabled)
    shown = (await gateway.client.get(f"/api/v1/webhooks/{endpoint['id']}")).json()
    assert shown["disabledWhy"] == "gone"
    file_id = await gateway.submit(["ok2@a.example.com"])

    async def told() -> bool:
        return (await gateway.stored(file_id)).get("eventState") == "taken"

    await eventually(told)
    again = await gateway.client.patch(f"/api/v1/webhooks/{endpoint['id']}", json={"enabled": True})
    assert again.json()["enabled"]
    assert len(receiver.came) == 1
    actions = [entry["action"] async for entry in gateway.documents.scan(AUDIT, {"orgId": ORG}, sort="at")]
    assert "webhook.disabled" in actions


async def test_a_rotated_secret_and_the_one_before_both_verify(gateway: BatchGateway, receiver: Receiver) -> None:
    endpoint = await subscribe(gateway, receiver.url + "/hook")
    path = f"/api/v1/webhooks/{endpoint['id']}"
    fresh = (await gateway.client.post(path + "/rotate-secret")).json()["secret"]
    await gateway.client.post(path + "/test")
    await eventually(lambda: receiver.came)
    verified(receiver.came[0], endpoint["secret"])
    verified(receiver.came[0], fresh)
    over = Change(set={"oldSecretUntil": time.time() - 1})
    await gateway.documents.update(WEBHOOK_ENDPOINTS, endpoint["id"], over)
    await gateway.client.post(path + "/test")
    await eventually(lambda: len(receiver.came) == 2)
    verified(receiver.came[1], fresh)
    with pytest.raises(WebhookVerificationError):
        verified(receiver.came[1], endpoint["secret"])
    for answer in (await gateway.client.get(path), await gateway.client.get("/api/v1/webhooks")):
        assert fresh not in answer.text


async def test_a_slow_endpoint_keeps_only_itself_waiting(gateway: BatchGateway, receiver: Receiver) -> None:
    slow = await subscribe(gateway, receiver.url + "/slow")
    quick = await subscribe(gateway, receiver.url + "/quick")
    receiver.gate.clear()
    for _ in range(30):
        await gateway.client.post(f"/api/v1/webhooks/{slow['id']}/test")
    await eventually(lambda: len(receiver.to("slow")) == 4)
    began = time.monotonic()
    await gateway.client.post(f"/api/v1/webhooks/{quick['id']}/test")
    await eventually(lambda: receiver.to("quick"))
    assert time.monotonic() - began < 1.5
    assert len(receiver.to("slow")) == 4
    receiver.gate.set()
    await eventually(lambda: len(receiver.to("slow")) == 30)


async def test_a_callback_url_is_told_signed_with_the_organisations_callback_secret(
    gateway: BatchGateway, receiver: Receiver
) -> None:
    secret = (await gateway.client.post("/api/v1/webhooks/callback-secret")).json()["secret"]
    body = {"emails": ["ok1@a.example.com"], "callbackUrl": receiver.url + "/mine?list=7"}
    answer = await gateway.client.post("/api/v1/validate-batch", json=body)
    assert answer.status_code == 202
    await eventually(lambda: receiver.to("mine"))
    told = verified(receiver.to("mine")[0], secret)
    assert told["data"]["batchId"] == answer.json()["batchId"]
    assert (await gateway.client.get("/api/v1/webhooks")).json()["items"] == []
    hidden = await gateway.client.get(f"/api/v1/webhooks/{callback_id(ORG)}")
    assert hidden.status_code == 404


async def test_low_credits_are_told_once_until_they_are_up_again(gateway: BatchGateway, receiver: Receiver) -> None:
    endpoint = await subscribe(gateway, receiver.url + "/hook", "credits.low")
    ledger = gateway.parts.ledger
    await ledger.adjust(ORG, -99_500, "test")
    await eventually(lambda: receiver.came)
    told = verified(receiver.came[0], endpoint["secret"])
    assert told["data"] == {"available": 500, "below": 1_000}

    async def rearmed() -> bool:
        organisation = await gateway.documents.get(ORGANISATIONS, ORG)
        return organisation is not None and not organisation["lowCredits"]["low"]

    await ledger.adjust(ORG, 5_000, "test2")
    await eventually(rearmed)
    await ledger.adjust(ORG, -5_000, "test3")
    await eventually(lambda: len(receiver.came) == 2)
    assert receiver.came[0].headers["webhook-id"] != receiver.came[1].headers["webhook-id"]


@pytest.mark.parametrize(
    "url",
    [
        "http://93.184.216.34/",
        "https://10.0.0.1/hook",
        "https://localhost/hook",
        "https://intranet/hook",
        "https://user:pw@hooks.example.com/",
        "https://printer.local/",
        "ftp://hooks.example.com/",
        "file:///etc/passwd",
        "https://0x7f000001/",
        "https://127.1/",
        "https://hooks.example.com/#part",
        "https://hooks.example.com/a b",
        "nonsense",
        "",
    ],
)
async def test_urls_that_may_not_be_called_are_refused(gateway: BatchGateway, url: str) -> None:
    answer = await gateway.client.post("/api/v1/webhooks", json={"url": url})
    assert answer.status_code == 422, answer.text
    callback = {"emails": ["ok1@a.example.com"], "callbackUrl": url}
    assert (await gateway.client.post("/api/v1/validate-batch", json=callback)).status_code == 422


async def test_a_finished_file_is_told_although_the_teller_was_away(
    tmp_path, valkey: ValkeyServer, receiver: Receiver
) -> None:
    """The event is in the file's document; whoever starts later finds it. Told twice by two tellers, sent once."""
    async with BatchGateway(tmp_path, valkey.url, **ALLOW) as gateway:
        endpoint = await subscribe(gateway, receiver.url + "/hook")
        file_id = await gateway.submit(["ok1@a.example.com"])
        await gateway.until(file_id)
        assert (await gateway.stored(file_id))["eventState"] == "pending"
        async with (
            running_webhooks(gateway.settings, gateway.documents, every=0.1),
            running_webhooks(gateway.settings, gateway.documents, every=0.1),
        ):
            await eventually(lambda: receiver.came)

            async def taken() -> bool:
                return (await gateway.stored(file_id))["eventState"] == "taken"

            await eventually(taken)
            # As if it had died between the deliveries and the mark.
            await gateway.documents.update(FILES, file_id, Change(set={"eventState": "pending"}))
            await eventually(taken)
        assert len(receiver.came) == 1
        verified(receiver.came[0], endpoint["secret"])
        assert [one["tries"] async for one in gateway.documents.scan(WEBHOOK_DELIVERIES, {})] == [1]


async def test_a_deleted_endpoint_gets_nothing_more(gateway: BatchGateway, receiver: Receiver) -> None:
    endpoint = await subscribe(gateway, receiver.url + "/hook")
    path = f"/api/v1/webhooks/{endpoint['id']}"
    assert (await gateway.client.delete(path)).status_code == 204
    assert (await gateway.client.get(path)).status_code == 404
    await gateway.until(await gateway.submit(["ok1@a.example.com"]))
    assert [one async for one in gateway.documents.scan(WEBHOOK_DELIVERIES, {})] == []


async def test_the_same_idempotency_key_makes_one_endpoint_and_shows_one_secret(gateway: BatchGateway) -> None:
    headers = {"Idempotency-Key": "hook-1"}
    body = {"url": "https://hooks.example.com/a"}
    made = [await gateway.client.post("/api/v1/webhooks", json=body, headers=headers) for _ in range(2)]
    assert made[0].json() == made[1].json()
    assert len((await gateway.client.get("/api/v1/webhooks")).json()["items"]) == 1
    assert orjson.loads(made[0].content)["secret"].startswith("whsec_")


async def test_an_organisation_has_a_bounded_number_of_endpoints(gateway: BatchGateway) -> None:
    answers = await asyncio.gather(
        *(gateway.client.post("/api/v1/webhooks", json={"url": f"https://h{n}.example.com/"}) for n in range(5))
    )
    assert {answer.status_code for answer in answers} == {201}
    for n in range(20):
        last = await gateway.client.post("/api/v1/webhooks", json={"url": f"https://i{n}.example.com/"})
    assert (last.status_code, last.json()["code"]) == (409, "too_many_endpoints")
