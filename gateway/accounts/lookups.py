"""Look-ups that every request needs, remembered for a few seconds.

A revoked key or a removed member must be refused everywhere within 5 s, also when Redis, which spreads the news at
once, is away. So what was read is trusted for TRUSTED seconds **from before the read began**, and not a moment longer
because the documents cannot be reached. Concurrent requests share one read. What does not exist is not remembered:
a stranger cannot fill the memory, and a new key works at once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Hashable
from typing import Generic, TypeVar

TRUSTED = 4.0  # seconds
_MOST = 10_000  # remembered look-ups; more start afresh

K = TypeVar("K", bound=Hashable)
T = TypeVar("T")


class Lookups(Generic[K, T]):
    """`load(id)` behind a memory of TRUSTED seconds. `clock` counts seconds and never goes back."""

    def __init__(self, load: Callable[[K], Awaitable[T | None]], clock: Callable[[], float]) -> None:
        self._load = load
        self._clock = clock
        self._known: dict[K, tuple[float, T]] = {}
        self._joinable: dict[K, asyncio.Task[T | None]] = {}
        self._reads: set[asyncio.Task[T | None]] = set()
        self._generation = 0

    async def get(self, id_: K) -> T | None:
        known = self._known.get(id_)
        if known is not None and self._clock() < known[0] + TRUSTED:
            return known[1]
        read = self._joinable.get(id_)
        if read is None:
            read = asyncio.create_task(self._read(id_), name="accounts-lookup")
            self._joinable[id_] = read
            self._reads.add(read)
            read.add_done_callback(lambda done: self._ended(id_, done))
        # One caller who goes away must not cancel the read for the others.
        return await asyncio.shield(read)

    def clear(self) -> None:
        """Forget everything. A read under way still answers those who wait for it, and is neither joined nor kept."""
        self._known.clear()
        self._joinable.clear()
        self._generation += 1

    async def close(self) -> None:
        self.clear()
        for read in self._reads:
            read.cancel()
        await asyncio.gather(*self._reads, return_exceptions=True)

    async def _read(self, id_: K) -> T | None:
        generation, began = self._generation, self._clock()
        found = await self._load(id_)
        if generation != self._generation:
            return found
        self._known.pop(id_, None)
        if found is not None:
            if len(self._known) >= _MOST:
                self._known.clear()
            self._known[id_] = (began, found)
        return found

    def _ended(self, id_: K, read: asyncio.Task[T | None]) -> None:
        self._reads.discard(read)
        if self._joinable.get(id_) is read:
            del self._joinable[id_]
        if not read.cancelled():
            read.exception()  # those who waited have it; where all have gone nobody misses it
