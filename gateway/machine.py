"""The moving parts of a gateway, wired once: dispatcher, recorder, tally, finisher, repair, announcer.

Started in this order: what a crash left is repaired -> announcer (others announce through it) -> recorder and tally
(results may be waiting) -> dispatcher -> repair's sweeps. Stopped in reverse of what feeds what: no new batches go out,
results under way are stored, counts and news go out last.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

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
from shared.errors import ServerUnreachable
from shared.logs import get_log
from shared.settings import Settings

if TYPE_CHECKING:
    from redis.asyncio import Redis

log = get_log("gateway.machine")

STOP_SECONDS = 5.0  # for each loop to come to its end

Clock = Callable[[], float]


class Machine:
    """`async with Machine(...) as machine:`; routes tell it what changed and ask it to finish or erase files."""

    def __init__(
        self,
        *,
        settings: Settings,
        documents: Documents,
        broker: Broker,
        redis: Redis,
        ledger: Ledger,
        clock: Clock = time.time,
    ) -> None:
        self.announcer = Announcer(redis)
        self.finisher = Finisher(documents, ledger, self.announcer, clock)
        self.eraser = Eraser(
            settings=settings, documents=documents, redis=redis, ledger=ledger, finisher=self.finisher, clock=clock
        )
        self.tally = Tally(documents, self.announcer, self.finisher, clock)
        self.dispatcher = Dispatcher(documents, broker, settings, clock)
        self.recorder = Recorder(
            documents=documents,
            broker=broker,
            announcer=self.announcer,
            watchers=self,
            retry_delays=settings.retry_delays,
            clock=clock,
        )
        self.repair = Repair(
            documents=documents,
            broker=broker,
            ledger=ledger,
            dispatcher=self.dispatcher,
            recorder=self.recorder,
            tally=self.tally,
            finisher=self.finisher,
            erase=self.eraser.erase,
            batch_lease=settings.batch_lease,
            clock=clock,
        )
        self._begun: set[asyncio.Task[None]] = set()
        self._stops: list[tuple[asyncio.Event, asyncio.Task[None]]] = []

    def file_changed(self, file_id: str) -> None:
        """A file is new, was resumed, or its batches changed."""
        self.dispatcher.wake(file_id)
        self.tally.touch(file_id)

    def begin(self, name: str, work: Coroutine[Any, Any, object]) -> asyncio.Task[None]:
        """Work that outlives its request. What fails or is cut off here is taken up by repair."""
        task = asyncio.create_task(self._outlive(name, work), name=name)
        self._begun.add(task)
        task.add_done_callback(self._begun.discard)
        return task

    async def _outlive(self, name: str, work: Coroutine[Any, Any, object]) -> None:
        try:
            await work
        except ServerUnreachable as error:
            log.warning("work_waits", work=name, error=type(error).__name__)

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
        for task in tuple(self._begun):
            await self._end(task)
        for stop, task in reversed(self._stops):
            stop.set()
            self.dispatcher.wake()
            self.tally.wake()
            self.announcer.wake()
            if task.get_name() == "recorder":
                await self.recorder.stop()
            await self._end(task)

    async def _end(self, task: asyncio.Task[None]) -> None:
        _, late = await asyncio.wait([task], timeout=STOP_SECONDS)
        if late:
            log.warning("stopped_hard", loop=task.get_name())
            task.cancel()
            await asyncio.wait([task])
