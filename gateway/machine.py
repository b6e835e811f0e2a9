"""The moving parts of a gateway, wired once: dispatcher, recorder, tally, finisher, repair, announcer.

Started in this order: what a crash left is repaired -> announcer (others announce through it) -> recorder and tally
(results may be waiting) -> dispatcher -> repair's sweeps. Stopped in reverse of what feeds what: no new batches go out,
results under way are stored, counts and news go out last.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING, Self

from gateway.batches.dispatch import Dispatcher
from gateway.batches.repair import Repair
from gateway.credits.ledger import Ledger
from gateway.files.erase import Eraser
from gateway.loops import Loop, keep_running
from gateway.results.announce import Announcer
from gateway.results.finish import Finisher
from gateway.results.record import Recorder
from gateway.results.tally import Tally
from shared.broker import Broker
from shared.documents import Documents
from shared.settings import Settings

if TYPE_CHECKING:
    from redis.asyncio import Redis

STOP_SECONDS = 5.0  # for each loop to come to its end

Clock = Callable[[], float]


class Machine:
    """`async with Machine(...) as machine:`; routes tell it what changed and ask it to finish or erase files."""

    def __init__(
        self,
        settings: Settings,
        documents: Documents,
        broker: Broker,
        redis: Redis,
        ledger: Ledger,
        clock: Clock = time.time,
    ) -> None:
        self.announcer = Announcer(redis)
        self.finisher = Finisher(documents, ledger, self.announcer, clock)
        self.eraser = Eraser(documents, redis, self.finisher, settings, clock)
        self.tally = Tally(documents, self.announcer, self.finisher, clock)
        self.dispatcher = Dispatcher(documents, broker, settings, clock)
        self.recorder = Recorder(documents, broker, self.announcer, self, settings.retry_delays, clock)
        self.repair = Repair(
            documents,
            broker,
            ledger,
            self.dispatcher,
            self.recorder,
            self.tally,
            self.finisher,
            self.eraser.erase,
            settings.batch_lease,
            clock,
        )
        self._stops: list[tuple[asyncio.Event, asyncio.Task[None]]] = []

    def file_changed(self, file_id: str) -> None:
        """A file is new, was resumed, or its batches changed."""
        self.dispatcher.wake(file_id)
        self.tally.touch(file_id)

    def recorded(self, file_id: str, *, put_off: int, dispatched_at: float) -> None:
        """The recorder stored a batch's results."""
        self.repair.answered(dispatched_at)
        self.tally.touch(file_id)
        self.dispatcher.wake(file_id if put_off else None)

    async def __aenter__(self) -> Self:
        await self.repair.at_start()
        self._start("announcer", self.announcer.run)
        self._start("tally", self.tally.run)
        self._start("recorder", lambda _: self.recorder.run())
        self._start("dispatcher", self.dispatcher.run)
        self._start("repair", self.repair.run)
        return self

    def _start(self, name: str, loop: Loop) -> None:
        stop = asyncio.Event()
        self._stops.append((stop, asyncio.create_task(keep_running(name, loop, stop), name=name)))

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for stop, task in reversed(self._stops):
            stop.set()
            self.dispatcher.wake()
            self.tally.wake()
            if task.get_name() == "recorder":
                await self.recorder.stop()
            await self._end(task)

    async def _end(self, task: asyncio.Task[None]) -> None:
        await asyncio.wait([task], timeout=STOP_SECONDS)
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
