"""Who is let in, as whom, and to what: every sign-in mode over HTTP."""

from __future__ import annotations

import asyncio
import base64
import hmac
import secrets
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import jwt
import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from gateway.accounts.bootstrap import bootstrap
from gateway.accounts.caller import DEFAULT_ORG
from gateway.accounts.jwks import AGAIN, FRESH, PATIENCE, STALE, Jwks
from gateway.collections import ALL, API_KEYS
from gateway.problem import Problem
from shared.documents.mongodb import MongoDocuments
from shared.errors import SettingsError
from tests.integration.account_gateway import KEY, AccountGateway
from tests.integration.sign_in_provider import SignInProvider, new_key
from tests.servers import MongoServer, ValkeyServer

NOW = int(time.time())
SECRET = "a secret that self-hosters share with their own sign-in"


class Hands:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
async def gateway(valkey: ValkeyServer, tmp_path: Path) -> AsyncIterator[AccountGateway]:
    async with AccountGateway(tmp_path, valkey.url, bootstrap_credits=1_000) as gateway:
        yield gateway


@pytest.fixture(scope="module")
async def standing_provider() -> AsyncIterator[SignInProvider]:
    async with SignInProvider() as provider:
        yield provider


@pytest.fixture(scope="module")
async def standing(
    valkey: ValkeyServer, tmp_path_factory: pytest.TempPathFactory, standing_provider: SignInProvider
) -> AsyncIterator[AccountGateway]:
    """One gateway for all the tests that leave it as it was; both keys and sessions are right."""
    folder = tmp_path_factory.mktemp("standing")
    async with AccountGateway(folder, valkey.url, **standing_provider.settings()) as gateway:
        yield gateway


@pytest.fixture
async def provider() -> AsyncIterator[SignInProvider]:
    async with SignInProvider() as provider:
        yield provider


@pytest.fixture
async def hands() -> Hands:
    return Hands()


@pytest.fixture
async def clerk(
    valkey: ValkeyServer, tmp_path: Path, provider: SignInProvider, hands: Hands
) -> AsyncIterator[AccountGateway]:
    async with AccountGateway(tmp_path, valkey.url, ticks=hands, **provider.settings()) as gateway:
        yield gateway


# --- keys ---
async def test_the_first_key_has_everything_in_the_first_organisation(gateway: AccountGateway) -> None:
    who = (await gateway.get("/whoami")).json()
    assert (who["org"], who["role"], who["scopes"]) == (DEFAULT_ORG, "owner", ["*"])
    assert (await gateway.get("/owns")).status_code == 200
    assert (await gateway.client.get("/whoami", headers={"X-API-Key": KEY})).json() == who
    assert (await gateway.get("/whoami", headers={"X-API-Key": KEY})).json() == who
    assert (await gateway.get("/api/v1/credits")).json() == {"balance": 1_000, "reserved": 0, "available": 1_000}


async def test_whatever_is_no_right_credential_gets_one_and_the_same_answer(gateway: AccountGateway) -> None:
    revoked = await gateway.make_key()
    await gateway.ask("DELETE", f"/api/v1/api-keys/{revoked['id']}")
    wrong: list[dict[str, str]] = [
        {},
        {"Authorization": "Bearer"},
        {"Authorization": f"Basic {KEY}"},
        {"Authorization": KEY},
        {"Authorization": "Bearer mv_live_unknown"},
        {"Authorization": f"Bearer {KEY}x"},
        {"Authorization": f"Bearer {revoked['key']}"},
        {"Authorization": "Bearer eyJhbGciOiJub25lIn0.e30."},
        {"Authorization": "Bearer " + "x" * 9_000},
        {"X-API-Key": "unknown"},
        {"X-API-Key": ""},
        {"X-API-Key": "ünknown".encode("latin-1").decode("latin-1")},
        {"X-API-Key": "unknown", "Authorization": f"Bearer {KEY}"},
        {"X-API-Key": KEY, "Authorization": "Basic dTpw"},
    ]
    encoded = [{name: value.encode("latin-1") for name, value in headers.items()} for headers in wrong]
    answers = [await gateway.client.get("/whoami", headers=headers) for headers in encoded]
    assert {answer.status_code for answer in answers} == {401}
    assert {answer.text for answer in answers} == {answers[0].text}
    assert {answer.headers["WWW-Authenticate"] for answer in answers} == {'Bearer realm="mailvet"'}
    assert "mv_live" not in answers[0].text


