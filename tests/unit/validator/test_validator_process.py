"""Progress hints without Redis, and a validator that cannot start or whose loop dies."""

from __future__ import annotations

import asyncio

import pytest
from redis.asyncio import Redis

from shared.errors import SettingsError
from tests.unit.validator.smtp.probe_world import settings
from validator import progress
from validator.preflight import Preflight
from validator.progress import ProgressReporter
from validator.serve import RunningValidator, serve_validator


async def test_progress_goes_on_where_redis_is_away(monkeypatch):
    monkeypatch.setattr(progress, "INTERVAL", 0.001)
    nowhere = Redis(unix_socket_path="/nonexistent/mailvet.sock", retry=None)
    reporter = ProgressReporter(nowhere)
    running = asyncio.create_task(reporter.run())
    report = reporter.of_batch("f1", "b1", 1, already=2)
    for done in range(3):
        report(done)
        async with asyncio.timeout(5):
            while reporter._changed:
                await asyncio.sleep(0)
    assert not running.done()
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    await nowhere.aclose()


async def test_a_batch_that_is_reported_is_not_hinted_at_any_more():
    reporter = ProgressReporter(Redis(unix_socket_path="/nonexistent/mailvet.sock"))
    reporter.of_batch("f1", "b1", 1, already=2)(5)
    assert reporter._changed["b1"].done == 7
    reporter.forget("b1")
    reporter.forget("b1")
    assert reporter._changed == {}


@pytest.mark.parametrize("missing", ["amqp_url", "redis_url", "internal_token"])
async def test_a_validator_names_the_setting_it_misses(missing):
    told = {"amqp_url": "amqp://127.0.0.1", "redis_url": "redis://127.0.0.1", "internal_token": "x" * 16, missing: None}
    with pytest.raises(SettingsError, match=missing.upper()):
        await serve_validator(settings(**told), asyncio.Event())


async def test_a_loop_that_dies_takes_the_validator_down_and_a_stop_does_not():
    died = asyncio.get_running_loop().create_future()
    validator = RunningValidator(Preflight(settings(smtp_port=2525)), died)
    stop = asyncio.Event()
    stop.set()
    await validator.until(stop)
    died.set_exception(OSError("the loop's own"))
    with pytest.raises(OSError, match="the loop's own"):
        await validator.until(asyncio.Event())
