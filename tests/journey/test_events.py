"""Live events for a reader whose connection breaks again and again, and whose server is restarted in between."""

from __future__ import annotations

import asyncio
from pathlib import Path

from tests.journey import system
from tests.journey.conftest import disturbed_list
from tests.journey.internet import Lab
from tests.journey.observer import Follower, Observer
from tests.journey.system import children_of, is_running


async def test_a_reader_that_comes_back_misses_nothing(slow_lab: Lab, tmp_path: Path, began: float):
    served = system.serve(tmp_path, {**slow_lab.settings, "MAILVET_BATCH_SIZE": "10"})
    given = disturbed_list()
    try:
        await served.start()
        async with Observer(served.url) as observer:
            file_id = (await observer.upload(given))["fileId"]
            follower = Follower(observer, file_id, drop_after=4)
            following = asyncio.create_task(follower.follow(), name="follower")
            await observer.processed(file_id, 40)
            ours = [served.program.pid, *children_of(served.program.pid)]
            assert await served.terminate() == 0
            assert [pid for pid in ours if is_running(pid)] == []
            await served.start()
            await following
            results = await observer.check(file_id, slow_lab.internet.verdicts(given.unique), given.malformed)
            last = await observer.file(file_id)
        assert await served.terminate() == 0
    finally:
        await served.program.close()
    await slow_lab.check_manners(given.unique, began)
    assert follower.connections > 5
    told = follower.emails()
    assert {(r["email"], r["status"]) for r in results if r["reason"] != "invalid_syntax"} <= set(told)
    end = follower.events[-1]
    assert end.name == "done"
    assert end.data.items() <= (last | {"total": len(results)}).items()
