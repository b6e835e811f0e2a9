"""How a process of ours starts and ends: signals, the event loop, one line for what the operator must mend."""

from __future__ import annotations

import asyncio
import gc
import signal
import sys
from collections.abc import Awaitable, Callable

import uvloop

from shared.errors import MailvetError, ServerUnreachable, SettingsError

EXIT_OK = 0
EXIT_SETTING = 2  # a setting is wrong or a server we need is unreachable

# A batch's results are thousands of small objects that live for milliseconds and never form cycles; with Python's own
# thresholds the collector walks them again and again and takes half of the processor time of recording them.
GC_THRESHOLDS = (50_000, 20, 50)

Main = Callable[[asyncio.Event], Awaitable[int | None]]


def _operator_error(error: BaseException) -> MailvetError | None:
    """The SettingsError or ServerUnreachable inside `error`, which a task group may have wrapped."""
    if isinstance(error, SettingsError | ServerUnreachable):
        return error
    if isinstance(error, BaseExceptionGroup):
        for inner in error.exceptions:
            found = _operator_error(inner)
            if found is not None:
                return found
    return None


async def _until_signalled(main: Main) -> int:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    try:
        return await main(stop) or EXIT_OK
    finally:
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(number)


def run_process(main: Main) -> int:
    """Run `main(stop)` on uvloop; SIGTERM and SIGINT set `stop`. Returns the exit code.

    A wrong setting or a server that is unreachable at start is one line on stderr and exit code 2; any other error is a
    bug and keeps its traceback.
    """
    gc.set_threshold(*GC_THRESHOLDS)
    try:
        return uvloop.run(_until_signalled(main))
    except Exception as error:
        operator_error = _operator_error(error)
        if operator_error is None:
            raise
        where = f"{operator_error.setting}: " if isinstance(operator_error, ServerUnreachable) else ""
        print(f"mailvet: {where}{operator_error}", file=sys.stderr)  # noqa: T201 - the operator's line, not a log
        return EXIT_SETTING
