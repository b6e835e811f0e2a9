"""What the gateway's readiness says of port 25: asked of validators in process, without a network."""

from types import SimpleNamespace
from typing import cast

import httpx
import pytest
from fastapi import FastAPI
from fastapi.responses import JSONResponse, PlainTextResponse

from gateway.health import routes
from gateway.parts import Parts
from shared.errors import BrokerUnavailable, RedisUnavailable


def finding(state: str) -> dict:
    return {"state": state, "sentence": f"It is {state}.", "checkedAt": 1.0}


BODIES = {
    "open": JSONResponse({"status": "ready", "preflight": finding("ok")}),
    "shut": JSONResponse({"status": "ready", "preflight": finding("blocked")}),
    "lab": JSONResponse({"status": "unready", "preflight": finding("not_checked")}, 503),
    "proxy": PlainTextResponse("<html>a proxy's own page</html>", 502),
    "older": JSONResponse({"status": "ready"}),
    "odd": JSONResponse({"preflight": {"state": ["not", "a", "word"]}}),
}


class Validators(httpx.AsyncBaseTransport):
    """Answers by the host's name; `away` cannot be reached."""

    def __init__(self) -> None:
        self._app = FastAPI()

        @self._app.get("/{host}/readyz")
        async def readyz(host: str):
            return BODIES[host]

        @self._app.get("/{host}/healthz")
        async def healthz(host: str):
            return {"status": "ok"}

        self._inside = httpx.ASGITransport(self._app)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        if request.url.host == "away":
            raise httpx.ConnectError("away")
        request.url = request.url.copy_with(path=f"/{request.url.host}{request.url.path}")
        return await self._inside.handle_async_request(request)


async def fine() -> None:
    pass


async def away() -> None:
    raise BrokerUnavailable("away")


class NoRedis:
    async def ping(self) -> None:
        raise RedisUnavailable("away")


@pytest.fixture
async def readiness():
    async with httpx.AsyncClient(transport=Validators()) as validators:

        async def ask(*hosts: str) -> dict:
            parts = SimpleNamespace(
                settings=SimpleNamespace(validator_urls=tuple(f"http://{host}" for host in hosts)),
                validators=validators,
                documents=SimpleNamespace(check=fine),
                broker=SimpleNamespace(check=fine),
                redis=NoRedis(),
            )
            app = FastAPI()
            app.state.parts = cast("Parts", parts)
            app.include_router(routes.router)
            async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://gateway") as gateway:
                return (await gateway.get("/readyz")).json()

        yield ask


async def test_what_a_validator_found_is_passed_on(readiness):
    told = await readiness("open")
    assert told["preflight"] == finding("ok")
    assert told["checks"]["validators"] == "ok"


@pytest.mark.parametrize("hosts", [("open", "shut"), ("shut", "open"), ("lab", "away", "shut")])
async def test_one_validator_that_is_shut_in_is_enough_to_say_so(readiness, hosts):
    assert (await readiness(*hosts))["preflight"]["state"] == "blocked"


async def test_a_validator_that_checked_says_more_than_one_that_did_not(readiness):
    assert (await readiness("lab", "open"))["preflight"]["state"] == "ok"


@pytest.mark.parametrize("host", ["away", "proxy", "older", "odd"])
async def test_an_answer_that_is_none_is_no_finding(readiness, host):
    assert (await readiness(host))["preflight"] is None


async def test_without_a_server_that_is_needed_it_says_when_to_ask_again():
    parts = SimpleNamespace(
        settings=SimpleNamespace(validator_urls=()),
        documents=SimpleNamespace(check=fine),
        broker=SimpleNamespace(check=away),
        redis=NoRedis(),
    )
    app = FastAPI()
    app.state.parts = cast("Parts", parts)
    app.include_router(routes.router)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://gateway") as gateway:
        told = await gateway.get("/readyz")
    assert (told.status_code, told.json()["status"], told.json()["checks"]["broker"]) == (503, "unready", "unreachable")
    assert int(told.headers["retry-after"]) > 0
