"""Two organisations, every route of the OpenAPI document: ids of the one are unknown to the other, exactly as ids that
never were, and nothing of the one is in any answer to the other. Generated, so that a new route is in it from its first day.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Iterator
from typing import Any

import httpx
import pytest

from gateway.accounts.caller import DEFAULT_ORG, SCOPES
from gateway.accounts.organisations import ensure_organisation
from gateway.api_keys.keys import key_document
from gateway.app import create_app
from gateway.collections import API_KEYS, FILES
from services.webhooks.serve import running_webhooks
from shared.settings import Settings
from tests.integration.batch_gateway import BatchGateway, eventually
from tests.integration.belongings import CANARY, belongings
from tests.servers import ValkeyServer
from tests.servers.fake_stripe import FakeStripe
from tests.servers.receiver import Receiver

pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=<...>':DeprecationWarning")

OTHER_ORG = "org_of_somebody_else"
OTHER_KEY = "mv_live_somebody_elses_key_0123456789"
NEVER = "0" * 32

# A body that gets as far as the look-up; what is not named here takes none.
BODIES: dict[tuple[str, str], Any] = {
    ("PATCH", "/api/v1/members/{user_id}"): {"role": "viewer"},
    ("PATCH", "/api/v1/webhooks/{endpoint_id}"): {"description": "mine now"},
}


def operations() -> Iterator[tuple[str, str, list[str], bool]]:
    """Method, path, names of the ids in the path, whether it takes a JSON body; of every operation."""
    paths = create_app(Settings.load(_env_file=None)).openapi()["paths"]
    for path, methods in paths.items():
        for method, operation in methods.items():
            names = [one["name"] for one in operation.get("parameters", ()) if one["in"] == "path"]
            yield method.upper(), path, names, "application/json" in operation.get("requestBody", {}).get("content", {})


EVERY = list(operations())
WITH_IDS = [(method, path) for method, path, names, _ in EVERY if names]
LISTS = [path for method, path, names, _ in EVERY if method == "GET" and not names and path.startswith("/api/")]


class Two:
    """The first organisation's ids by the names that the paths use, and a client of the second."""

    def __init__(self, gateway: BatchGateway, other: httpx.AsyncClient, ids: dict[str, str]) -> None:
        self.gateway = gateway
        self.other = other
        self.ids = ids

    async def ask(self, method: str, path: str, ids: dict[str, str]) -> tuple[int, dict[str, Any]]:
        options = {"json": BODIES[method, path]} if (method, path) in BODIES else {}
        answer = await self.other.request(method, path.format(**ids), **options)
        body = answer.json() if answer.content else {}
        body.pop("requestId", None)
        return answer.status_code, body


@pytest.fixture(scope="module")
async def two(tmp_path_factory, valkey: ValkeyServer) -> AsyncIterator[Two]:
    async with (
        FakeStripe() as stripe,
        Receiver() as receiver,
        BatchGateway(
            tmp_path_factory.mktemp("two"),
            valkey.url,
            webhook_allow_networks=("127.0.0.0/8",),
            **stripe.settings,
        ) as gateway,
        running_webhooks(gateway.settings, gateway.documents),
        httpx.AsyncClient(base_url=gateway.url, headers={"X-API-Key": OTHER_KEY}, timeout=30) as other,
    ):
        await ensure_organisation(gateway.documents, OTHER_ORG, time.time())
        key = key_document(OTHER_KEY, OTHER_ORG, "theirs", SCOPES, created_by="test", now=time.time())
        await gateway.documents.insert(API_KEYS, key | {"scopes": ["*"]})
        await gateway.parts.ledger.grant(OTHER_ORG, 1_000, "theirs")
        yield Two(gateway, other, await belongings(gateway, receiver))


def test_every_id_in_every_path_is_known_here() -> None:
    """A route with a new kind of id needs one of the first organisation's in `belongings`."""
    names = {name for _, _, names, _ in EVERY for name in names}
    assert names == {
        "file_id",
        "batch_id",
        "validation_id",
        "key_id",
        "user_id",
        "endpoint_id",
        "delivery_id",
        "suppression_id",
        "erasure_id",
    }
    with_body = {(method, path) for method, path, names, has_body in EVERY if names and has_body}
    assert with_body == BODIES.keys()


@pytest.mark.parametrize(("method", "path"), WITH_IDS)
async def test_somebody_elses_id_is_as_unknown_as_one_that_never_was(two: Two, method: str, path: str) -> None:
    theirs = await two.ask(method, path, two.ids)
    never = await two.ask(method, path, dict.fromkeys(two.ids, NEVER))
    assert theirs == never
    assert theirs[0] == 404
    assert theirs[1]["code"] == "not_found"


@pytest.mark.parametrize("path", LISTS)
async def test_no_list_shows_anything_of_the_other(two: Two, path: str) -> None:
    answer = await two.other.get(path)
    assert answer.status_code == 200
    shown = answer.text
    for mine in (*two.ids.values(), CANARY, "first", DEFAULT_ORG):
        assert mine not in shown, path


async def test_an_own_endpoint_does_not_open_somebody_elses_delivery(two: Two) -> None:
    own = (await two.other.post("/api/v1/webhooks", json={"url": "https://hooks.example.com/"})).json()["id"]
    path = f"/api/v1/webhooks/{own}/deliveries/{two.ids['delivery_id']}/replay"
    assert (await two.other.post(path)).status_code == 404


async def test_the_other_spends_and_erases_only_its_own(two: Two) -> None:
    before = await two.gateway.credits()
    answer = await two.other.post("/api/v1/validate-batch", json={"emails": [CANARY]})
    assert answer.status_code == 202
    erased = await two.other.post("/api/v1/erasures", json={"email": CANARY})
    assert erased.status_code == 202

    async def done() -> bool:
        return (await two.other.get(erased.headers["location"])).json()["state"] == "done"

    await eventually(done)
    assert await two.gateway.credits() == before
    mine = (await two.gateway.client.get(f"/api/v1/validate-batch/{two.ids['batch_id']}")).json()
    assert [result["email"] for result in mine["results"]] == [CANARY]
    assert (await two.gateway.client.post("/api/v1/validate-batch", json={"emails": [CANARY]})).status_code == 202
    theirs = [file["_id"] async for file in two.gateway.documents.scan(FILES, {"orgId": OTHER_ORG})]
    assert len(theirs) == 1


@pytest.mark.parametrize(("method", "path"), [(method, path) for method, path, _, _ in EVERY if "/api/" in path])
async def test_without_a_credential_nothing_is_told(two: Two, method: str, path: str) -> None:
    async with httpx.AsyncClient(base_url=two.gateway.url) as anyone:
        answer = await anyone.request(method, path.format(**two.ids), json=BODIES.get((method, path)))
    assert (answer.status_code, answer.json()["code"]) == (401, "unauthorised"), answer.text
