"""`mailvet demo`: the sample list through the whole system, against the built-in mail lab. No Internet needed."""

from __future__ import annotations

import asyncio
import tempfile
from pathlib import Path

from rich.console import Console

from services.cli.client import Client
from services.cli.verify import Request, until_stopped, verify_list
from services.maillab.lab import Lab
from services.maillab.sample import SAMPLE_LIST, SAMPLE_SETTINGS, sample_world
from services.standalone.system import standalone
from shared.settings import PREFIX, Settings

# Whatever the environment says, the demonstration runs on embedded parts.
EMBEDDED = {
    "amqp_url": None,
    "redis_url": None,
    "mongo_url": None,
    "host": "127.0.0.1",
    "port": 0,
    "validator_port": 0,
    "auth_mode": "dev",
}


async def run_demo(out: Path, stop: asyncio.Event) -> int:
    """Returns the exit code of the verification."""
    console = Console()
    return await until_stopped(_demo(out, console), stop, console)


async def _demo(out: Path, console: Console) -> int:
    async with Lab(sample_world()) as lab:
        console.print(f"mail lab: DNS on {lab.dns}, SMTP on 127.x.y.z port {lab.smtp_port}")
        with tempfile.TemporaryDirectory(prefix="mailvet-demo-") as folder:
            lab_settings = {**lab.env(), **SAMPLE_SETTINGS}
            given = {name.removeprefix(PREFIX).lower(): value for name, value in lab_settings.items()}
            settings = Settings.load(**given, **EMBEDDED, data_dir=Path(folder), log_level="warning")
            async with standalone(settings) as system, Client(system.url, system.api_key) as client:
                console.print(f"gateway: {system.url}")
                code = await verify_list(client, SAMPLE_LIST, Request(what=[], out=out.absolute()), console)
        complaints = lab.complaints()
    console.print(f"complaints of the mail servers about our manners: {len(complaints)}")
    for complaint in complaints[:5]:
        console.print(f"  {complaint}", markup=False)
    return code
