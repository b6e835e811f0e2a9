"""Every POST of the OpenAPI document takes an `Idempotency-Key`: the same request gets the same answer and has its effect
once, another request is refused, one that is under way is told so. Generated, so that a new POST is in it from its
first day: it needs a line in CALLS and nothing else.
"""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from gateway.app import create_app
from gateway.collections import AUDIT, CREDIT_ENTRIES, FILES, IDEMPOTENCY_KEYS, ORGANISATIONS, WEBHOOK_DELIVERIES
from services.webhooks.serve import running_webhooks
from shared.documents import Change
from shared.settings import Settings
from tests.integration.batch_gateway import ORG, BatchGateway, eventually
from tests.servers import ValkeyServer
from tests.servers.fake_stripe import FakeStripe
from tests.servers.receiver import Receiver

# Stripe's library hands its body to httpx in a way that httpx warns of.
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=<...>':DeprecationWarning")

# Called by Stripe and nobody else, which sends no such header: the event's own id does what the key does elsewhere.
NOT_OURS = {"/webhooks/stripe"}

PATHS = create_app(Settings.load(_env_file=None)).openapi()["paths"]
POSTS = sorted(path for path, methods in PATHS.items() if "post" in methods and path not in NOT_OURS)

QUIET = ["credits.low"]  # nothing happens of which an endpoint would be told meanwhile

# What each takes, and the same with another meaning; None: it takes no body.
CALLS: dict[str, tuple[dict[str, Any] | None, dict[str, Any] | None]] = {
    "/api/v1/files": (
        {"files": {"file": ("a.csv", "email\nok1@nest.example\n")}},
        {"files": {"file": ("a.csv", "email\nok2@nest.example\n")}},
    ),
    "/api/v1/files/{file_id}/pause": (None, None),
    "/api/v1/files/{file_id}/resume": (None, None),
    "/api/v1/files/{file_id}/cancel": (None, None),
    "/api/v1/files/{file_id}/start": (None, None),
    "/api/v1/validate-batch": (
        {"json": {"emails": ["ok@nest.example"]}},
        {"json": {"emails": ["no@nest.example"]}},
    ),
    "/api/v1/validate": ({"json": {"email": "ok@nest.example", "timeout": 1}}, {"json": {"email": "no@nest.example"}}),
    "/api/v1/api-keys": ({"json": {"name": "one"}}, {"json": {"name": "two"}}),
    "/api/v1/members": ({"json": {"userId": "user_one"}}, {"json": {"userId": "user_one", "role": "viewer"}}),
    "/api/v1/billing/checkout": ({"json": {"pack": "credits_10k"}}, {"json": {"pack": "credits_1m"}}),
    "/api/v1/billing/portal": (None, None),
    "/api/v1/webhooks": (
        {"json": {"url": "https://hooks.example.com/1", "events": QUIET}},
        {"json": {"url": "https://hooks.example.com/2", "events": QUIET}},
    ),
    "/api/v1/webhooks/callback-secret": (None, None),
    "/api/v1/webhooks/{endpoint_id}/rotate-secret": (None, None),
    "/api/v1/webhooks/{endpoint_id}/test": (None, None),
    "/api/v1/webhooks/{endpoint_id}/deliveries/{delivery_id}/replay": (None, None),
    "/api/v1/suppressions": ({"json": {"email": "a@one.example"}}, {"json": {"email": "b@one.example"}}),
    "/api/v1/erasures": ({"json": {"email": "c@one.example"}}, {"json": {"email": "d@one.example"}}),
}
# The state that a file must be in: the calls before.
BEFORE = {"start": (), "pause": ("start",), "resume": ("start", "pause"), "cancel": ("start",)}


class House:
    def __init__(self, gateway: BatchGateway, ids: dict[str, str]) -> None:
        self.gateway = gateway
        self.client = gateway.client
        self.ids = ids

    async def url(self, path: str) -> str:
        """`path` about things that are there, in a state that takes the call."""
        ids = dict(self.ids)
        if "{file_id}" in path:
            ids["file_id"] = await self._file(BEFORE[path.rpartition("/")[2]])
        return path.format(**ids)

    async def _file(self, steps: tuple[str, ...]) -> str:
        upload = {"file": ("list.csv", f"email\nok{secrets.token_hex(4)}@nest.example\n")}
        file_id: str = (await self.client.post("/api/v1/files?start=false", files=upload)).json()["fileId"]
        for step in steps:
            assert (await self.client.post(f"/api/v1/files/{file_id}/{step}")).status_code == 202
        return file_id

    async def effects(self) -> list[str]:
        """Ids of all that calls leave behind."""
        documents = self.gateway.documents
        kinds = (FILES, AUDIT, CREDIT_ENTRIES, WEBHOOK_DELIVERIES)
        return [one["_id"] for kind in kinds async for one in documents.scan(kind, {}, fields=("orgId",))]


