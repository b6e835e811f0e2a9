"""The addresses of one check_batch call on their way to verdicts."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Hashable
from datetime import UTC, datetime
from typing import Any, Final

from shared.address import Address, Malformed
from shared.messages import PutOff
from shared.verdict import Verdict
from validator.evidence import Attempt, CatchAll, Evidence, Later, Route
from validator.judge import judge
from validator.lists import list_flags

PROGRESS_EVERY: Final = 0.25  # seconds


class Batch:
    """Collects one verdict for each position. `closed` once all are there or the deadline has passed."""

    def __init__(
        self,
        size: int,
        *,
        look: int,
        last_look: bool,
        trace: bool,
        on_progress: Callable[[int], None] | None,
        line: Hashable = None,
        urgent: bool = False,
    ) -> None:
        """`line`, `urgent`: where its recipients stand at a mail host; without a line, in one of their own."""
        self.results: list[Verdict | None] = [None] * size
        self.put_off: list[PutOff] = []
        self.closed = False
        self.trace = trace
        self.line: Hashable = line or self
        self.urgent = urgent
        self.open = size
        self._size = size
        self._look = look
        self._last_look = last_look
        self._on_progress = on_progress
        self._complete = asyncio.Event()
        self._checked_at = ""
        self._checked_until = 0.0

    def settle(
        self,
        index: int,
        address: Address | Malformed,
        *,
        route: Route | None = None,
        attempts: tuple[Attempt, ...] = (),
        catch_all: CatchAll = CatchAll.NOT_ASKED,
        random_after: float | None = None,
        trace: tuple[dict[str, Any], ...] = (),
    ) -> None:
        """Judge one address. Each position is settled once."""
        verdict = judge(
            Evidence(
                given=address.given,
                address=address,
                flags=list_flags(address) if isinstance(address, Address) else None,
                route=route,
                attempts=attempts,
                catch_all=catch_all,
                random_after=random_after,
                look=self._look,
                last_look=self._last_look,
                checked_at=self._now(),
                trace=trace,
            )
        )
        if isinstance(verdict, Later):
            self.put_off.append(PutOff(index=index, reason=verdict.reason, after=verdict.after))
        else:
            self.results[index] = verdict
        self.open -= 1
        if self.open == 0:
            self._complete.set()

    async def wait(self, seconds: float) -> None:
        """Until every position is settled, or for so long; progress is told meanwhile."""
        loop = asyncio.get_running_loop()
        ends = loop.time() + seconds
        while self.open and (left := ends - loop.time()) > 0:
            try:
                async with asyncio.timeout(min(left, PROGRESS_EVERY)):
                    await self._complete.wait()
            except TimeoutError:
                pass  # the loop's condition decides
            if self._on_progress is not None:
                self._on_progress(self._size - self.open)

    def _now(self) -> str:
        """The wall clock, to the second: formatting it for every address would cost more than judging."""
        now = time.time()
        if now >= self._checked_until:
            self._checked_until = int(now) + 1.0
            self._checked_at = datetime.fromtimestamp(int(now), UTC).isoformat().replace("+00:00", "Z")
        return self._checked_at
