"""How large a body may be: over every operation that takes one, declared or not, with and without a key."""

from __future__ import annotations

from collections.abc import AsyncIterator

import httpx
import pytest

from gateway.app import create_app
from gateway.body_limit import MOST_BODY
from gateway.validate.routes import LONGEST_EMAIL, MOST_EMAILS, MOST_LIST
from shared.settings import Settings
from tests.integration.batch_gateway import BatchGateway
from tests.servers import ValkeyServer

PATHS = create_app(Settings.load(_env_file=None)).openapi()["paths"]
BODIES = sorted(
    (method.upper(), path)
    for path, methods in PATHS.items()
    for method, operation in methods.items()
    if "application/json" in operation.get("requestBody", {}).get("content", {})
)
JSON = {"Content-Type": "application/json"}


@pytest.fixture(scope="module")
async def gateway(tmp_path_factory: pytest.TempPathFactory, valkey: ValkeyServer) -> AsyncIterator[BatchGateway]:
    async with BatchGateway(tmp_path_factory.mktemp("bodies"), valkey.url) as gateway:
        yield gateway


async def _in_pieces(size: int) -> AsyncIterator[bytes]:
    for _ in range(-(-size // MOST_BODY)):
        yield b"x" * MOST_BODY


@pytest.mark.parametrize(("method", "path"), BODIES)
async def test_a_body_that_says_it_is_too_large_is_not_taken(gateway: BatchGateway, method: str, path: str) -> None:
    most = MOST_LIST if path == "/api/v1/validate-batch" else MOST_BODY
    answer = await gateway.client.request(method, path, content=b"x" * (most + 1), headers=JSON)
    assert (answer.status_code, answer.json()["code"]) == (413, "too_large")
    assert answer.headers["content-type"] == "application/problem+json"


@pytest.mark.parametrize("path", ["/api/v1/validate", "/api/v1/validate-batch"])
async def test_a_body_that_does_not_say_is_cut_also_for_who_has_no_key(gateway: BatchGateway, path: str) -> None:
    async with httpx.AsyncClient(base_url=gateway.client.base_url) as stranger:
        answer = await stranger.post(path, content=_in_pieces(MOST_LIST + MOST_BODY), headers=JSON)
        assert (answer.status_code, answer.json()["code"]) == (413, "too_large")
        small = await stranger.post(path, json={})
        assert small.status_code == 401


async def test_the_largest_list_is_taken(gateway: BatchGateway) -> None:
    emails = [f"{number:x>{LONGEST_EMAIL}}" for number in range(MOST_EMAILS)]
    answer = await gateway.client.post("/api/v1/validate-batch", json={"emails": emails})
    assert (answer.status_code, answer.json()["malformed"]) == (202, MOST_EMAILS)


@pytest.mark.parametrize("path", ["/api/v1/files/", "/api/v1/validate/", "/healthz/"])
async def test_a_path_that_is_none_sends_nobody_elsewhere(gateway: BatchGateway, path: str) -> None:
    answer = await gateway.client.get(path, headers={"Host": "elsewhere.example"})
    assert (answer.status_code, answer.json()["code"]) == (404, "not_found")
    assert "location" not in answer.headers
