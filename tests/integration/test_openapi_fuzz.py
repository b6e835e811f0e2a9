"""Made-up requests against every operation of the OpenAPI document: no 5xx, no status and no body that is not documented.

The gateway runs in a thread of its own, because schemathesis asks and waits.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from gateway.app import create_app
from services.webhooks.serve import running_webhooks
from shared.settings import Settings
from tests.integration.batch_gateway import KEY, BatchGateway
from tests.integration.belongings import belongings
from tests.servers import ValkeyServer
from tests.servers.fake_stripe import FakeStripe
from tests.servers.needed import need
from tests.servers.receiver import Receiver

pytestmark = pytest.mark.filterwarnings("ignore")  # the library's own, about its own dependencies

# What takes its credential or signature from elsewhere, or streams for ever, is tried by tests of its own.
schema = schemathesis.openapi.from_dict(create_app(Settings.load(_env_file=None)).openapi()).exclude(
    path_regex=r"^/(metrics|healthz|readyz)|/events$"
)
CHECKS = [not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance]


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, dict[str, str]]]:
    """A gateway's URL, and ids that exist in it."""
    need(ValkeyServer.missing())
    ready, folder = threading.Event(), tmp_path_factory.mktemp("fuzz")
    found: list[tuple[str, dict[str, str]]] = []
    loop, stop = asyncio.new_event_loop(), asyncio.Event()

    def run() -> None:
        asyncio.set_event_loop(loop)
        loop.run_until_complete(_serve(folder, found, ready, stop))

    thread = threading.Thread(target=run, name="fuzzed-gateway")
    thread.start()
    assert ready.wait(30)
    yield found[0]
    loop.call_soon_threadsafe(stop.set)
    thread.join(30)
    loop.close()


async def _serve(
    folder: Path, found: list[tuple[str, dict[str, str]]], ready: threading.Event, stop: asyncio.Event
) -> None:
    valkey = ValkeyServer(folder / "valkey")
    await valkey.start()
    try:
        async with (
            FakeStripe() as stripe,
            Receiver() as receiver,
            BatchGateway(folder, valkey.url, webhook_allow_networks=("127.0.0.0/8",), **stripe.settings) as gateway,
            running_webhooks(gateway.settings, gateway.documents),
        ):
            found.append((gateway.url, await belongings(gateway, receiver)))
            ready.set()
            await stop.wait()
    finally:
        ready.set()
        await valkey.stop()


@schema.parametrize()
@settings(max_examples=4, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
def test_nothing_undocumented_comes_back(case: schemathesis.Case, running: tuple[str, dict[str, str]]) -> None:
    url, ids = running
    if len(str(case.query)) % 2 == 0:  # else made-up ids, which are unknown nearly always
        case.path_parameters.update({name: ids[name] for name in case.path_parameters if name in ids})
    for name in ("Authorization", "X-API-Key"):  # made-up credentials would hide everything behind a 401
        case.headers.pop(name, None)
    case.call_and_validate(base_url=url, headers={"Authorization": f"Bearer {KEY}"}, checks=CHECKS)


def test_the_document_is_served_as_it_is_tried(running: tuple[str, dict[str, str]]) -> None:
    url, _ = running
    served = httpx.get(f"{url}/openapi.json").json()
    assert served["openapi"].startswith("3.1")
    assert len(served["paths"]) > 30
