"""Data gone: canaries are planted everywhere they can be, and looked for as bytes."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio import Redis

from gateway.collections import AUDIT, BATCHES, ERASURES, FILES, ORGANISATIONS, SUPPRESSED
from gateway.retention.erase_address import carry_out, new_erasure
from gateway.retention.sweep import RetentionSweep
from shared.address import Address, parse_address
from shared.documents import Change
from shared.verdicts import Verdicts
from tests.integration.batch_gateway import ORG, BatchGateway, eventually
from tests.integration.scripted_validator import verdict
from tests.servers import ValkeyServer
from validator.verdict_cache import VerdictCache

CANARY = "ok-canary-7c1f@nest.example.com"
NEEDLE = b"canary-7c1f"


@pytest.fixture
async def gateway(tmp_path, valkey: ValkeyServer) -> AsyncIterator[BatchGateway]:
    url = valkey.url.rstrip("/0") + "/7"  # a database of its own, so that every byte in it is of this test
    async with Redis.from_url(url) as redis:
        await redis.flushdb()
    async with BatchGateway(tmp_path, url, batch_size=500) as running:
        yield running


def on_disk(folder: Path, needle: bytes = NEEDLE) -> list[str]:
    return [
        str(path.relative_to(folder))
        for path in sorted(folder.rglob("*"))
        if path.is_file() and needle in path.read_bytes().lower()
    ]


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes().lower() for path in folder.rglob("*") if path.is_file()}


async def in_redis(url: str, needle: bytes = NEEDLE) -> list[bytes]:
    found = []
    async with Redis.from_url(url) as redis:
        async for key in redis.scan_iter():
            dump = await redis.dump(key)
            if needle in key or (dump is not None and needle in dump):
                found.append(key)
    return found


async def upload(gateway: BatchGateway, content: bytes, name: str = "list.csv", **query: str) -> str:
    answer = await gateway.client.post("/api/v1/files", files={"file": (name, content)}, params=query)
    assert answer.status_code == 202, answer.text
    file_id: str = answer.json()["fileId"]
    return file_id


def made_up(count: int, seed: int = 1) -> list[str]:
    chance = random.Random(seed)
    return [f"ok{chance.randrange(10**9)}@d{n % 50}.example.com" for n in range(count)]


async def test_after_a_delete_no_byte_of_an_address_is_left(
    tmp_path: Path, gateway: BatchGateway, valkey: ValkeyServer, capfd: pytest.CaptureFixture[str]
) -> None:
    kept = await upload(gateway, "\n".join(["email", *made_up(800, 2)]).encode())
    ids = []
    for at in range(4):
        rows = made_up(1_200, 10 + at)
        for place in range(0, 1_200, 3):  # long names of their own, so that every page and every index could keep some
            rows[place] = f"ok-canary-7c1f-{at}-{place}-{'x' * (place % 40)}@nest{place % 7}.example.com"
        ids.append(await upload(gateway, "\n".join(["email,name", *(f"{row},N" for row in rows)]).encode()))
        await gateway.submit([CANARY, f"ok-canary-7c1f-{at}@nest.example.com"])
    for file_id in (kept, *ids):
        await gateway.until(file_id, within=40)
        await gateway.client.get(f"/api/v1/files/{file_id}/download?format=csv")
    assert on_disk(tmp_path)
    assert on_disk(valkey._folder)
    files = [file["_id"] async for file in gateway.documents.scan(FILES, {"orgId": ORG})]
    for file_id in files:
        await gateway.until(file_id)
        if file_id != kept:
            assert (await gateway.client.delete(f"/api/v1/files/{file_id}")).status_code == 204
    # The gateway is still running and writing; its sweep does the rest.
    await eventually(lambda: asyncio.to_thread(lambda: not on_disk(tmp_path)), within=20)
    assert await in_redis(str(gateway.settings.redis_url)) == []
    await eventually(lambda: asyncio.to_thread(lambda: not on_disk(valkey._folder)), within=20)
    out, err = capfd.readouterr()
    assert NEEDLE.decode() not in out + err
    assert (await gateway.file(kept))["valid"] == 800
    assert (await gateway.client.get(f"/api/v1/files/{ids[0]}/download?format=csv")).status_code == 404
    actions = [entry["action"] async for entry in gateway.documents.scan(AUDIT, {"orgId": ORG}, sort="at")]
    assert actions.count("file.deleted") == len(files) - 1


async def test_files_are_erased_when_their_time_is_over(gateway: BatchGateway) -> None:
    file_id = await gateway.submit([CANARY])
    await gateway.until(file_id)
    await gateway.documents.update(FILES, file_id, Change(set={"expiresAt": time.time() - 1}))
    await gateway.parts.machine.repair.sweep()
    stored = await gateway.stored(file_id)
    assert (stored["eraseState"], stored["valid"]) == ("done", 1)
    assert await gateway.batches(file_id) == []


async def test_an_organisation_may_keep_its_files_for_a_shorter_time(gateway: BatchGateway) -> None:
    file_id = await gateway.submit([CANARY])
    await gateway.until(file_id)
    answer = await gateway.client.patch("/api/v1/organisation", json={"retentionDays": 2})
    assert answer.json()["retentionDays"] == 2
    stored = await gateway.stored(file_id)
    assert stored["expiresAt"] == pytest.approx(stored["createdAt"] + 2 * 86_400)
    later = await gateway.submit([CANARY])
    await RetentionSweep(gateway.parts).sweep()
    stored = await gateway.stored(later)
    assert stored["expiresAt"] == pytest.approx(stored["createdAt"] + 2 * 86_400)
    back = await gateway.client.patch("/api/v1/organisation", json={"retentionDays": None, "name": "Bakers"})
    assert (back.json()["retentionDays"], back.json()["name"]) == (None, "Bakers")
    stored = await gateway.stored(file_id)
    assert stored["expiresAt"] == pytest.approx(stored["createdAt"] + 30 * 86_400)
    for body in ({"retentionDays": 0}, {"retentionDays": 31}, {"name": None}, {"name": "a\nb"}, {"plan": "free"}):
        assert (await gateway.client.patch("/api/v1/organisation", json=body)).status_code == 422, body
    assert (await gateway.client.get("/api/v1/organisation")).json()["name"] == "Bakers"


async def test_a_suppressed_address_is_never_asked_about_and_free(gateway: BatchGateway) -> None:
    added = await gateway.client.post("/api/v1/suppressions", json={"email": CANARY})
    assert added.status_code == 201
    assert "@" not in added.text
    owned = (await gateway.credits())["available"]
    body = {"emails": [CANARY.upper(), "ok1@a.example.com", "ok2@nest.example.com"]}
    file_id = (await gateway.client.post("/api/v1/validate-batch", json=body)).json()["fileId"]
    file = await gateway.until(file_id)
    assert (file["valid"], file["unknown"], file["creditsCharged"]) == (2, 1, 2)
    results = (await gateway.client.get(f"/api/v1/validate-batch/{file_id}")).json()["results"]
    assert (results[0]["status"], results[0]["reason"], results[0]["row"]) == ("unknown", "suppressed", 1)
    only = await gateway.submit([CANARY])
    assert (await gateway.until(only))["creditsCharged"] == 0
    single = await gateway.client.post("/api/v1/validate", json={"email": CANARY})
    assert (single.status_code, single.json()["reason"]) == (200, "suppressed")
    listed = await upload(gateway, f"email\n{CANARY}\nok3@a.example.com\n{CANARY}\n".encode(), start="false")
    assert (await gateway.client.post(f"/api/v1/files/{listed}/start")).status_code == 202
    assert (await gateway.until(listed))["unknown"] == 1
    assert (await gateway.credits())["available"] == owned - 3
    asked = {email.lower() for work in gateway.validator.seen for email in work.emails}
    assert CANARY not in asked

    page = (await gateway.client.get("/api/v1/suppressions")).json()
    assert [one["id"] for one in page["items"]] == [added.json()["id"]]
    path = f"/api/v1/suppressions/{added.json()['id']}"
    assert (await gateway.client.delete(path)).status_code == 204
    assert (await gateway.client.delete(path)).status_code == 404
    assert (await gateway.until(await gateway.submit([CANARY])))["valid"] == 1


async def erase(gateway: BatchGateway, email: str) -> dict[str, Any]:
    answer = await gateway.client.post("/api/v1/erasures", json={"email": email})
    assert answer.status_code == 202, answer.text
    path = answer.headers["location"]

    async def done() -> bool:
        return (await gateway.client.get(path)).json()["state"] == "done"

    await eventually(done)
    erased: dict[str, Any] = (await gateway.client.get(path)).json()
    return erased


async def test_one_address_is_erased_from_everything_and_the_rest_stays(tmp_path: Path, gateway: BatchGateway) -> None:
    text = f"email;note\nok1@a.example.com;cc {CANARY}\n{CANARY.upper()};x\nok2@a.example.com;not-{CANARY}\n"
    as_utf8 = await upload(gateway, text.encode())
    as_utf16 = await upload(gateway, text.encode("utf-16"))
    other = await gateway.submit(["ok1@a.example.com", CANARY, f"<{CANARY}>"])
    ready = await upload(gateway, text.encode(), start="false")
    for file_id in (as_utf8, as_utf16, other):
        await gateway.until(file_id)
        await gateway.client.get(f"/api/v1/files/{file_id}/download?format=csv")
    address = parse_address(CANARY)
    assert isinstance(address, Address)
    async with Redis.from_url(str(gateway.settings.redis_url)) as redis:
        cache = VerdictCache(redis, ttl=1_000_000_000, secret=str(gateway.settings.internal_token))
        told = [verdict(CANARY), verdict("ok1@" + address.domain)]
        await cache.remember(ORG, Verdicts.of([one.email for one in told], told))
        erased = await erase(gateway, CANARY)
        assert list(await cache.recall(ORG, [CANARY, "ok1@" + address.domain])) == [1]
    assert (erased["files"], erased["state"]) == (4, "done")
    plain, inside = CANARY.encode(), f"not-{CANARY}".encode()
    for path, content in (await asyncio.to_thread(contents, tmp_path)).items():
        assert plain not in content.replace(inside, b""), path
        assert CANARY.encode("utf-16-le") not in content.replace(f"not-{CANARY}".encode("utf-16-le"), b""), path
    left = [key for key in await in_redis(str(gateway.settings.redis_url), plain) if ready not in key.decode()]
    assert left == []
    for file_id in (as_utf8, as_utf16):
        csv = (await gateway.client.get(f"/api/v1/files/{file_id}/download?format=csv")).text.splitlines()
        assert [line.split(";")[0].strip(" \ufeff") for line in csv] == [
            "email",
            "ok1@a.example.com",
            "",
            "ok2@a.example.com",
        ]
        assert f"not-{CANARY}" in csv[3]
        file = await gateway.file(file_id)
        assert (file["valid"], file["creditsCharged"]) == (3, 3)
    items = (await gateway.client.get(f"/api/v1/files/{other}/emails")).json()["items"]
    assert sorted(item["email"] for item in items) == ["", "", "ok1@a.example.com"]
    assert (await gateway.client.post(f"/api/v1/files/{ready}/start")).status_code == 202
    await gateway.until(ready)
    assert [one["_id"] async for one in gateway.documents.scan(SUPPRESSED, {"orgId": ORG})]
    again = await gateway.submit([CANARY])
    assert (await gateway.until(again))["unknown"] == 1


async def test_an_address_that_still_waits_is_taken_out_of_its_batch(gateway: BatchGateway) -> None:
    gateway.validator.gate.clear()
    file_id = await gateway.submit(["ok1@a.example.com", CANARY, "ok2@a.example.com"])
    await gateway.validator.until_seen(1, file_id)
    await erase(gateway, CANARY)
    gateway.validator.gate.set()
    file = await gateway.until(file_id)
    assert (file["valid"], file["unknown"], file["creditsCharged"]) == (2, 1, 2)
    [batch] = await gateway.batches(file_id)
    assert sorted(result["row"] for result in batch["results"]) == [1, 2, 3]
    assert CANARY not in str(batch)


async def test_an_erasure_that_was_cut_off_goes_on(gateway: BatchGateway) -> None:
    file_id = await gateway.submit(["ok1@a.example.com", CANARY])
    await gateway.until(file_id)
    address = parse_address(CANARY)
    assert isinstance(address, Address)
    erasure = await new_erasure(gateway.parts, ORG, "er_cut_off", address)
    assert CANARY not in str(erasure)
    later = RetentionSweep(gateway.parts, clock=lambda: time.time() + 120)
    await later.sweep()
    stored = await gateway.documents.get(ERASURES, "er_cut_off")
    assert stored is not None
    assert (stored["state"], stored["results"], stored["sealed"]) == ("done", 1, "")
    await carry_out(gateway.parts, stored)
    assert CANARY not in str([batch async for batch in gateway.documents.scan(BATCHES, {"fileId": file_id})])


async def test_what_is_no_address_cannot_be_erased_or_suppressed(gateway: BatchGateway) -> None:
    for path in ("/api/v1/erasures", "/api/v1/suppressions"):
        for body in ({"email": "nobody"}, {"email": ""}, {"email": 5}, {}, {"email": CANARY, "all": True}):
            assert (await gateway.client.post(path, json=body)).status_code == 422, (path, body)


async def test_an_estimate_is_free_until_it_is_started(gateway: BatchGateway) -> None:
    before = await gateway.credits()
    content = b"email\nok1@a.example.com\nok1@a.example.com\nbroken\nok2@a.example.com\n"
    answer = await gateway.client.post(
        "/api/v1/files", files={"file": ("list.csv", content)}, params={"start": "false"}
    )
    shown = answer.json()
    assert answer.status_code == 202
    counts = {name: shown[name] for name in ("totalEmails", "uniqueEmails", "duplicates", "malformed", "cost")}
    assert counts == {"totalEmails": 4, "uniqueEmails": 2, "duplicates": 1, "malformed": 1, "cost": 2}
    assert (shown["status"], shown["creditsReserved"]) == ("ready", 0)
    assert await gateway.credits() == before
    assert (await gateway.client.post(f"/api/v1/files/{shown['fileId']}/start")).status_code == 202
    file = await gateway.until(shown["fileId"])
    assert (file["valid"], file["invalid"], file["creditsCharged"]) == (2, 1, 2)
    assert (await gateway.credits())["balance"] == before["balance"] - 2
    organisation = await gateway.documents.get(ORGANISATIONS, ORG)
    assert organisation is not None