@pytest.fixture(scope="module")
async def house(tmp_path_factory, valkey: ValkeyServer) -> AsyncIterator[House]:
    async with (
        FakeStripe() as stripe,
        Receiver() as receiver,
        BatchGateway(
            tmp_path_factory.mktemp("posts"), valkey.url, webhook_allow_networks=("127.0.0.0/8",), **stripe.settings
        ) as gateway,
        running_webhooks(gateway.settings, gateway.documents),
    ):
        gateway.validator.gate.clear()  # so that files stay under way
        bought = await gateway.client.post("/api/v1/billing/checkout", json={"pack": "credits_10k"})
        customer = stripe.pay(bought.json()["sessionId"])["customer"]  # who may see the portal
        await gateway.documents.update(ORGANISATIONS, ORG, Change(set={"stripeCustomer": customer}))
        watched = {"url": receiver.url, "events": QUIET}
        endpoint = (await gateway.client.post("/api/v1/webhooks", json=watched)).json()["id"]
        delivery = (await gateway.client.post(f"/api/v1/webhooks/{endpoint}/test")).json()["id"]
        await eventually(lambda: receiver.came)
        yield House(gateway, {"endpoint_id": endpoint, "delivery_id": delivery})
        gateway.validator.gate.set()


def test_every_post_is_known_here_and_documents_the_header() -> None:
    assert set(POSTS) == CALLS.keys()
    for path in POSTS:
        headers = [one["name"] for one in PATHS[path]["post"]["parameters"] if one["in"] == "header"]
        assert "Idempotency-Key" in headers, path


@pytest.mark.parametrize("path", POSTS)
async def test_the_same_request_has_one_effect_and_one_answer(house: House, path: str) -> None:
    url, (body, other) = await house.url(path), CALLS[path]
    key = {"Idempotency-Key": f"key for {path}"}
    documents = house.gateway.documents

    async def post(options: dict[str, Any] | None, query: str = "") -> httpx.Response:
        return await house.client.post(url + query, headers=key, **(options or {}))

    records = {one["_id"] async for one in documents.scan(IDEMPOTENCY_KEYS, {}, fields=("createdAt",))}
    first = await post(body)
    assert first.status_code in (200, 201, 202), first.text
    assert "idempotent-replayed" not in first.headers
    before = await house.effects()
    again = await post(body)
    assert again.headers["idempotent-replayed"] == "true"
    assert (again.status_code, again.content) == (first.status_code, first.content)
    assert again.headers.get("location") == first.headers.get("location")
    assert await house.effects() == before

    refused = await post(other) if other is not None else await post(body, "?another=request")
    assert (refused.status_code, refused.json()["code"]) == (422, "idempotency_key_reused")

    fresh = [one["_id"] async for one in documents.scan(IDEMPOTENCY_KEYS, {}, fields=("createdAt",))]
    (record,) = (id_ for id_ in fresh if id_ not in records)
    running = {"state": "running", "leaseUntil": 1e12}
    assert await documents.update(IDEMPOTENCY_KEYS, record, Change(set=running)) is not None
    busy = await post(body)
    assert (busy.status_code, busy.json()["code"]) == (409, "idempotency_key_in_flight")
    assert "retry-after" in busy.headers


async def test_a_secret_shown_once_is_not_in_the_stores_and_is_given_again_to_who_has_the_key(house: House) -> None:
    shown = []
    for path, member in (("/api/v1/api-keys", "key"), ("/api/v1/webhooks", "secret")):
        headers = {"Idempotency-Key": f"secret of {path}"}
        answers = [await house.client.post(path, headers=headers, **(CALLS[path][0] or {})) for _ in range(2)]
        assert answers[0].json()[member] == answers[1].json()[member]
        shown.append(answers[0].json()[member])
    async for record in house.gateway.documents.scan(IDEMPOTENCY_KEYS, {}):
        assert not any(secret in str(record) for secret in shown)
        assert "secret of" not in str(record)
