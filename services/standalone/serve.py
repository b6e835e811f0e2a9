"""`mailvet serve`: the standalone system until a signal ends it."""

from __future__ import annotations

import asyncio

from services.standalone.system import standalone
from shared.settings import Settings


async def serve_standalone(settings: Settings, stop: asyncio.Event) -> None:
    """Prints where the dashboard is and which API key to use once requests are answered."""
    async with standalone(settings) as system:
        print(f"mailvet is ready\n  dashboard  {system.url}/\n  API key    {system.api_key}", flush=True)  # noqa: T201
        await system.validator.until(stop)
