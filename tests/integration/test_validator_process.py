"""The standalone system's validator process: what becomes of it when it, or a server it needs, goes away."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import httpx
import pytest

from services.standalone.validator_process import validator_process
from shared.broker.inprocess import InProcessBroker
from shared.errors import SettingsError
from shared.http_server import bind, port_of
from shared.messages import ResultMessage, WorkMessage
from shared.settings import Settings
from shared.topology import RESULTS, WORK
from tests.journey.system import children_of
from tests.servers import ValkeyServer

PATIENCE = 20.0  # seconds for a Python to start, twice


def settings(redis_url: str, **more: object) -> Settings:
    return Settings.load(
        _env_file=None,
        redis_url=redis_url,
        internal_token="internal-token-of-the-test",
        smtp_port=2525,  # not 25: the check of the way out is not for tests
        dns_nameservers="127.0.0.1:1",
        dns_timeout=0.2,
        **more,
    )


async def nothing_to_clear() -> None:
    return None


async def until(ask: Callable[[], Awaitable[bool]], what: str) -> None:
    deadline = time.monotonic() + PATIENCE
    while not await ask():
        assert time.monotonic() < deadline, what
        await asyncio.sleep(0.05)


async def verdict_of(broker: InProcessBroker, number: int) -> ResultMessage:
    """A batch goes in, and its answer comes out: it needs no server but the queues and Redis."""
    work = WorkMessage(batch_id=f"b{number}", file_id="f", org_id="o", attempt=1, emails=["nonsense"])
    await broker.publish(WORK, work.encode(), f"b{number}:1")
    async with broker.subscribe(RESULTS, 1) as deliveries, asyncio.timeout(PATIENCE):
        async for delivery in deliveries:
            await delivery.ack()
            return ResultMessage.decode(delivery.body)
    raise AssertionError("the queue ended")


async def pid_behind(port: int) -> int:
    """Of the process that answers there; 0 while none does."""
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", trust_env=False, timeout=1) as client:
        try:
            text = (await client.get("/metrics")).text
        except httpx.TransportError:
            return 0
    assert "mailvet_validator_batches_total" in text
    found = [pid for pid, command in children_of(os.getpid()).items() if "standalone.validator" in command]
    return found[0] if len(found) == 1 else 0


async def test_one_that_dies_is_replaced_also_when_redis_is_away_for_a_while(own_valkey: ValkeyServer) -> None:
    bound = bind("127.0.0.1", 0, "test")
    async with (
        InProcessBroker() as broker,
        validator_process(settings(own_valkey.url), broker, bound, nothing_to_clear),
    ):
        assert (await verdict_of(broker, 1)).findings[0].why
        first = await pid_behind(port_of(bound))
        await own_valkey.kill()
        os.kill(first, signal.SIGKILL)
        await asyncio.sleep(2)  # long enough for a try that must fail
        assert await pid_behind(port_of(bound)) == 0
        await own_valkey.start()
        assert (await verdict_of(broker, 2)).batch_id == "b2"

        async def another() -> bool:
            return await pid_behind(port_of(bound)) not in (0, first)

        await until(another, "another validator answers at the same port")
    assert await pid_behind(port_of(bound)) == 0
    bound.close()


async def test_what_the_operator_must_mend_is_said_by_the_parent(own_valkey: ValkeyServer, tmp_path: Path) -> None:
    bound = bind("127.0.0.1", 0, "test")
    wrong = settings(own_valkey.url, providers_file=tmp_path / "none.toml")
    with pytest.raises(SettingsError, match="PROVIDERS_FILE"):
        async with InProcessBroker() as broker, validator_process(wrong, broker, bound, nothing_to_clear):
            raise AssertionError("it started")
    bound.close()
