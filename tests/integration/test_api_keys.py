"""API keys over HTTP: made, shown once, limited, revoked everywhere."""

from __future__ import annotations

import asyncio
import re
import zlib
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from gateway.accounts.lookups import TRUSTED
from gateway.api_keys.keys import hash_key, make_key
from gateway.collections import API_KEYS
from tests.integration.account_gateway import KEY, AccountGateway
from tests.servers import ValkeyServer

NOWHERE = "redis://127.0.0.1:1/0"


class Hands:
    """A clock that is set by hand."""

    def __init__(self) -> None:
        self.now = 1_000_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture(scope="module")
async def standing(valkey: ValkeyServer, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[AccountGateway]:
    """One gateway for the tests that do not mind each other's keys."""
    async with AccountGateway(tmp_path_factory.mktemp("standing"), valkey.url) as gateway:
        yield gateway


@pytest.fixture
async def gateway(valkey: ValkeyServer, tmp_path: Path) -> AsyncIterator[AccountGateway]:
    async with AccountGateway(tmp_path, valkey.url, bootstrap_credits=1_000) as gateway:
        yield gateway


def test_a_key_has_a_prefix_256_random_bits_and_a_checksum() -> None:
    keys = [make_key(test=test) for test in (False, True) for _ in range(200)]
    assert len(set(keys)) == 400
    for key in keys:
        assert re.fullmatch(r"mv_(live|test)_[0-9A-Za-z]{49}", key)
        number = 0
        for digit in key[-6:]:
            number = number * 62 + "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz".index(digit)
        assert number == zlib.crc32(key[:-6].encode())


async def test_a_key_is_shown_once_and_works_until_it_is_revoked(gateway: AccountGateway) -> None:
    made = await gateway.make_key(name="uploads")
    assert made["key"].startswith(made["prefix"])
    assert (await gateway.get("/whoami", made["key"])).json()["actor"] == f"key:{made['id']}"
    listed = (await gateway.get("/api/v1/api-keys")).json()["items"]
    assert [key["name"] for key in listed] == ["uploads", "bootstrap"]
    assert all("key" not in key for key in listed)
    assert made["key"] not in str(listed)

    assert (await gateway.ask("DELETE", f"/api/v1/api-keys/{made['id']}")).status_code == 204
    assert (await gateway.ask("DELETE", f"/api/v1/api-keys/{made['id']}")).status_code == 204
    assert (await gateway.get("/whoami", made["key"])).status_code == 401
    assert (await gateway.get("/api/v1/api-keys")).json()["items"][0]["revokedAt"] is not None
    actions = [entry["action"] for entry in (await gateway.get("/api/v1/audit-log")).json()["items"]]
    assert actions == ["api_key.revoked", "api_key.created"]


async def test_no_key_is_stored_in_the_clear(gateway: AccountGateway, tmp_path: Path) -> None:
    made = await gateway.make_key()
    await gateway.get("/whoami", made["key"])

    def stored() -> bytes:
        return b"".join(path.read_bytes() for path in tmp_path.iterdir() if path.is_file())

    on_disk = await asyncio.to_thread(stored)
    assert made["id"].encode() in on_disk
    assert made["key"].encode() not in on_disk
    assert KEY.encode() not in on_disk


async def test_a_repeated_request_gets_the_same_key_again(gateway: AccountGateway) -> None:
    headers = {"Idempotency-Key": "make me a key"}
    answers = [await gateway.post("/api/v1/api-keys", json={"name": "x"}, headers=headers) for _ in range(3)]
    assert len({answer.text for answer in answers}) == 1
    assert (await gateway.get("/whoami", answers[2].json()["key"])).status_code == 200
    assert len((await gateway.get("/api/v1/api-keys")).json()["items"]) == 2
    other = await gateway.post("/api/v1/api-keys", json={"name": "y"}, headers=headers)
    assert (other.status_code, other.json()["code"]) == (422, "idempotency_key_reused")


async def test_a_revoked_key_is_refused_by_the_other_process_as_soon_as_redis_tells_it(
    gateway: AccountGateway, valkey: ValkeyServer, tmp_path: Path
) -> None:
    still = Hands()  # so that only the news can be the reason
    async with AccountGateway(tmp_path, valkey.url, documents=gateway.documents, ticks=still) as other:
        made = await gateway.make_key()
        assert (await other.get("/whoami", made["key"])).status_code == 200
        await gateway.ask("DELETE", f"/api/v1/api-keys/{made['id']}")
        async with asyncio.timeout(5):
            while (await other.get("/whoami", made["key"])).status_code != 401:
                await asyncio.sleep(0.01)


async def test_without_redis_a_revoked_key_is_refused_everywhere_when_its_look_up_is_old(tmp_path: Path) -> None:
    hands = Hands()
    async with (
        AccountGateway(tmp_path, NOWHERE) as one,
        AccountGateway(tmp_path, NOWHERE, documents=one.documents, ticks=hands) as other,
    ):
        made = await one.make_key()
        assert (await other.get("/whoami", made["key"])).status_code == 200
        await one.ask("DELETE", f"/api/v1/api-keys/{made['id']}")
        assert (await one.get("/whoami", made["key"])).status_code == 401
        assert (await other.get("/whoami", made["key"])).status_code == 200
        hands.now += TRUSTED
        assert TRUSTED < 5
        assert (await other.get("/whoami", made["key"])).status_code == 401


async def test_an_expired_key_is_refused_and_one_cannot_be_made_expired(valkey: ValkeyServer, tmp_path: Path) -> None:
    clock = Hands()
    clock.now = datetime.now(UTC).timestamp()
    async with AccountGateway(tmp_path, valkey.url, clock=clock) as gateway:
        expires = datetime.now(UTC) + timedelta(hours=1)
        made = await gateway.make_key(expiresAt=expires.isoformat())
        assert (await gateway.get("/whoami", made["key"])).status_code == 200
        clock.now += 3_601
        assert (await gateway.get("/whoami", made["key"])).status_code == 401
        past = {"name": "late", "expiresAt": (expires - timedelta(hours=2)).isoformat()}
        assert (await gateway.post("/api/v1/api-keys", json=past)).status_code == 422


async def test_a_key_may_only_be_used_from_its_networks(standing: AccountGateway) -> None:
    here = await standing.make_key(allowedNetworks=["127.0.0.0/8", "2001:db8::/32"])
    elsewhere = await standing.make_key(allowedNetworks=["203.0.113.0/24"])
    assert (await standing.get("/whoami", here["key"])).status_code == 200
    refused = await standing.get("/whoami", elsewhere["key"], headers={"X-Forwarded-For": "203.0.113.9"})
    assert (refused.status_code, refused.json()["code"]) == (403, "address_not_allowed")


async def test_a_key_does_what_its_scopes_say_and_gives_no_more_than_it_has(standing: AccountGateway) -> None:
    reader = (await standing.make_key(scopes=["files:read", "keys:write", "keys:read"]))["key"]
    refused = await standing.get("/writes", reader)
    assert (refused.status_code, refused.json()["scope"]) == (403, "files:write")
    assert (await standing.get("/owns", reader)).status_code == 403
    assert (await standing.get("/api/v1/credits", reader)).status_code == 403
    for scopes in (["*"], ["files:write"], ["files:read", "files:write"]):
        more = await standing.post("/api/v1/api-keys", reader, json={"name": "more", "scopes": scopes})
        assert more.status_code == 403
    same = await standing.post("/api/v1/api-keys", reader, json={"name": "same", "scopes": ["files:read"]})
    assert same.status_code == 201


async def test_a_test_key_is_for_the_sandbox_and_makes_no_keys(standing: AccountGateway) -> None:
    made = await standing.make_key(test=True, scopes=["*"])
    assert made["key"].startswith("mv_test_")
    assert (await standing.get("/writes", made["key"])).status_code == 200
    owns = await standing.get("/owns", made["key"])
    live = await standing.post("/api/v1/api-keys", made["key"], json={"name": "a live one"})
    for refused in (owns, live):
        assert (refused.status_code, refused.json()["code"]) == (403, "test_key")
    assert (await standing.get("/api/v1/credits", made["key"])).status_code == 200


@pytest.mark.parametrize(
    "wanted",
    [
        {},
        {"name": ""},
        {"name": "x", "scopes": []},
        {"name": "x", "scopes": ["files:everything"]},
        {"name": "x", "allowedNetworks": ["not a network"]},
        {"name": "x", "orgId": "org_other"},
        {"name": {"$gt": ""}},
        {"name": "x", "expiresAt": "2027-01-01T00:00:00"},
    ],
)
async def test_what_makes_no_key_is_422(standing: AccountGateway, wanted: dict[str, object]) -> None:
    answer = await standing.post("/api/v1/api-keys", json=wanted)
    assert answer.status_code == 422
    assert answer.headers["content-type"] == "application/problem+json"


async def test_keys_of_others_are_unknown(standing: AccountGateway) -> None:
    made = await standing.make_key()
    assert standing.documents is not None
    async for document in standing.documents.scan(API_KEYS, {"orgId": "org_default"}):
        if document["keyId"] == made["id"]:
            await standing.documents.replace(API_KEYS, {**document, "orgId": "org_other"})
    theirs = await standing.ask("DELETE", f"/api/v1/api-keys/{made['id']}")
    unknown = await standing.ask("DELETE", "/api/v1/api-keys/key_of_nobody")
    assert (theirs.status_code, theirs.text) == (404, unknown.text)
    assert made["id"] not in (await standing.get("/api/v1/api-keys")).text


async def test_the_list_of_keys_comes_in_pages(gateway: AccountGateway) -> None:
    for number in range(4):
        await gateway.make_key(name=f"key {number}")
    names, cursor = [], None
    while True:
        page = (
            await gateway.get("/api/v1/api-keys", params={"limit": 2, **({"cursor": cursor} if cursor else {})})
        ).json()
        names += [key["name"] for key in page["items"]]
        cursor = page["nextCursor"]
        if cursor is None:
            break
    assert names == ["key 3", "key 2", "key 1", "key 0", "bootstrap"]


async def test_when_a_key_was_last_used_is_written_once_a_minute(valkey: ValkeyServer, tmp_path: Path) -> None:
    clock = Hands()
    async with AccountGateway(tmp_path, valkey.url, clock=clock) as gateway:

        async def last_used() -> float:
            assert gateway.documents is not None
            document = await gateway.documents.get(API_KEYS, hash_key(KEY))
            assert document is not None
            return float(document["lastUsedAt"])

        seen = []
        for seconds in (0, 59, 1):
            clock.now += seconds
            await gateway.get("/whoami")
            seen.append(await last_used() - 1_000_000_000)
        assert seen == [0, 0, 60]
