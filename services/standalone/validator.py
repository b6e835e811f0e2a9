"""`python -m services.standalone.validator`: the child that services.standalone.validator_process starts."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import sys

import msgspec

from services.standalone.validator_process import Refusal, Start
from shared.broker import Broker
from shared.broker.lent import LentBroker
from shared.broker.rabbitmq import RabbitBroker
from shared.errors import ServerUnreachable, SettingsError
from shared.logs import configure_logs
from shared.process import EXIT_SETTING, run_process
from shared.settings import Settings
from validator.serve import running_validator

NICE = 5  # where processors are short, people who wait for an answer come before a list that runs for minutes


async def main(stop: asyncio.Event) -> int | None:
    """Until a signal, or until the owner of the broker is gone."""
    os.nice(NICE)
    told = msgspec.json.decode(sys.stdin.buffer.readline(), type=Start)
    settings = Settings.load(_env_file=None, **told.settings)
    configure_logs(settings.log_level)
    bound = socket.socket(fileno=told.listen_fd)
    try:
        async with contextlib.AsyncExitStack() as opened:
            broker = await opened.enter_async_context(await _broker(settings, told.broker_fd))
            if isinstance(broker, LentBroker):
                orphaned = asyncio.create_task(_stop_with(broker, stop), name="owner-watch")
                opened.callback(orphaned.cancel)
            validator = await opened.enter_async_context(running_validator(settings, broker, bound))
            _say(b"ready")
            await validator.until(stop)
    except SettingsError as error:
        _say(msgspec.json.encode(Refusal(error.setting, error.why)))
        return EXIT_SETTING
    except ServerUnreachable as error:
        _say(msgspec.json.encode(Refusal(error.setting, str(error))))
        return EXIT_SETTING
    return None


async def _broker(settings: Settings, descriptor: int | None) -> contextlib.AbstractAsyncContextManager[Broker]:
    if descriptor is None:
        return RabbitBroker(str(settings.amqp_url))
    return LentBroker(*await asyncio.open_connection(sock=socket.socket(fileno=descriptor)))


async def _stop_with(broker: LentBroker, stop: asyncio.Event) -> None:
    await broker.gone.wait()
    stop.set()


def _say(line: bytes) -> None:
    sys.stdout.buffer.write(line + b"\n")
    sys.stdout.buffer.flush()


if __name__ == "__main__":
    raise SystemExit(run_process(main))