@pytest.mark.parametrize("query", [f"api_key={KEY}", f"X-Api-Key={KEY}", "access_token=x", "q=mv_live_abc", "token="])
async def test_a_key_in_the_url_is_400_even_beside_a_right_one(standing: AccountGateway, query: str) -> None:
    answer = await standing.get(f"/whoami?{query}")
    assert (answer.status_code, answer.json()["code"]) == (400, "credential_in_query")
    assert KEY not in answer.text


async def test_other_queries_are_none_of_its_business(standing: AccountGateway) -> None:
    assert (await standing.get("/whoami?q=keys&cursor=abc")).status_code == 200


async def test_starting_again_grants_no_second_time_and_keeps_the_key(gateway: AccountGateway) -> None:
    await bootstrap(gateway.parts)
    await bootstrap(gateway.parts)
    assert (await gateway.get("/api/v1/credits")).json()["balance"] == 1_000
    ledger = (await gateway.get("/api/v1/credits/ledger")).json()["items"]
    assert [(entry["id"], entry["kind"], entry["amount"]) for entry in ledger] == [("grant:bootstrap", "grant", 1_000)]


async def test_another_key_in_the_settings_replaces_the_first_and_may_be_taken_back(
    gateway: AccountGateway, valkey: ValkeyServer, tmp_path: Path
) -> None:
    other_key = "another-key-of-this-installation"
    async with AccountGateway(tmp_path, valkey.url, documents=gateway.documents, api_key=other_key) as other:
        assert (await other.get("/whoami", other_key)).status_code == 200
        assert (await other.get("/whoami", KEY)).status_code == 401
        await bootstrap(gateway.parts)
        assert (await gateway.get("/whoami", KEY)).status_code == 200
        assert (await gateway.get("/whoami", other_key)).status_code == 401


async def test_a_first_key_revoked_by_hand_stays_revoked(gateway: AccountGateway) -> None:
    id_ = (await gateway.get("/api/v1/api-keys")).json()["items"][0]["id"]
    assert (await gateway.ask("DELETE", f"/api/v1/api-keys/{id_}")).status_code == 204
    await bootstrap(gateway.parts)
    assert (await gateway.get("/whoami")).status_code == 401
    assert gateway.documents is not None
    assert await gateway.documents.count(API_KEYS, {"orgId": DEFAULT_ORG}) == 1


# --- dev ---
async def test_in_dev_mode_nobody_is_the_first_organisation_but_a_wrong_key_is_still_wrong(
    valkey: ValkeyServer, tmp_path: Path
) -> None:
    async with AccountGateway(tmp_path, valkey.url, auth_mode="dev") as gateway:
        who = (await gateway.get("/whoami", None)).json()
        assert (who["org"], who["actor"], who["scopes"]) == (DEFAULT_ORG, "dev", ["*"])
        assert (await gateway.get("/whoami")).json()["actor"].startswith("key:")
        assert (await gateway.get("/whoami", "wrong")).status_code == 401


# --- clerk ---
@pytest.mark.parametrize(
    ("claims", "org", "role"),
    [
        ({}, "org_acme", "owner"),
        ({"o": {"id": "org_m", "rol": "member"}}, "org_m", "member"),
        ({"o": {"id": "org_v", "rol": "billing"}}, "org_v", "viewer"),
        ({"o": None, "v": None, "org_id": "org_c", "org_role": "org:admin"}, "org_c", "owner"),
        ({"o": None, "v": None, "org_id": "org_d", "org_role": "org:member"}, "org_d", "member"),
        ({"o": None}, "user_ann", "owner"),
        ({"azp": None}, "org_acme", "owner"),
    ],
)
async def test_a_session_is_who_its_token_says(
    standing: AccountGateway, standing_provider: SignInProvider, claims: dict[str, Any], org: str, role: str
) -> None:
    who = await standing.get("/whoami", standing_provider.token(**claims))
    assert who.status_code == 200, who.text
    assert (who.json()["org"], who.json()["actor"], who.json()["role"]) == (org, "user:user_ann", role)


