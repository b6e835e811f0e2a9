"""`kill -9` of the whole standalone system, and of its validator alone; twice in one list."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import NamedTuple

from tests.journey import system
from tests.journey.conftest import disturbed_list
from tests.journey.internet import Lab
from tests.journey.observer import Observer
from tests.journey.system import Listening, children_of, is_running, until

SHARES = (8, 16, 24, 32)
TWICE = (10, 40)  # of 102 rows: how many are done when something is killed; the last two hosts never are by then


class Run(NamedTuple):
    served: Listening
    observer: Observer
    file_id: str
    cuts: list[float]  # when a test killed


@asynccontextmanager
async def running(lab: Lab, folder: Path, began: float) -> AsyncIterator[Run]:
    """A system with a list to verify; at the end everything an outside observer can check is right."""
    served = system.serve(folder, {**lab.settings, "MAILVET_BATCH_SIZE": "10"})
    given = disturbed_list(SHARES)
    cuts: list[float] = []
    try:
        await served.start()
        async with Observer(served.url) as observer:
            file_id = (await observer.upload(given))["fileId"]
            yield Run(served, observer, file_id, cuts)
            await observer.ended(file_id)
            await observer.check(file_id, lab.internet.verdicts(given.unique), given.malformed)
            assert await observer.nothing_held()
        assert await served.terminate() == 0
    finally:
        await served.program.close()
    await lab.check_manners(given.unique, began, cuts)


async def test_killed_twice_it_finishes_every_address_once(slow_lab: Lab, tmp_path: Path, began: float):
    async with running(slow_lab, tmp_path, began) as (served, observer, file_id, cuts):
        for at_least in TWICE:
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


async def validator_of(served: system.Program, besides: int = 0) -> int:
    """The pid of the child that runs the validator, once there is one other than `besides`."""

    async def look() -> int | None:
        found = [pid for pid, command in children_of(served.pid).items() if "standalone.validator" in command]
        return next((pid for pid in found if pid != besides and is_running(pid)), None)

    return await until(look, 10, "a validator runs")


async def test_its_validator_killed_twice_is_replaced_and_nothing_is_lost(slow_lab: Lab, tmp_path: Path, began: float):
    async with running(slow_lab, tmp_path, began) as (served, observer, file_id, cuts):
        killed = 0
        for at_least in TWICE:
            await observer.processed(file_id, at_least)
            killed = await validator_of(served.program, killed)
            cuts.append(time.time())
            os.kill(killed, signal.SIGKILL)
            assert (await observer.file(file_id))["status"] in ("queued", "processing")  # the API goes on
