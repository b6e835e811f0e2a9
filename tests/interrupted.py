"""A document store that dies, or stands still, at a chosen call: the real one behind a counting door."""

from __future__ import annotations

import asyncio
from typing import Any

from shared.documents import Documents


class Crash(BaseException):
    """The process ended here; nothing of it goes on. No handler of ours may catch it."""


class Interrupted:
    """`documents`, until call number `at` (from 0, reads and writes), which does not happen, or (`after`) still does."""

    def __init__(self, documents: Documents, at: int | None = None, *, after: bool = False) -> None:
        self._documents = documents
        self._at = at
        self._after = after
        self.calls = 0

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._documents, name)
        if name == "scan":
            return method

        async def counted(*args: Any, **kwargs: Any) -> Any:
            number = self.calls
            self.calls += 1
            if number == self._at and not self._after:
                raise Crash
            answer = await method(*args, **kwargs)
            if number == self._at:
                raise Crash
            return answer

        return counted


class Frozen:
    """`documents` whose call `before` waits for `thaw`, as a process does that is stopped; `frozen` is set then."""

    def __init__(self, documents: Documents, before: str) -> None:
        self._documents = documents
        self._before = before
        self.frozen = asyncio.Event()
        self.thaw = asyncio.Event()

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._documents, name)
        if name != self._before:
            return method

        async def waits(*args: Any, **kwargs: Any) -> Any:
            self.frozen.set()
            await self.thaw.wait()
            return await method(*args, **kwargs)

        return waits
