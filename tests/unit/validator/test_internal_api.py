"""The validator's internal HTTP through ASGI: a real probe over scripted peers, real breakers and limits, no Redis."""

from __future__ import annotations

from contextlib import asynccontextmanager

import httpx
import pytest
from redis.asyncio import Redis

from shared.errors import ServerUnreachable
from tests.unit.validator.smtp.probe_world import World, settings, with_probe
from tests.unit.validator.smtp.scripted_peer import Peer
from tests.unit.validator.smtp.virtual_time import run_virtually
from validator.internal_api import InternalParts, create_internal_api
from validator.preflight import Preflight
from validator.verdict_cache import VerdictCache

TOKEN = "an internal token of ours"
BEARER = {"Authorization": f"Bearer {TOKEN}"}
HOST = Peer(frozenset({"ann@a.test"}))
BLOCKING = b"554 5.7.1 Client host [192.0.2.9] blocked using zen.spamhaus.org\r\n"


def world() -> World:
    hosts = {"a": "192.0.2.1", "b": "192.0.2.2", "c": "192.0.2.3"}
    refusing = Peer(frozenset(), acts=(((0.0, BLOCKING),),), again=True)
    return World(
        {f"{name}.test": ((f"mx.{name}.test", address),) for name, address in hosts.items()},
        {
            "192.0.2.1": Peer(HOST.mailboxes),
            "192.0.2.2": Peer(frozenset(), connects=("refused",) * 9),
            "192.0.2.3": refusing,
        },
    )


@asynccontextmanager
async def api(running, *, unreachable: tuple[str, ...] = ()):
    """A client of an API whose cache is off, as nothing of this test may touch a network."""

    async def check(name: str) -> None:
        if name in unreachable:
            raise ServerUnreachable("nobody listens")

    async def explain(host: str):
        return {
            "mailHost": host,
            "breaker": await running.breakers.explain(host),
            "limits": await running.limits.explain(host),
        }

    nowhere = Redis(host="192.0.2.250")  # never asked: a time to live of nought turns the cache off
    parts = InternalParts(
        probe=running.probe,
        cache=VerdictCache(nowhere, ttl=0, secret=TOKEN),
        token=TOKEN,
        breakers=running.breakers.snapshot,
        explain_host=explain,
        preflight=Preflight(settings(smtp_port=2525)),
        checks={"broker": lambda: check("broker"), "redis": lambda: check("redis")},
    )
    transport = httpx.ASGITransport(create_internal_api(parts), raise_app_exceptions=True)
    async with httpx.AsyncClient(transport=transport, base_url="http://validator") as client:
        yield client
    await nowhere.aclose()


def with_api(work, **options):
    async def run(running):
        async with api(running, **options) as client:
            found = await work(client)
        await running.come_to_rest()
        return found

    return run_virtually(with_probe(world(), run))


@pytest.mark.parametrize(
    "headers", [{}, {"Authorization": "Bearer wrong"}, {"Authorization": f"Basic {TOKEN}"}, {"Authorization": TOKEN}]
)
@pytest.mark.parametrize(
    ("method", "path"),
    [("POST", "/internal/v1/validate"), ("GET", "/internal/v1/breakers"), ("GET", "/internal/v1/mail-hosts/mx.a.test")],
)
def test_without_the_token_nothing_internal_is_told(method, path, headers):
    told = with_api(lambda client: client.request(method, path, headers=headers, json={"email": "ann@a.test"}))
    assert told.status_code == 401
    assert told.headers["www-authenticate"] == "Bearer"


def validate(**body):
    return with_api(lambda client: client.post("/internal/v1/validate", headers=BEARER, json=body))


def test_a_verdict_is_200_with_its_trace_when_that_is_asked_for():
    told = validate(email="ann@a.test", trace=True)
    assert told.status_code == 200
    assert (told.json()["status"], told.json()["reason"]) == ("valid", "accepted")
    assert any(line["sent"] == "RCPT TO:<ann@a.test>" for line in told.json()["details"]["trace"])


@pytest.mark.parametrize(("email", "reason"), [("ben@a.test", "mailbox_missing"), ("no address", "invalid_syntax")])
def test_an_invalid_address_is_200_too(email, reason):
    told = validate(email=email)
    assert (told.status_code, told.json()["status"], told.json()["reason"]) == (200, "invalid", reason)


def test_an_address_that_needs_another_look_is_202_and_says_why():
    told = validate(email="ann@b.test")
    assert told.status_code == 202
    assert told.json()["putOff"]["index"] == 0
    assert told.json()["putOff"]["reason"] == "unreachable"


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"email": "x" * 1_001},
        {"email": "a@b.test", "timeout": 0},
        {"email": "a@b.test", "timeout": 61},
        {"email": "a@b.test", "other": 1},
    ],
)
def test_a_request_that_is_none_is_refused(body):
    assert validate(**body).status_code == 422


def test_breakers_and_one_host_are_explained():
    async def work(client):
        first = await client.post("/internal/v1/validate", headers=BEARER, json={"email": "ann@c.test"})
        rows = await client.get("/internal/v1/breakers", headers=BEARER)
        host = await client.get("/internal/v1/mail-hosts/MX.C.test.", headers=BEARER)
        return first.json(), rows.json()["breakers"], host.json()

    verdict, rows, host = with_api(work)
    assert verdict["reason"] == "prober_blocked"
    assert [(row["mailHost"], row["state"], row["kind"]) for row in rows] == [("mx.c.test", "open", "blocked")]
    assert host["mailHost"] == "mx.c.test"
    assert host["breaker"]["state"] == "open"
    assert {scope["scope"] for scope in host["limits"]["scopes"]} >= {"global", "mx:mx.c.test"}


def test_health_and_metrics_need_no_token():
    async def work(client):
        return [await client.get(path) for path in ("/healthz", "/readyz", "/metrics")]

    health, ready, metrics = with_api(work)
    assert health.json() == {"status": "ok"}
    assert ready.status_code == 200
    assert ready.json()["checks"] == {"broker": "ok", "redis": "ok"}
    assert ready.json()["preflight"]["state"] == "not_checked"
    assert "mailvet_smtp_sessions_total" in metrics.text


def test_a_server_that_does_not_answer_makes_it_unready_and_is_named():
    told = with_api(lambda client: client.get("/readyz"), unreachable=("redis",))
    assert told.status_code == 503
    assert int(told.headers["retry-after"]) > 0
    assert told.json()["checks"] == {"broker": "ok", "redis": "unreachable"}
