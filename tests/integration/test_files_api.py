"""The files API as its callers see it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import httpx
import pytest

from gateway.api_keys.keys import key_document
from gateway.collections import API_KEYS, BATCHES, FILES
from tests.integration.batch_gateway import CREDITS, BatchGateway, another_client, eventually
from tests.servers import ValkeyServer

STRANGER = "mv_live_somebody_elses_key_0123456789"


@pytest.fixture(scope="module")
async def gateway(tmp_path_factory, valkey: ValkeyServer) -> AsyncIterator[BatchGateway]:
    async with BatchGateway(tmp_path_factory.mktemp("files"), valkey.url) as running:
        yield running


@pytest.fixture(autouse=True)
def open_gate(gateway: BatchGateway) -> None:
    gateway.validator.gate.set()


def emails(count: int, name: str = "ok") -> list[str]:
    return [f"{name}{n}@d{n % 7}.example.com" for n in range(count)]


async def test_lists_come_newest_first_and_page_by_page(gateway: BatchGateway) -> None:
    ids = [await gateway.submit(emails(3, f"ok{n}x")) for n in range(5)]
    listed: list[str] = []
    cursor = None
    while True:
        params = {"limit": 2} | ({} if cursor is None else {"cursor": cursor})
        page = (await gateway.client.get("/api/v1/files", params=params)).json()
        listed += [item["fileId"] for item in page["items"]]
        cursor = page["nextCursor"]
        if cursor is None:
            break
    assert listed[:5] == ids[::-1]
    assert len(listed) == len(set(listed))


async def test_other_peoples_ids_are_404_everywhere(gateway: BatchGateway) -> None:
    file_id = await gateway.submit(emails(3))
    stranger = key_document(STRANGER, "org_b", "b", ("*",), created_by="test", now=0.0)
    await gateway.documents.insert(API_KEYS, stranger)
    base = f"/api/v1/files/{file_id}"
    calls = [("GET", base + path) for path in ("", "/stats", "/emails", "/events", "/download")]
    calls += [("POST", f"{base}/{verb}") for verb in ("pause", "resume", "cancel", "start")]
    calls += [("DELETE", base), ("GET", f"/api/v1/validate-batch/{file_id}"), ("GET", f"/api/v1/validate/{file_id}")]
    async with another_client(gateway, STRANGER) as client:
        for method, path in calls:
            answer = await client.request(method, path)
            unknown = await client.request(method, path.replace(file_id, "0" * 32))
            assert (answer.status_code, path) == (404, path)
            body, other = answer.json(), unknown.json()
            assert body | {"requestId": ""} == other | {"requestId": ""}
        assert (await client.get("/api/v1/files")).json() == {"items": [], "nextCursor": None}


async def test_pause_holds_batches_back_and_resume_sends_them(gateway: BatchGateway) -> None:
    gateway.validator.gate.clear()
    file_id = await gateway.submit(emails(700))  # more batches than a file may have in flight
    await gateway.validator.until_seen(1, file_id)
    for _ in range(2):
        answer = await gateway.client.post(f"/api/v1/files/{file_id}/pause")
        assert (answer.status_code, answer.json()["status"]) == (202, "paused")
    assert answer.json()["etaSeconds"] is None
    gateway.validator.gate.set()

    async def nothing_in_flight() -> bool:
        return await gateway.documents.count(BATCHES, {"fileId": file_id, "status": "dispatched"}) == 0

    await eventually(nothing_in_flight)

    async def counted() -> bool:
        return (await gateway.file(file_id))["processed"] > 0

    await eventually(counted)
    paused = await gateway.file(file_id)
    assert paused["status"] == "paused"
    assert paused["processed"] <= 640
    gateway.validator.gate.clear()
    for _ in range(2):
        answer = await gateway.client.post(f"/api/v1/files/{file_id}/resume")
        assert (answer.status_code, answer.json()["status"]) == (202, "processing")
    gateway.validator.gate.set()
    assert (await gateway.until(file_id))["processed"] == 700


async def test_cancel_keeps_what_is_finished_and_releases_the_rest(gateway: BatchGateway) -> None:
    owned = (await gateway.credits())["balance"]
    file_id = await gateway.submit(emails(900))
    await gateway.validator.until_seen(5, file_id)
    gateway.validator.gate.clear()
    answer = await gateway.client.post(f"/api/v1/files/{file_id}/cancel")
    assert answer.status_code == 202
    file = await gateway.until(file_id, "cancelled")
    gateway.validator.gate.set()
    assert file["processed"] < 900
    assert file["creditsCharged"] == file["valid"] == file["processed"]
    assert await gateway.credits() == {
        "balance": owned - file["valid"],
        "reserved": 0,
        "available": owned - file["valid"],
    }
    statuses = {batch["status"] for batch in await gateway.batches(file_id)}
    assert statuses <= {"done", "cancelled"}
    again = await gateway.client.post(f"/api/v1/files/{file_id}/cancel")
    assert (again.status_code, again.json()["status"]) == (202, "cancelled")
    for verb in ("pause", "resume"):
        refused = await gateway.client.post(f"/api/v1/files/{file_id}/{verb}")
        assert (refused.status_code, refused.json()["code"]) == (409, "not_possible")


async def test_a_finished_file_can_neither_be_paused_nor_cancelled(gateway: BatchGateway) -> None:
    file_id = await gateway.submit(emails(3))
    await gateway.until(file_id)
    for verb in ("pause", "resume", "cancel", "start"):
        answer = await gateway.client.post(f"/api/v1/files/{file_id}/{verb}")
        assert (answer.status_code, answer.headers["content-type"]) == (409, "application/problem+json")


async def test_delete_erases_results_and_keeps_counts_also_while_it_runs(gateway: BatchGateway) -> None:
    done = await gateway.submit(emails(25))
    await gateway.until(done)
    gateway.validator.gate.clear()
    running = await gateway.submit(emails(25, "ok9y"))
    for file_id, status in ((done, "completed"), (running, "cancelled")):
        for _ in range(2):
            assert (await gateway.client.delete(f"/api/v1/files/{file_id}")).status_code == 204
        file = await gateway.file(file_id)
        assert (file["status"], file["totalEmails"], file["erasedAt"] is not None) == (status, 25, True)
        assert (await gateway.client.get(f"/api/v1/files/{file_id}/emails")).status_code == 410
        assert await gateway.batches(file_id) == []
        stored = await gateway.documents.get(FILES, file_id)
        assert "example.com" not in str(stored)
        listed = (await gateway.client.get("/api/v1/files", params={"limit": 500})).json()["items"]
        assert file_id not in [item["fileId"] for item in listed]
    gateway.validator.gate.set()
    assert (await gateway.file(done))["valid"] == 25
    assert (await gateway.credits())["reserved"] == 0


async def test_stats_add_up(gateway: BatchGateway) -> None:
    names = [
        "ok1@a.example.com",
        "no1@a.example.com",
        "all1@b.example.com",
        "dunno1@b.example.com",
        "nonsense",
        "ok1@a.example.com",
    ]
    file_id = await gateway.submit(names)
    await gateway.until(file_id)
    stats = (await gateway.client.get(f"/api/v1/files/{file_id}/stats")).json()
    assert stats == {
        "fileId": file_id,
        "total": 5,
        "processed": 5,
        "valid": 1,
        "invalid": 2,
        "risky": 1,
        "unknown": 1,
        "reasons": {"accepted": 1, "catch_all": 1, "invalid_syntax": 1, "mailbox_missing": 1, "timeout": 1},
        "domains": [
            {"domain": "a.example.com", "total": 2, "valid": 1, "invalid": 1, "risky": 0, "unknown": 0},
            {"domain": "b.example.com", "total": 2, "valid": 0, "invalid": 0, "risky": 1, "unknown": 1},
        ],
    }


async def test_results_are_paged_filtered_and_searched(gateway: BatchGateway) -> None:
    names = [*emails(60), *emails(15, "no"), "broken", "needle@a.example.com"]
    file_id = await gateway.submit(names)
    await gateway.until(file_id)

    async def every(**params: str | int) -> list[dict[str, object]]:
        items: list[dict[str, object]] = []
        cursor = None
        while True:
            given = params | ({} if cursor is None else {"cursor": cursor})
            page = (await gateway.client.get(f"/api/v1/files/{file_id}/emails", params=given)).json()
            assert len(page["items"]) <= int(params.get("limit", 100))
            items += page["items"]
            cursor = page["nextCursor"]
            if cursor is None:
                return items

    everything = await every(limit=7)
    assert sorted(item["email"] for item in everything) == sorted(names)
    assert {item["email"] for item in await every(status="invalid", limit=4)} == {*emails(15, "no"), "broken"}
    assert [item["email"] for item in await every(q="NEEDLE")] == ["needle@a.example.com"]
    assert await every(q="needle", status="risky") == []
    one = next(item for item in everything if item["email"] == "needle@a.example.com")
    assert one["row"] == 77
    assert {"status", "reason", "score", "is_valid", "details"} <= set(one)


@pytest.mark.parametrize(
    ("path", "params", "status"),
    [
        ("", {"cursor": "nonsense"}, 400),
        ("", {"limit": 0}, 422),
        ("", {"limit": 1_001}, 422),
        ("/{id}/emails", {"cursor": "WyJhIiwiYiJd"}, 400),
        ("/{id}/emails", {"cursor": "Wy0xLCJhIl0"}, 400),
        ("/{id}/emails", {"status": "good"}, 422),
    ],
)
async def test_wrong_parameters_are_problems(gateway: BatchGateway, path: str, params: dict, status: int) -> None:
    file_id = await gateway.submit(emails(1))
    answer = await gateway.client.get("/api/v1/files" + path.format(id=file_id), params=params)
    assert (answer.status_code, answer.headers["content-type"]) == (status, "application/problem+json")


async def test_progress_and_eta_count_a_second_look_that_is_due(tmp_path, valkey: ValkeyServer) -> None:
    async with BatchGateway(tmp_path, valkey.url, retry_delays=(600.0,)) as gateway:
        file_id = await gateway.submit([*emails(8), "later1@a.example.com", "later2@a.example.com"])

        async def counted() -> bool:
            return (await gateway.file(file_id))["processed"] == 8

        await eventually(counted)
        file = await gateway.file(file_id)
        assert (file["status"], file["progress"]) == ("processing", 0.8)
        assert 590 <= file["etaSeconds"] <= 601


async def test_put_off_addresses_get_their_verdict_on_a_later_look(gateway: BatchGateway) -> None:
    file_id = await gateway.submit([*emails(8), "later1@a.example.com", "never@a.example.com"])
    file = await gateway.until(file_id)
    assert (file["valid"], file["unknown"], file["processed"]) == (9, 1, 10)
    assert file["creditsCharged"] == 9


async def test_every_answer_carries_a_request_id_and_harmless_headers(gateway: BatchGateway) -> None:
    for path in ("/healthz", "/api/v1/files", "/nowhere", "/api/v1/files/none/stats"):
        answer = await gateway.client.get(path)
        assert len(answer.headers["x-request-id"]) >= 8
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert "access-control-allow-origin" not in answer.headers
    given = await gateway.client.get("/healthz", headers={"X-Request-Id": "my-own-id-17"})
    assert given.headers["x-request-id"] == "my-own-id-17"
    odd = await gateway.client.get("/healthz", headers={"X-Request-Id": "a b\tc" * 30})
    assert odd.headers["x-request-id"] != "a b\tc" * 30


async def test_health_and_metrics_say_how_it_goes(gateway: BatchGateway) -> None:
    async with httpx.AsyncClient(base_url=gateway.url) as anyone:
        assert (await anyone.get("/healthz")).json() == {"status": "ok"}
        ready = await anyone.get("/readyz")
        assert ready.status_code == 200
        assert ready.json()["status"] == "degraded"
        checks = {"documents": "ok", "broker": "ok", "redis": "ok", "validators": "unreachable"}
        assert ready.json()["checks"] == checks
        metrics = (await anyone.get("/metrics")).text
        assert "mailvet_batches_dispatched_total" in metrics
        assert "example.com" not in metrics
        assert (await anyone.get("/openapi.json")).json()["openapi"].startswith("3.1")


async def test_files_run_side_by_side_and_money_adds_up(gateway: BatchGateway) -> None:
    owned = (await gateway.credits())["balance"]
    ids = await asyncio.gather(*(gateway.submit(emails(40, f"ok{n}z")) for n in range(10)))
    for file_id in ids:
        assert (await gateway.until(file_id))["valid"] == 40
    assert await gateway.credits() == {"balance": owned - 400, "reserved": 0, "available": owned - 400}
    assert owned <= CREDITS


async def test_a_wrong_method_is_told_the_right_ones(gateway: BatchGateway) -> None:
    answer = await gateway.client.put("/api/v1/files")
    assert (answer.status_code, answer.headers["allow"]) == (405, "GET, HEAD, POST")
    assert (await gateway.client.patch("/api/v1/files/some")).headers["allow"] == "GET, HEAD, DELETE"