async def test_a_clock_a_little_ahead_of_ours_is_forgiven(
    standing: AccountGateway, standing_provider: SignInProvider
) -> None:
    soon = standing_provider.token(nbf=int(time.time()) + 3)
    assert (await standing.get("/whoami", soon)).status_code == 200


WRONG: dict[str, Any] = {
    "expired": {"exp": NOW - 60},
    "no exp": {"exp": None},
    "no iat": {"iat": None},
    "no nbf": {"nbf": None},
    "no sub": {"sub": None},
    "no sid": {"sid": None},
    "no iss": {"iss": None},
    "not yet": {"nbf": NOW + 3_600},
    "other issuer": {"iss": "https://evil.example"},
    "other party": {"azp": "https://evil.example"},
    "pending": {"sts": "pending"},
    "unknown kid": {"kid": "kid-9"},
    "other key, same kid": {"key": new_key()},
    "points at a key": {"headers": {"jku": "https://evil.example/jwks.json"}},
    "brings a key": {"headers": {"jwk": {"kty": "RSA"}}},
    "critical header": {"headers": {"crit": ["b64"], "b64": False}},
    "odd organisation": {"o": {"id": "a:b", "rol": "admin"}},
    "operator as organisation": {"o": {"id": {"$gt": ""}, "rol": "admin"}},
    "odd person": {"sub": "a b"},
}


@pytest.mark.parametrize("name", WRONG)
async def test_a_token_that_is_not_right_is_401(
    standing: AccountGateway, standing_provider: SignInProvider, name: str
) -> None:
    answer = await standing.get("/whoami", standing_provider.token(**WRONG[name]))
    assert answer.status_code == 401, name
    assert answer.text == (await standing.get("/whoami", "unknown")).text


async def test_other_algorithms_are_401(standing: AccountGateway, standing_provider: SignInProvider) -> None:
    public = standing_provider.keys["kid-1"].public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    claims = jwt.decode(standing_provider.token(), options={"verify_signature": False})
    unsigned = jwt.encode(claims, None, "none", {"kid": "kid-1"})
    # HS256 under the public key as its secret, put together by hand: the library refuses to do it.
    head, body = (
        part.rstrip(b"=") for part in (b"eyJhbGciOiJIUzI1NiIsImtpZCI6ImtpZC0xIn0", unsigned.split(".")[1].encode())
    )
    signature = base64.urlsafe_b64encode(hmac.digest(public, head + b"." + body, "sha256")).rstrip(b"=")
    confused = b".".join((head, body, signature)).decode()
    for token in (
        unsigned,
        confused,
        standing_provider.token(algorithm="RS512"),
        "eyJ.eyJ.x",
        standing_provider.token()[:-4],
    ):
        assert (await standing.get("/whoami", token)).status_code == 401


async def test_api_keys_work_beside_sessions(standing: AccountGateway) -> None:
    assert (await standing.get("/whoami")).json()["org"] == DEFAULT_ORG


async def test_tokens_are_nothing_where_only_keys_are_right(gateway: AccountGateway, provider: SignInProvider) -> None:
    assert (await gateway.get("/whoami", provider.token())).status_code == 401
    assert provider.fetches == 0


async def test_many_requests_at_once_fetch_the_keys_once(clerk: AccountGateway, provider: SignInProvider) -> None:
    answers = await asyncio.gather(*(clerk.get("/whoami", provider.token()) for _ in range(20)))
    assert {answer.status_code for answer in answers} == {200}
    assert provider.fetches == 1


async def test_unknown_key_ids_cause_at_most_one_fetch_in_a_while_and_new_keys_are_found(
    clerk: AccountGateway, provider: SignInProvider, hands: Hands
) -> None:
    hands.now = 1_000
    assert (await clerk.get("/whoami", provider.token())).status_code == 200
    for number in range(20):
        assert (await clerk.get("/whoami", provider.token(kid=f"unknown-{number}"))).status_code == 401
    assert provider.fetches == 1
    provider.keys = {"kid-2": new_key()}
    hands.now += AGAIN
    assert (await clerk.get("/whoami", provider.token(kid="kid-2"))).status_code == 200
    assert provider.fetches == 2
    assert (await clerk.get("/whoami", provider.token(kid="kid-1"))).status_code == 401


