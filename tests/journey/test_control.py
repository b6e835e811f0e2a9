"""Pause, resume, cancel and delete, over HTTP, of a list that is running; and a small list beside a large one."""

from __future__ import annotations

import time
from collections import Counter

from tests.journey.conftest import disturbed_list, tag
from tests.journey.internet import Lab, people
from tests.journey.observer import List, Observer, billable
from tests.journey.system import Listening, until

MANY = 2_000  # addresses: far more than may be under way of one list at a time


async def at_rest(observer: Observer, lab: Lab, file_id: str, since: float) -> int:
    """How many results there are once every conversation is over and what it brought is recorded."""
    await lab.quiet(since)
    seen = -1

    async def same() -> bool:
        nonlocal seen
        before, seen = seen, (await observer.file(file_id))["processed"]
        return before == seen

    await until(same, 20, "a paused list comes to rest", every=1.0)
    return seen


async def test_a_paused_list_rests_until_it_is_resumed(served: Listening, slow_lab: Lab, began: float):
    quick = [domain for domain in slow_lab.internet.characters if domain.startswith("quick")]
    given = List(people(quick, MANY, tag()))
    async with Observer(served.url) as observer:
        file_id = (await observer.upload(given))["fileId"]
        await observer.processed(file_id, 1)
        paused = await observer.ask("POST", f"/api/v1/files/{file_id}/pause")
        assert (paused.status_code, paused.json()["status"]) == (202, "paused")
        rest = await at_rest(observer, slow_lab, file_id, began)
        assert rest < len(given.unique)
        quiet_since = time.time()
        again = await observer.ask("POST", f"/api/v1/files/{file_id}/pause")
        assert (again.status_code, again.json()["processed"]) == (202, rest)
        assert slow_lab.sessions(quiet_since) == []
        resumed = await observer.ask("POST", f"/api/v1/files/{file_id}/resume")
        assert (resumed.status_code, resumed.json()["status"]) == (202, "processing")
        await observer.ended(file_id)
        await observer.check(file_id, slow_lab.internet.verdicts(given.unique), given.malformed)
        assert (await observer.ask("POST", f"/api/v1/files/{file_id}/resume")).status_code == 409
    await slow_lab.check_manners(given.unique, began)


async def test_a_cancelled_list_keeps_what_is_finished_and_costs_no_more(
    served: Listening, slow_lab: Lab, began: float
):
    given = disturbed_list()
    async with Observer(served.url) as observer:
        file_id = (await observer.upload(given))["fileId"]
        await observer.processed(file_id, 30)
        cancelled = await observer.ask("POST", f"/api/v1/files/{file_id}/cancel")
        assert cancelled.status_code == 202
        file = await observer.ended(file_id)
        assert file["status"] == "cancelled"
        results = await observer.results(file_id)
        assert 30 <= len(results) == file["processed"] < len(given.unique)
        verdicts = slow_lab.internet.verdicts(given.unique)
        for result in results:
            if result["reason"] != "invalid_syntax":
                assert result["status"] == verdicts[result["email"]].status
        await observer.check_charge(file, billable(results))
        download = (await observer.download(file_id, "csv")).decode().splitlines()
        assert len(download) == 1 + len(given.emails) + len(given.malformed)
        assert (await observer.ask("POST", f"/api/v1/files/{file_id}/pause")).status_code == 409
    await slow_lab.check_manners(given.unique, began)


async def test_a_deleted_list_is_gone_in_mid_run(served: Listening, slow_lab: Lab, began: float):
    given = disturbed_list()
    async with Observer(served.url) as observer:
        file_id = (await observer.upload(given))["fileId"]
        await observer.processed(file_id, 30)
        assert (await observer.ask("DELETE", f"/api/v1/files/{file_id}")).status_code == 204
        for path in ("emails", "download"):
            assert (await observer.ask("GET", f"/api/v1/files/{file_id}/{path}")).status_code in (404, 410)
        assert file_id not in {file["fileId"] for file in await observer.pages("/api/v1/files")}
        assert await observer.nothing_held()
        mine = Counter(entry["kind"] for entry in await observer.ledger() if entry["fileId"] == file_id)
        assert mine["hold"] == 1
        assert mine["capture"] <= 1
    await slow_lab.check_manners(given.unique, began)


async def test_ten_rows_are_not_stuck_behind_a_hundred_thousand(served: Listening, slow_lab: Lab):
    quick = [domain for domain in slow_lab.internet.characters if domain.startswith("quick")]
    large, small = List(people(quick, 100_000, tag()), name="large.csv"), List(people(quick, 10, tag()))
    async with Observer(served.url) as observer:
        large_id = (await observer.upload(large))["fileId"]
        await slow_lab.heard(large.unique, 100)
        small_id = (await observer.upload(small))["fileId"]
        await observer.ended(small_id, seconds=15)
        await observer.check(small_id, slow_lab.internet.verdicts(small.unique))
        assert (await observer.file(large_id))["processed"] < 50_000
        assert (await observer.ask("DELETE", f"/api/v1/files/{large_id}")).status_code == 204
        assert await observer.nothing_held()
