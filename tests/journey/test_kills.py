"""`kill -9` of each part in mid-run, while the others go on: the list is finished, every address once, charged once."""

from __future__ import annotations

import time

from tests.journey.conftest import Cluster, disturbed_list
from tests.journey.observer import List, Observer

MIDWAY = 50  # addresses that were asked about when something dies


async def begun(cluster: Cluster, outside: Observer) -> tuple[List, str]:
    """A list in mid-run."""
    given = disturbed_list()
    file_id: str = (await outside.upload(given))["fileId"]
    await cluster.lab.heard(given.unique, MIDWAY)
    return given, file_id


async def test_a_validator_killed(cluster: Cluster, outside: Observer, began: float):
    given, file_id = await begun(cluster, outside)
    killed = time.time()
    await cluster.validators[0].kill()
    await cluster.finish_right(given, file_id, began, (killed,))


async def test_the_gateway_killed_and_started_again(cluster: Cluster, outside: Observer, began: float):
    given, file_id = await begun(cluster, outside)
    await cluster.gateway.kill()
    await cluster.gateway.start()
    await cluster.finish_right(given, file_id, began)


async def test_rabbitmq_killed_and_started_again(cluster: Cluster, outside: Observer, began: float):
    given, file_id = await begun(cluster, outside)
    await cluster.rabbit.kill()
    await cluster.rabbit.start()
    await cluster.finish_right(given, file_id, began)


async def test_redis_wiped_and_killed(cluster: Cluster, outside: Observer, began: float):
    given, file_id = await begun(cluster, outside)
    await cluster.forget()
    await cluster.lab.heard(given.unique, 10, after=time.time())
    await cluster.valkey.kill()
    await cluster.lab.heard(given.unique, 10, after=time.time())  # without it the work goes on
    await cluster.valkey.start()
    await cluster.finish_right(given, file_id, began)


async def test_mongodb_killed_and_started_again(cluster: Cluster, outside: Observer, began: float):
    given, file_id = await begun(cluster, outside)
    await cluster.mongo.kill()
    answer = await outside.ask("GET", f"/api/v1/files/{file_id}")
    assert answer.status_code == 503
    assert answer.headers["content-type"] == "application/problem+json"
    assert int(answer.headers["Retry-After"]) >= 1
    await cluster.mongo.start()
    await cluster.finish_right(given, file_id, began)
