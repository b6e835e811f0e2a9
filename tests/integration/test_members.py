"""Members of an organisation over HTTP: what each role may do, who may change whom, and who gets to know of it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from gateway.accounts.caller import DEFAULT_ORG
from tests.integration.account_gateway import AccountGateway
from tests.integration.sign_in_provider import SignInProvider
from tests.servers import ValkeyServer


@pytest.fixture(scope="module")
async def provider() -> AsyncIterator[SignInProvider]:
    async with SignInProvider() as provider:
        yield provider


@pytest.fixture
async def clerk(valkey: ValkeyServer, tmp_path: Path, provider: SignInProvider) -> AsyncIterator[AccountGateway]:
    async with AccountGateway(tmp_path, valkey.url, **provider.settings()) as gateway:
        yield gateway


async def test_roles_are_what_they_may_do(clerk: AccountGateway, provider: SignInProvider) -> None:
    admin = provider.token()
    for name, role in (("carl", "admin"), ("mia", "member"), ("vera", "viewer")):
        new = {"userId": name, "role": role, "email": f"{name}@example.com"}
        assert (await clerk.post("/api/v1/members", admin, json=new)).status_code == 201

    async def codes(user: str) -> list[int]:
        token = provider.token(sub=user, sid=user)
        paths = ("/api/v1/credits", "/api/v1/members", "/writes", "/api/v1/api-keys", "/api/v1/audit-log", "/owns")
        return [(await clerk.get(path, token)).status_code for path in paths]

    assert await codes("user_ann") == [200] * 6
    assert await codes("carl") == [200] * 5 + [403]
    assert await codes("mia") == [200, 200, 200, 403, 403, 403]
    assert await codes("vera") == [200, 200, 403, 403, 403, 403]
    assert (await clerk.post("/api/v1/members", provider.token(sub="mia"), json={"userId": "x"})).status_code == 403
    elsewhere = provider.token(sub="vera", o={"id": "org_b", "rol": "admin"})
    assert (await clerk.get("/api/v1/members", elsewhere)).json()["items"][0]["userId"] == "vera"


async def test_the_providers_role_is_the_most_that_one_can_have(
    clerk: AccountGateway, provider: SignInProvider
) -> None:
    ann = provider.token()
    await clerk.post("/api/v1/members", ann, json={"userId": "mia", "role": "owner"})
    as_member = provider.token(sub="mia", o={"id": "org_acme", "rol": "member"})
    assert (await clerk.get("/whoami", as_member)).json()["role"] == "member"
    assert (await clerk.get("/whoami", provider.token(sub="mia"))).json()["role"] == "owner"


async def test_the_last_owner_stays(clerk: AccountGateway, provider: SignInProvider) -> None:
    ann = provider.token()
    await clerk.get("/whoami", ann)
    for method, body in (("PATCH", {"role": "admin"}), ("DELETE", None)):
        answer = await clerk.ask(method, "/api/v1/members/user_ann", ann, json=body)
        assert (answer.status_code, answer.json()["code"]) == (409, "last_owner")
    await clerk.post("/api/v1/members", ann, json={"userId": "carl", "role": "owner"})
    carl = provider.token(sub="carl")
    demoted, removed = await asyncio.gather(
        clerk.ask("PATCH", "/api/v1/members/carl", ann, json={"role": "viewer"}),
        clerk.ask("DELETE", "/api/v1/members/user_ann", carl),
    )
    assert 409 in (demoted.status_code, removed.status_code)
    roles = [(await clerk.get("/whoami", token)).json().get("role") for token in (ann, carl)]
    assert "owner" in roles


async def test_a_removed_member_is_out_at_once_and_may_be_let_in_again(
    clerk: AccountGateway, provider: SignInProvider
) -> None:
    ann, mia = provider.token(), provider.token(sub="mia", o={"id": "org_acme", "rol": "member"})
    await clerk.get("/whoami", ann)
    assert (await clerk.get("/whoami", mia)).status_code == 200
    assert (await clerk.ask("DELETE", "/api/v1/members/mia", ann)).status_code == 204
    refused = await clerk.get("/whoami", mia)
    assert (refused.status_code, refused.json()["code"]) == (403, "not_a_member")
    assert [member["userId"] for member in (await clerk.get("/api/v1/members", ann)).json()["items"]] == ["user_ann"]
    assert (await clerk.ask("DELETE", "/api/v1/members/mia", ann)).status_code == 404
    assert (await clerk.ask("PATCH", "/api/v1/members/mia", ann, json={"role": "admin"})).status_code == 404
    assert (await clerk.post("/api/v1/members", ann, json={"userId": "mia", "role": "viewer"})).status_code == 201
    assert (await clerk.get("/whoami", mia)).json()["role"] == "viewer"
    again = await clerk.post("/api/v1/members", ann, json={"userId": "mia"})
    assert (again.status_code, again.json()["code"]) == (409, "already_a_member")


async def test_nobody_lifts_another_above_himself_or_touches_his_betters(
    clerk: AccountGateway, provider: SignInProvider
) -> None:
    await clerk.post("/api/v1/members", provider.token(), json={"userId": "carl", "role": "admin"})
    carl = provider.token(sub="carl")
    for method, path, body in (
        ("POST", "/api/v1/members", {"userId": "x", "role": "owner"}),
        ("PATCH", "/api/v1/members/carl", {"role": "owner"}),
        ("PATCH", "/api/v1/members/user_ann", {"role": "viewer"}),
        ("DELETE", "/api/v1/members/user_ann", None),
    ):
        assert (await clerk.ask(method, path, carl, json=body)).status_code == 403


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"userId": "a b"},
        {"userId": "a", "role": "king"},
        {"userId": "a", "email": "x"},
        {"userId": "a", "orgId": "b"},
    ],
)
async def test_what_makes_no_member_is_422(clerk: AccountGateway, body: dict[str, str]) -> None:
    assert (await clerk.post("/api/v1/members", json=body)).status_code == 422


async def test_the_audit_log_tells_sign_ins_and_changes_once_and_only_to_their_organisation(
    clerk: AccountGateway, provider: SignInProvider
) -> None:
    ann = provider.token()
    for _ in range(3):
        await clerk.get("/whoami", ann)
    await clerk.post("/api/v1/members", ann, json={"userId": "mia", "email": "mia@example.com"})
    await clerk.ask("PATCH", "/api/v1/members/mia", ann, json={"role": "viewer"})
    await clerk.ask("DELETE", "/api/v1/members/mia", ann)
    log = (await clerk.get("/api/v1/audit-log", ann)).json()
    assert [entry["action"] for entry in log["items"]] == [
        "member.removed",
        "member.changed",
        "member.added",
        "session.started",
    ]
    assert log["items"][1]["detail"] == {"role": "viewer", "before": "member"}
    assert {entry["actor"] for entry in log["items"]} == {"user:user_ann"}
    assert "mia@example.com" not in str(log)
    assert (await clerk.get("/api/v1/audit-log")).json() == {"items": [], "nextCursor": None}


async def test_an_organisation_is_described_to_those_in_it(clerk: AccountGateway, provider: SignInProvider) -> None:
    mine = (await clerk.get("/api/v1/organisation", provider.token())).json()
    assert (mine["id"], mine["role"]) == ("org_acme", "owner")
    assert (await clerk.get("/api/v1/organisation")).json()["id"] == DEFAULT_ORG
