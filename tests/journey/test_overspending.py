"""Credits: nothing is taken in that cannot be paid, however many try at once."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from tests.journey import system
from tests.journey.conftest import tag
from tests.journey.internet import Lab, people
from tests.journey.observer import List, Observer

CREDITS = 100


@pytest.fixture
async def poor(slow_lab: Lab, tmp_path: Path):
    served = system.serve(tmp_path, {**slow_lab.settings, "MAILVET_BOOTSTRAP_CREDITS": str(CREDITS)})
    await served.start()
    yield served
    assert await served.terminate() == 0


async def test_nobody_spends_more_than_there_is(poor: system.Listening, slow_lab: Lab, began: float):
    async with Observer(poor.url) as observer:
        refused = await observer.send("large.csv", List(people(["quick0.example"], CREDITS + 1)).content)
        assert refused.status_code == 402
        assert refused.headers["content-type"] == "application/problem+json"
        assert (refused.json()["required"], refused.json()["available"]) == (CREDITS + 1, CREDITS)
        assert await observer.pages("/api/v1/files") == []
        assert [path for path in (poor.program.folder / "data").rglob("upload*") if path.is_file()] == []
        assert {entry["kind"] for entry in await observer.ledger()} == {"grant"}

        lists = [List(people([f"quick{n % 4}.example"], 30, tag())) for n in range(8)]
        answers = await asyncio.gather(*(observer.send(one.name, one.content) for one in lists))
        assert sorted(answer.status_code for answer in answers) == [202] * 3 + [402] * 5
        accepted = [
            (one, answer.json()["fileId"]) for one, answer in zip(lists, answers, strict=True) if answer.is_success
        ]
        for one, file_id in accepted:
            await observer.ended(file_id)
            await observer.check(file_id, slow_lab.internet.verdicts(one.unique))
        credits_ = await observer.get("/api/v1/credits")
        assert credits_ == {"balance": CREDITS - 90, "reserved": 0, "available": CREDITS - 90}
    await slow_lab.check_manners([email for one, _ in accepted for email in one.unique], began)
