"""The lab as a program: one JSON line when it is ready, a complete log after SIGTERM, one line on stderr when it cannot."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from services.maillab.wirelog import WireLog
from shared.settings import Settings
from tests.integration.raw_smtp import RawClient

WORLD = """
[[host]]
name = "mx.x.test"

[[domain]]
name = "x.test"
mx = [[10, "mx.x.test"]]
"""


@asynccontextmanager
async def lab_process(*arguments: str | Path) -> AsyncIterator[asyncio.subprocess.Process]:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "services.maillab",
        *map(str, arguments),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def test_the_log_is_complete_after_sigterm(tmp_path):
    world, log = tmp_path / "world.toml", tmp_path / "wire.jsonl"
    world.write_text(WORLD, encoding="utf-8")
    async with lab_process("--world", world, "--log", log) as process:
        assert process.stdout is not None
        ready = json.loads(await asyncio.wait_for(process.stdout.readline(), 20))
        assert ready["pid"] == process.pid
        async with RawClient("127.1.0.1", ready["smtp_port"]) as client:
            await client.greet()
            await client.ask("RCPT TO:<ann@x.test>")
        process.terminate()
        assert await asyncio.wait_for(process.wait(), 10) == 0
    read = WireLog.load(log)
    assert read.rcpts("mx.x.test") == ["ann@x.test"]
    assert ["left without QUIT" in text for text in read.complaints] == [True]


async def test_the_settings_it_prints_are_settings(monkeypatch):
    async with lab_process() as process:
        assert process.stdout is not None
        ready = json.loads(await asyncio.wait_for(process.stdout.readline(), 20))
        for name, value in ready["env"].items():
            monkeypatch.setenv(name, value)
        settings = Settings.load()
        assert settings.dns_nameservers == (ready["dns"],)
        assert settings.smtp_port == ready["smtp_port"]
        assert settings.probe_allow_networks == ("127.0.0.0/8", "::1/128")
        process.terminate()


async def test_a_world_that_cannot_be_is_one_line_and_exit_code_2(tmp_path):
    async with lab_process("--world", tmp_path / "none.toml") as process:
        _, said = await asyncio.wait_for(process.communicate(), 20)
        assert process.returncode == 2
        assert said.decode().count("\n") == 1
        assert "none.toml" in said.decode()
