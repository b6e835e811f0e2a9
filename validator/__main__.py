"""`python -m validator`: a validator alone, from the environment."""

import asyncio

from shared.logs import configure_logs
from shared.process import run_process
from shared.settings import Settings
from validator.serve import serve_validator


async def main(stop: asyncio.Event) -> None:
    """Settings are read here, so that a wrong one is one line and exit code 2."""
    settings = Settings.load()
    configure_logs(settings.log_level)
    await serve_validator(settings, stop)


if __name__ == "__main__":
    raise SystemExit(run_process(main))
