"""`mailvet serve`: the standalone system until a signal ends it."""

from __future__ import annotations

import asyncio
import sys

from services.standalone.system import System, standalone
from shared.settings import Settings

PREFLIGHT_PAUSE = 2.0  # seconds between two looks at a check that takes up to ten
PREFLIGHT_LOOKS = 10


async def serve_standalone(settings: Settings, stop: asyncio.Event) -> None:
    """Prints where the dashboard is and which API key to use once requests are answered."""
    async with standalone(settings) as system:
        print(f"mailvet is ready\n  dashboard  {system.url}/\n  API key    {system.api_key}", flush=True)  # noqa: T201
        warning = asyncio.create_task(_warn_of_blocked_port(system), name="preflight-warning")
        try:
            await stop.wait()
        finally:
            warning.cancel()


async def _warn_of_blocked_port(system: System) -> None:
    """Once, as soon as it is known."""
    for _ in range(PREFLIGHT_LOOKS):
        await asyncio.sleep(PREFLIGHT_PAUSE)
        if (sentence := await system.blocked_port()) is not None:
            print(f"mailvet: {sentence}", file=sys.stderr, flush=True)  # noqa: T201
            return
