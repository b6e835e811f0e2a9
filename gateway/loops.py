"""Background loops of a process: named, started again when they fail, ended in order.

A loop ends by itself once `stop` is set. A server that is away is waited for, with pauses that grow to LONGEST; any
other error is a bug, which is logged and counted, and the loop goes on as well: one poisoned file must not stop all.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable

from gateway.health import metrics
from shared.errors import ServerUnreachable
from shared.logs import get_log

log = get_log("gateway.loops")

SHORTEST, LONGEST = 0.25, 5.0  # seconds before a failed loop starts again
STOP_WITHIN = 18.0  # seconds; a webhook that is being sent takes up to 15

Loop = Callable[[asyncio.Event], Awaitable[None]]


async def keep_running(name: str, loop: Loop, stop: asyncio.Event) -> None:
    """Run `loop(stop)` until `stop` is set."""
    pause = SHORTEST
    clock = asyncio.get_running_loop().time
    while not stop.is_set():
        began = clock()
        try:
            await loop(stop)
        except ServerUnreachable as error:
            log.warning("loop_waits", loop=name, error=type(error).__name__)
            metrics.LOOP_FAILURES.labels(name, type(error).__name__).inc()
        except Exception as error:
            log.exception("loop_failed", loop=name, error=type(error).__name__)
            metrics.LOOP_FAILURES.labels(name, type(error).__name__).inc()
        else:
            return
        pause = SHORTEST if clock() - began > LONGEST else min(LONGEST, 2 * pause)
        try:
            async with asyncio.timeout(pause):
                await stop.wait()
        except TimeoutError:
            continue


@contextlib.asynccontextmanager
async def looping(name: str, loop: Loop) -> AsyncIterator[None]:
    """`keep_running` as a task while the context is open. A loop that does not notice `stop` in time is cancelled."""
    stop = asyncio.Event()
    task = asyncio.create_task(keep_running(name, loop, stop), name=name)
    try:
        yield
    finally:
        stop.set()
        _, late = await asyncio.wait([task], timeout=STOP_WITHIN)
        if late:
            log.warning("stopped_hard", loop=name)
            task.cancel()
            await asyncio.wait([task])


async def wait_for_any(seconds: float, *events: asyncio.Event) -> None:
    """Until one of `events` is set, or `seconds` have passed."""
    tasks = [asyncio.create_task(event.wait(), name="wait-for-any") for event in events]
    try:
        await asyncio.wait(tasks, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
