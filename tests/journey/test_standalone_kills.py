"""`kill -9` of the whole standalone system, and of its validator alone; twice in one list."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

from tests.journey import system
from tests.journey.conftest import disturbed_list
from tests.journey.internet import Lab
from tests.journey.observer import Observer
from tests.journey.system import children_of, is_running, until


async def test_killed_twice_it_finishes_every_address_once(slow_lab: Lab, tmp_path: Path, began: float):
    served = system.serve(tmp_path, {**slow_lab.settings, "MAILVET_BATCH_SIZE": "20"})
    given = disturbed_list(300)
    cuts = []
    try:
        await served.start()
        async with Observer(served.url) as observer:
            file_id = (await observer.upload(given))["fileId"]
            for at_least in (30, 120):
                before = await observer.processed(file_id, at_least)
                assert before["status"] == "processing"
                valkey = [pid for pid, command in children_of(served.program.pid).items() if "valkey" in command]
                assert len(valkey) == 1
                cuts.append(time.time())
                await served.kill()

                async def gone(pid: int = valkey[0]) -> bool:
                    return not is_running(pid)

                await until(gone, 5, "the bundled Valkey ends with its owner")
                await served.start()
                assert before["processed"] <= (await observer.processed(file_id, before["processed"]))["processed"]
            await observer.ended(file_id)
            await observer.check(file_id, slow_lab.internet.verdicts(given.unique), given.malformed)
            assert await observer.nothing_held()
        assert await served.terminate() == 0
    finally:
        await served.program.close()
    await slow_lab.check_manners(given.unique, began, cuts)


async def validator_of(served: system.Program, besides: int = 0) -> int:
    """The pid of the child that runs the validator, once there is one other than `besides`."""

    async def look() -> int | None:
        found = [pid for pid, command in children_of(served.pid).items() if "standalone.validator" in command]
        return next((pid for pid in found if pid != besides and is_running(pid)), None)

    return await until(look, 10, "a validator runs")


async def test_its_validator_killed_twice_is_replaced_and_nothing_is_lost(slow_lab: Lab, tmp_path: Path, began: float):
    served = system.serve(tmp_path, {**slow_lab.settings, "MAILVET_BATCH_SIZE": "20"})
    given = disturbed_list(300)
    cuts = []
    try:
        await served.start()
        async with Observer(served.url) as observer:
            file_id = (await observer.upload(given))["fileId"]
            killed = 0
            for at_least in (30, 120):
                await observer.processed(file_id, at_least)
                killed = await validator_of(served.program, killed)
                cuts.append(time.time())
                os.kill(killed, signal.SIGKILL)
                assert (await observer.file(file_id))["status"] in ("queued", "processing")  # the API goes on
            await observer.ended(file_id)
            await observer.check(file_id, slow_lab.internet.verdicts(given.unique), given.malformed)
            assert await observer.nothing_held()
        assert await served.terminate() == 0
    finally:
        await served.program.close()
    await slow_lab.check_manners(given.unique, began, cuts)
