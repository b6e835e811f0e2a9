"""Answers remembered until they expire, each fetched by one asker while the others wait for it."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from typing import Generic, Protocol, TypeVar


class Expiring(Protocol):
    """`expires` by the cache's clock."""

    @property
    def expires(self) -> float: ...


T = TypeVar("T", bound=Expiring)


class Cache(Generic[T]):
    """At most `size` answers; the least recently used goes first."""

    def __init__(self, name: str, size: int, clock: Callable[[], float]) -> None:
        self._name = name
        self._size = size
        self._clock = clock
        self._kept: OrderedDict[str, T] = OrderedDict()
        self._fetching: dict[str, asyncio.Task[T]] = {}

    def __len__(self) -> int:
        return len(self._kept)

    def get(self, key: str) -> T | None:
        kept = self._kept.get(key)
        if kept is None:
            return None
        if kept.expires <= self._clock():
            del self._kept[key]
            return None
        self._kept.move_to_end(key)
        return kept

    async def get_or_fetch(self, key: str, fetch: Callable[[str], Awaitable[T]]) -> T:
        """A waiter may be cancelled; the fetch goes on for the others and for the cache."""
        kept = self.get(key)
        if kept is not None:
            return kept
        task = self._fetching.get(key)
        if task is None:
            task = asyncio.create_task(self._fetch(key, fetch), name=self._name)
            self._fetching[key] = task
        return await asyncio.shield(task)

    async def _fetch(self, key: str, fetch: Callable[[str], Awaitable[T]]) -> T:
        try:
            answer = await fetch(key)
        finally:
            del self._fetching[key]
        self._kept[key] = answer
        if len(self._kept) > self._size:
            self._kept.popitem(last=False)
        return answer

    async def close(self) -> None:
        """Cancel what is being fetched, and wait until it is gone."""
        tasks = list(self._fetching.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
