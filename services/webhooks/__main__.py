"""`python -m services.webhooks`: events out, alone, from the environment."""

import asyncio

from services.webhooks.serve import serve_webhooks
from shared.logs import configure_logs
from shared.process import run_process
from shared.settings import Settings


async def main(stop: asyncio.Event) -> None:
    """Settings are read here, so that a wrong one is one line and exit code 2."""
    settings = Settings.load()
    configure_logs(settings.log_level)
    await serve_webhooks(settings, stop)


if __name__ == "__main__":
    raise SystemExit(run_process(main))
