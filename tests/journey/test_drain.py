"""SIGTERM to a validator in mid-run: it takes its leave, and the other one goes on."""

from __future__ import annotations

import time

from tests.journey.conftest import Cluster, disturbed_list
from tests.journey.observer import Observer


async def test_a_validator_told_to_stop_drains_and_says_goodbye(cluster: Cluster, outside: Observer, began: float):
    given = disturbed_list()
    file_id = (await outside.upload(given))["fileId"]
    await cluster.lab.heard(given.unique, 50)
    told = time.monotonic()
    assert await cluster.validators[0].terminate(30) == 0
    assert time.monotonic() - told < 30
    await cluster.finish_right(given, file_id, began)  # no session without QUIT is excused
