"""The standalone system's validator: a process of its own, so that verifying a list does not keep the API waiting.

Started with both ends of what joins it to us: the socket of its internal API, which we listen on for it (while it is
away, calls wait in the backlog), and a stream by which it borrows our broker. It says `ready` on its standard output.
When it dies, what it had in hand goes back to the queue and another one is started; when we die, however that happens,
the system kills it. Ending: SIGTERM, then it drains (validator.worker) while we still take its results.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, cast

import msgspec

from shared.broker import Broker
from shared.broker.lent import lend
from shared.child import tied_to_us
from shared.errors import SettingsError
from shared.logs import get_log
from shared.settings import Settings
from validator.serve import QUIT_SECONDS
from validator.worker import DRAIN_SECONDS

log = get_log("standalone.validator")

RESTART_PAUSE = 0.5  # seconds before a validator that died is replaced
LONGEST_PAUSE = 10.0  # between two tries that fail
STOP_SECONDS = DRAIN_SECONDS + QUIT_SECONDS + 10  # it ends by itself before that


class Start(msgspec.Struct):
    """The first line that a validator process reads on its standard input."""

    settings: dict[str, Any]
    listen_fd: int
    broker_fd: int | None  # None: `amqp_url` is set


class Refusal(msgspec.Struct):
    """What it says instead of `ready` when the operator must mend something."""

    setting: str
    message: str


@contextlib.asynccontextmanager
async def validator_process(
    settings: Settings, broker: Broker, bound: socket.socket, before_restart: Callable[[], Awaitable[None]]
) -> AsyncIterator[None]:
    """Raises SettingsError when the first one cannot start. `before_restart` clears up what a dead one left."""
    keeper = _Keeper(settings, broker, bound, before_restart)
    await keeper.start()
    keeping = asyncio.create_task(keeper.keep(), name="validator-keeper")
    try:
        yield
    finally:
        keeping.cancel()
        await asyncio.gather(keeping, return_exceptions=True)
        await keeper.stop()


class _Keeper:
    def __init__(
        self, settings: Settings, broker: Broker, bound: socket.socket, before_restart: Callable[[], Awaitable[None]]
    ) -> None:
        self._settings = settings
        self._broker = broker
        self._bound = bound
        self._before_restart = before_restart
        self._process: Process | None = None
        self._lending: asyncio.Task[None] | None = None

    async def start(self) -> None:
        ours, theirs = socket.socketpair()
        with theirs:
            lent = self._settings.amqp_url is None
            told = Start(
                self._settings.model_dump(mode="json"), self._bound.fileno(), theirs.fileno() if lent else None
            )
            self._process = await asyncio.create_subprocess_exec(
                *tied_to_us([sys.executable, "-P", "-m", "services.standalone.validator"]),
                stdin=PIPE,
                stdout=PIPE,
                pass_fds=(self._bound.fileno(), theirs.fileno()),
                start_new_session=True,  # Ctrl-C is for us; we stop it when its work is safe
            )
        if lent:
            self._lending = asyncio.create_task(
                lend(self._broker, *await asyncio.open_connection(sock=ours)), name="broker-lender"
            )
        else:
            ours.close()
        stdin = cast("asyncio.StreamWriter", self._process.stdin)
        stdin.write(msgspec.json.encode(told) + b"\n")
        stdin.close()
        line = (await cast("asyncio.StreamReader", self._process.stdout).readline()).strip()
        if line == b"ready":
            return
        await self.stop()
        if line:
            refusal = msgspec.json.decode(line, type=Refusal)
            raise SettingsError(refusal.setting, refusal.message)
        raise RuntimeError("the validator process died before it was ready")

    async def keep(self) -> None:
        """Replace the one that dies, until cancelled; where that fails (Redis is away, say), again after a while."""
        pause = RESTART_PAUSE
        while True:
            if self._process is not None:
                code = await self._process.wait()
                log.error("validator_died", code=code)
                await self._end_lending()
                pause = RESTART_PAUSE
            await asyncio.sleep(pause)
            try:
                await self._before_restart()
                await self.start()
            except Exception as error:
                pause = min(2 * pause, LONGEST_PAUSE)
                log.exception("validator_not_restarted", error=type(error).__name__)

    async def stop(self) -> None:
        process, self._process = self._process, None
        if process is not None and process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.terminate()
            try:
                await asyncio.wait_for(process.wait(), STOP_SECONDS)
            except TimeoutError:
                log.warning("validator_killed")
                process.kill()
                await process.wait()
        await self._end_lending()

    async def _end_lending(self) -> None:
        lending, self._lending = self._lending, None
        if lending is not None:
            await asyncio.wait([lending])  # the stream has ended
            if not lending.cancelled() and (error := lending.exception()) is not None:
                log.error("lending_failed", error=type(error).__name__, exc_info=error)