async def test_while_the_provider_is_away_its_keys_serve_for_a_day_and_then_it_is_503(
    clerk: AccountGateway, provider: SignInProvider, hands: Hands
) -> None:
    hands.now = 1_000
    assert (await clerk.get("/whoami", provider.token())).status_code == 200
    provider.up = False
    for later, status in ((FRESH, 200), (STALE - 1, 200), (STALE, 503)):
        hands.now = 1_000 + later
        assert (await clerk.get("/whoami", provider.token())).status_code == status
    assert (await clerk.get("/whoami", KEY)).status_code == 200
    fetched = provider.fetches
    assert "Retry-After" in (await clerk.get("/whoami", provider.token())).headers
    assert provider.fetches == fetched
    provider.up = True
    hands.now += AGAIN
    assert (await clerk.get("/whoami", provider.token())).status_code == 200


async def test_while_the_provider_is_slow_the_keys_we_have_serve_on(
    clerk: AccountGateway, provider: SignInProvider, hands: Hands
) -> None:
    hands.now = 1_000
    assert (await clerk.get("/whoami", provider.token())).status_code == 200
    provider.speaks.clear()
    hands.now += FRESH
    async with asyncio.timeout(PATIENCE + 2):
        assert (await clerk.get("/whoami", provider.token())).status_code == 200
    assert provider.fetches == 2
    provider.speaks.set()


async def test_a_provider_that_trickles_holds_nobody_for_longer_than_the_timeout(provider: SignInProvider) -> None:
    provider.speaks.clear()
    async with httpx.AsyncClient() as client, asyncio.timeout(3):
        keys = Jwks(provider.url, client, timeout=0.3)
        with pytest.raises(Problem, match="cannot be had"):
            await keys.find("kid-1")
        await keys.close()
    provider.speaks.set()


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"auth_mode": "clerk", "clerk_issuer": "x", "clerk_authorized_parties": ("x",)}, "MAILVET_CLERK_JWKS_URL"),
        ({"auth_mode": "clerk", "clerk_issuer": "x", "clerk_jwks_url": "x"}, "MAILVET_CLERK_AUTHORIZED_PARTIES"),
        ({"auth_mode": "hs256"}, "MAILVET_HS256_SECRET"),
    ],
)
async def test_a_mode_that_lacks_a_setting_names_it(
    valkey: ValkeyServer, tmp_path: Path, settings: dict[str, Any], named: str
) -> None:
    with pytest.raises(SettingsError, match=named):
        await AccountGateway(tmp_path, valkey.url, **settings).__aenter__()


# --- hs256 ---
async def test_self_hosters_sign_with_their_secret(valkey: ValkeyServer, tmp_path: Path) -> None:
    def token(secret: str = SECRET, algorithm: str = "HS256", **claims: Any) -> str:
        whole = {"sub": "ann", "iat": int(time.time()), "exp": int(time.time()) + 60, **claims}
        return jwt.encode({name: value for name, value in whole.items() if value is not None}, secret, algorithm)

    async with AccountGateway(tmp_path, valkey.url, auth_mode="hs256", hs256_secret=SECRET) as gateway:
        who = (await gateway.get("/whoami", token())).json()
        assert (who["org"], who["actor"], who["role"]) == (DEFAULT_ORG, "user:ann", "member")
        who = (await gateway.get("/whoami", token(sub="bob", org_id="org_b", role="owner"))).json()
        assert (who["org"], who["role"]) == ("org_b", "owner")
        longer = SECRET * 2
        for wrong in (token(SECRET + "x"), token(longer, "HS512"), token(exp=None), token(sub=None), token(iat=None)):
            assert (await gateway.get("/whoami", wrong)).status_code == 401
        assert (await gateway.get("/whoami")).json()["org"] == DEFAULT_ORG


# --- in every mode ---
@pytest.mark.parametrize(
    "cursor",
    ["x", "bm90IGpzb24", "WzFd", "WzFlNDAwLCJhIl0", "W3RydWUsImEiXQ", "WzE4NDQ2NzQ0MDczNzA5NTUxNjE1LCJhIl0", "ä"],
)
async def test_a_cursor_that_is_none_is_400(standing: AccountGateway, cursor: str) -> None:
    answer = await standing.get("/api/v1/credits/ledger", params={"cursor": cursor})
    assert (answer.status_code, answer.json()["code"]) == (400, "cursor_malformed")


