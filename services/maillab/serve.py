"""The lab as a program: until SIGINT or SIGTERM, then an orderly end (connections cut, the log complete).

`mailvet lab` and `python -m services.maillab` both run `serve`. Without a world file it is the sample world.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable
from pathlib import Path

from services.maillab.lab import Lab
from services.maillab.sample import sample_world
from services.maillab.wirelog import Keep
from services.maillab.worldfile import load_world


async def serve(
    *,
    port: int = 0,
    dns_port: int = 0,
    world_file: Path | None = None,
    log_file: Path | None = None,
    rtt: float = 0.0,
    keep: Keep = "counts",
    ready: Callable[[Lab], None],
) -> list[str]:
    """Run a lab; `ready` is called once it can be reached. Returns the complaints when it was told to stop.

    Ports of 0 are any free ones. Raises LabError or WorldError where it cannot start.
    """
    world = load_world(world_file) if world_file is not None else sample_world()
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    try:
        async with Lab(world, log_file, rtt, smtp_port=port, dns_port=dns_port, keep=keep) as lab:
            ready(lab)
            await stop.wait()
        return lab.complaints()
    finally:
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.remove_signal_handler(number)


def settings_to_export(lab: Lab) -> str:
    """Shell lines that point a validator at `lab`."""
    return "\n".join(f"export {name}={value}" for name, value in lab.env().items())
