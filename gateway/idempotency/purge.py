"""Records of Idempotency-Keys go when a day is over."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable

from gateway.collections import IDEMPOTENCY_KEYS
from gateway.idempotency.run_once import KEPT
from gateway.loops import keep_running
from shared.documents import Documents, Lte

EVERY = 600.0  # seconds


async def purge(documents: Documents, *, clock: Callable[[], float] = time.time) -> int:
    """Delete what is over; how many records that were. A run that takes more than a day is not one."""
    return await documents.delete_many(IDEMPOTENCY_KEYS, {"createdAt": Lte(clock() - KEPT)})


@contextlib.asynccontextmanager
async def purging(documents: Documents) -> AsyncIterator[None]:
    """Purge at once and then every EVERY seconds, while the context is open."""
    stop = asyncio.Event()

    async def run(stop: asyncio.Event) -> None:
        while not stop.is_set():
            await purge(documents)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(EVERY):
                    await stop.wait()

    task = asyncio.create_task(keep_running("idempotency-purge", run, stop), name="idempotency-purge")
    try:
        yield
    finally:
        stop.set()
        await task