async def test_the_ledger_explains_every_movement_newest_first_in_pages(gateway: AccountGateway) -> None:
    await gateway.ledger.hold(DEFAULT_ORG, "file1", 300)
    await gateway.ledger.settle(DEFAULT_ORG, "file1", 120)
    items, cursor = [], None
    while True:
        params = {"limit": 2} | ({"cursor": cursor} if cursor else {})
        page = (await gateway.get("/api/v1/credits/ledger", params=params)).json()
        items += page["items"]
        cursor = page["nextCursor"]
        if cursor is None:
            break
    assert [(item["kind"], item["credits"], item["amount"], item["reserved"], item["fileId"]) for item in items] == [
        ("release", 180, 0, -180, "file1"),
        ("capture", 120, -120, -120, "file1"),
        ("hold", 300, 0, 300, "file1"),
        ("grant", 1_000, 1_000, 0, None),
    ]
    balance = (await gateway.get("/api/v1/credits")).json()
    assert balance == {"balance": 880, "reserved": 0, "available": 880}
    assert sum(item["amount"] for item in items) == balance["balance"]


@pytest.mark.mongodb
async def test_all_of_it_works_on_mongodb_too(
    mongo: MongoServer, valkey: ValkeyServer, tmp_path: Path, provider: SignInProvider
) -> None:
    settings = {**provider.settings(), "bootstrap_credits": 1_000}
    async with (
        MongoDocuments(mongo.url_of("t" + secrets.token_hex(6)), ALL) as documents,
        AccountGateway(tmp_path, valkey.url, documents=documents, **settings) as gateway,
    ):
        await bootstrap(gateway.parts)
        made = await gateway.make_key()
        assert (await gateway.get("/api/v1/credits", made["key"])).json()["balance"] == 1_000
        assert (await gateway.ask("DELETE", f"/api/v1/api-keys/{made['id']}")).status_code == 204
        assert (await gateway.get("/whoami", made["key"])).status_code == 401
        ann = provider.token()
        assert (await gateway.get("/whoami", ann)).json()["role"] == "owner"
        assert (await gateway.post("/api/v1/members", ann, json={"userId": "mia"})).status_code == 201
        assert (await gateway.ask("PATCH", "/api/v1/members/user_ann", ann, json={"role": "viewer"})).status_code == 409
        assert (await gateway.ask("DELETE", "/api/v1/members/mia", ann)).status_code == 204
        pages = [await gateway.get(f"/api/v1/{path}", params={"limit": 1}) for path in ("credits/ledger", "audit-log")]
        assert [page.json()["items"][0].get("kind") for page in pages] == ["grant", None]


async def test_the_api_document_says_how_to_sign_in(standing: AccountGateway) -> None:
    document = (await standing.get("/openapi.json", None)).json()
    assert document["components"]["securitySchemes"]["apiKey"]["name"] == "X-API-Key"
    assert {"bearer": []} in document["paths"]["/api/v1/credits"]["get"]["security"]
    assert {"apiKey": []} in document["paths"]["/api/v1/credits"]["get"]["security"]


@pytest.mark.parametrize(
    "body",
    [
        b'{"name": "\\ud800"}',
        b'{"name": "x", "\\ud800": 1}',
        b'{"name": "x", "expiresAt": "9999-12-31T23:59:59-14:00"}',
        b'{"name": "x", "expiresAt": "0001-01-01T00:00:00+14:00"}',
        b'{"name": "x", "expiresAt": 1e400}',
        b'{"name": "x", "scopes": {"$gt": ""}}',
        b'{"name": "x", "allowedNetworks": ["10.0.0.0/99"]}',
        b'{"name": "x", "allowedNetworks": ["\\u0000"]}',
        b"[" * 100_000,
        b"nan",
        b"\xff\xfe",
        b"",
    ],
)
async def test_hostile_bodies_are_refused_not_stumbled_over(standing: AccountGateway, body: bytes) -> None:
    headers = {"Content-Type": "application/json", "Idempotency-Key": "hostile"}
    answer = await standing.client.post("/api/v1/api-keys", content=body, headers={"X-API-Key": KEY, **headers})
    assert answer.status_code in (400, 422), answer.text
    assert answer.headers["content-type"] == "application/problem+json"
