"""An event loop that never waits: when nothing is ready, its clock jumps to the next alarm.

Deadlines of minutes run in milliseconds, always in the same order. A loop with nothing to wait for at all is a hang, and
says so.
"""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


class _Jumps(selectors.DefaultSelector):  # type: ignore[valid-type,misc]
    """Selects at once, and moves the clock by what it was asked to wait."""

    now = 0.0

    def select(self, timeout: float | None = None) -> Any:
        if timeout is None:
            raise AssertionError("everything waits, and nothing will ever happen")
        self.now += max(timeout, 0.0)
        return super().select(0)


class VirtualLoop(asyncio.SelectorEventLoop):
    """`time` begins at 0 seconds."""

    def __init__(self) -> None:
        self.jumps = _Jumps()
        super().__init__(self.jumps)
        self.faults: list[dict[str, Any]] = []
        self.set_exception_handler(lambda _, context: self.faults.append(context))

    def time(self) -> float:
        return self.jumps.now

    async def start_tls(self, transport: Any, *_: Any, **options: Any) -> Any:  # type: ignore[override]
        """The peer of the test says how the handshake goes."""
        return await transport.shake_hands(float(options.get("ssl_handshake_timeout") or 60))


def run_virtually(work: Coroutine[Any, Any, T]) -> T:
    """Run to the end. What was left lying about, or went wrong in a callback, is an error."""
    loop = VirtualLoop()
    try:
        result = loop.run_until_complete(work)
        left = [task.get_name() for task in asyncio.all_tasks(loop)]
        loop.run_until_complete(loop.shutdown_asyncgens())
    finally:
        loop.close()
    assert loop.faults == []
    assert left == []
    return result
