"""Event streams as a client sees them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

import httpx
import pytest

from gateway.live.hub import MAX_STREAMS
from tests.integration.batch_gateway import BatchGateway, eventually
from tests.servers import ValkeyServer


class Event(NamedTuple):
    id: int
    name: str
    data: dict[str, Any]


@pytest.fixture(scope="module")
async def shared_gateway(tmp_path_factory, valkey: ValkeyServer) -> AsyncIterator[BatchGateway]:
    async with BatchGateway(tmp_path_factory.mktemp("live"), valkey.url) as running:
        yield running


@pytest.fixture
async def gateway(shared_gateway: BatchGateway) -> BatchGateway:
    shared_gateway.validator.gate.set()
    await eventually(lambda: not shared_gateway.parts.live._watches)
    return shared_gateway


@asynccontextmanager
async def stream(
    gateway: BatchGateway, file_id: str, last: int | str | None = None
) -> AsyncIterator[AsyncIterator[Event]]:
    headers = {} if last is None else {"Last-Event-ID": str(last)}
    async with gateway.client.stream("GET", f"/api/v1/files/{file_id}/events", headers=headers) as response:
        assert response.status_code == 200
        assert response.headers["content-type"].startswith("text/event-stream")
        yield parse(response)


async def parse(response: httpx.Response) -> AsyncIterator[Event]:
    fields: dict[str, str] = {}
    async for line in response.aiter_lines():
        if line.startswith(":"):
            continue
        if line:
            name, _, value = line.partition(": ")
            assert name not in fields
            fields[name] = value
        elif fields:
            yield Event(int(fields["id"]), fields["event"], json.loads(fields["data"]))
            fields = {}


async def all_events(gateway: BatchGateway, file_id: str, last: int | str | None = None) -> list[Event]:
    async with asyncio.timeout(20), stream(gateway, file_id, last) as events:
        return [event async for event in events]


def addresses(events: list[Event]) -> list[str]:
    return [item["email"] for event in events if event.name == "emails" for item in event.data["items"]]


def emails(count: int) -> list[str]:
    return [f"ok{n}@d{n % 7}.example.com" for n in range(count)]


async def test_the_first_event_is_the_present_state_and_the_last_one_is_done(gateway: BatchGateway) -> None:
    gateway.validator.gate.clear()
    file_id = await gateway.submit(emails(95))
    async with asyncio.timeout(20), stream(gateway, file_id) as events:
        seen = [await anext(events), await anext(events)]
        gateway.validator.gate.set()
        seen += [event async for event in events]
    assert [event.name for event in seen[:2]] == ["progress", "stats"]
    assert seen[0].data["processed"] == 0
    assert seen[0].data["total"] == 95
    assert [event.name for event in seen].count("done") == 1
    assert seen[-1].name == "done"
    assert seen[-1].data["processed"] == 95
    ids = [event.id for event in seen]
    assert ids == sorted(set(ids))
    assert sorted(addresses(seen)) == sorted(emails(95))
    processed = [event.data["processed"] for event in seen if event.name == "progress"]
    assert processed == sorted(processed)


async def test_a_finished_file_tells_its_state_and_done_and_ends(gateway: BatchGateway) -> None:
    file_id = await gateway.submit(emails(20))
    await gateway.until(file_id)
    seen = await all_events(gateway, file_id)
    assert [event.name for event in seen] == ["progress", "stats", "done"]
    stats = (await gateway.client.get(f"/api/v1/files/{file_id}/stats")).json()
    assert seen[1].data == stats


async def test_resuming_leaves_no_gap_and_repeats_nothing(gateway: BatchGateway) -> None:
    gateway.validator.gate.clear()
    file_id = await gateway.submit(emails(200))
    first: list[Event] = []
    async with asyncio.timeout(20), stream(gateway, file_id) as events:
        gateway.validator.gate.set()
        async for event in events:
            first.append(event)
            if event.name == "emails":
                break
    await gateway.until(file_id)
    rest = await all_events(gateway, file_id, first[-1].id)
    assert rest[0].name == "progress"
    assert rest[0].data["processed"] == 200
    ids = [event.id for event in first + rest]
    assert ids == sorted(set(ids))
    assert sorted(addresses(first + rest)) == sorted(emails(200))
    assert rest[-1].name == "done"


async def test_resuming_behind_the_end_says_done_again(gateway: BatchGateway) -> None:
    file_id = await gateway.submit(emails(20))
    await gateway.until(file_id)
    seen = await all_events(gateway, file_id)
    again = await all_events(gateway, file_id, seen[-1].id)
    assert [event.name for event in again] == ["progress", "stats", "done"]
    assert again[0].id > seen[-1].id


async def test_a_bogus_last_event_id_is_ignored(gateway: BatchGateway) -> None:
    file_id = await gateway.submit(emails(20))
    await gateway.until(file_id)
    for bogus in ("-1", "0", "nonsense", "9" * 10_000, "1e5", "٣", "9999999999999999999"):
        headers = {"Last-Event-ID": bogus.encode()}
        async with gateway.client.stream("GET", f"/api/v1/files/{file_id}/events", headers=headers) as response:
            seen = [event async for event in parse(response)]
        assert [event.name for event in seen] == ["progress", "stats", "done"], bogus


async def test_credentials_and_ids_are_judged_before_the_first_byte(gateway: BatchGateway) -> None:
    file_id = await gateway.submit(emails(5))
    async with httpx.AsyncClient(base_url=gateway.url) as stranger:
        answer = await stranger.get(f"/api/v1/files/{file_id}/events")
    assert answer.status_code == 401
    assert answer.headers["content-type"] == "application/problem+json"
    answer = await gateway.client.get("/api/v1/files/nothing/events")
    assert answer.status_code == 404


async def test_one_stream_too_many_is_refused_and_a_closed_one_makes_room(gateway: BatchGateway) -> None:
    gateway.validator.gate.clear()
    file_id = await gateway.submit(emails(5))
    watches = [gateway.parts.live.watch(file_id, "org_default") for _ in range(MAX_STREAMS - 1)]
    async with stream(gateway, file_id) as events:
        await anext(events)
        answer = await gateway.client.get(f"/api/v1/files/{file_id}/events")
        assert answer.status_code == 429
        assert "retry-after" in answer.headers
    await eventually(lambda: gateway.parts.live._by_org["org_default"] == MAX_STREAMS - 1)
    for watch in watches:
        watch.close()
    gateway.validator.gate.set()
    assert (await all_events(gateway, file_id))[-1].name == "done"


async def test_a_deleted_file_ends_its_streams(gateway: BatchGateway) -> None:
    gateway.validator.gate.clear()
    file_id = await gateway.submit(emails(25))
    async with asyncio.timeout(20), stream(gateway, file_id) as events:
        await anext(events)
        assert (await gateway.client.delete(f"/api/v1/files/{file_id}")).status_code == 204
        names = [event.name async for event in events]
    assert names[-1] == "done"


async def test_streams_end_when_the_gateway_stops(tmp_path, valkey: ValkeyServer) -> None:
    async with BatchGateway(tmp_path, valkey.url, validator=False) as gateway:
        file_id = await gateway.submit(emails(25))
        async with asyncio.timeout(20), stream(gateway, file_id) as events:
            await anext(events)
            gateway.parts.live.end_streams()
            assert "done" not in [event.name async for event in events]
        answer = await gateway.client.get(f"/api/v1/files/{file_id}/events")
        assert answer.status_code == 503


async def test_hints_of_running_batches_move_the_progress_on(gateway: BatchGateway) -> None:
    from shared.messages import BatchProgress
    from shared.redis_keys import BATCH_PROGRESS

    gateway.validator.gate.clear()
    file_id = await gateway.submit(emails(10))
    await gateway.validator.until_seen(1, file_id)
    work = gateway.validator.seen[-1]
    async with asyncio.timeout(20), stream(gateway, file_id) as events:
        await anext(events)
        await gateway.parts.live.connected.wait()
        hint = BatchProgress(batch_id=work.batch_id, file_id=file_id, attempt=1, done=4)
        await gateway.parts.redis.publish(BATCH_PROGRESS, hint.encode())
        async for event in events:
            if event.name == "progress" and event.data["progress"] > 0:
                break
        assert event.data["progress"] == 0.4
        assert event.data["processed"] == 0
        gateway.validator.gate.set()
        rest = [event async for event in events]
    assert rest[-1].name == "done"
