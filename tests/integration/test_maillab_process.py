"""The lab as a program: one JSON line when it is ready, a complete log after SIGTERM, one line on stderr when it cannot."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from services.maillab.wirelog import WireLog
from shared.settings import Settings
from tests.integration.raw_smtp import RawClient
from tests.journey.system import Program, run

LAB = (sys.executable, "-m", "services.maillab")
WORLD = """
[[host]]
name = "mx.x.test"

[[domain]]
name = "x.test"
mx = [[10, "mx.x.test"]]
"""


def lab_program(folder: Path, *arguments: str) -> Program:
    return Program(folder, "lab", (*LAB, *arguments), {})


async def ready(program: Program) -> dict[str, Any]:
    """Started; what it says."""

    async def said() -> bool:
        return program.out.read_text().endswith("\n")

    await program.start(said)
    told: dict[str, Any] = json.loads(program.out.read_text())
    return told


async def test_the_log_is_complete_after_sigterm(tmp_path):
    world, log = tmp_path / "world.toml", tmp_path / "wire.jsonl"
    world.write_text(WORLD, encoding="utf-8")
    program = lab_program(tmp_path, "--world", str(world), "--log", str(log))
    try:
        told = await ready(program)
        assert told["pid"] == program.pid
        async with RawClient("127.1.0.1", told["smtp_port"]) as client:
            await client.greet()
            await client.ask("RCPT TO:<ann@x.test>")
        assert await program.terminate(10) == 0
    finally:
        await program.close()
    read = WireLog.load(log)
    assert read.rcpts("mx.x.test") == ["ann@x.test"]
    assert ["left without QUIT" in text for text in read.complaints] == [True]


async def test_the_settings_it_prints_are_settings(tmp_path, monkeypatch):
    program = lab_program(tmp_path)
    try:
        told = await ready(program)
    finally:
        await program.close()
    for name, value in told["env"].items():
        monkeypatch.setenv(name, value)
    settings = Settings.load()
    assert settings.dns_nameservers == (told["dns"],)
    assert settings.smtp_port == told["smtp_port"]
    assert settings.probe_allow_networks == ("127.0.0.0/8", "::1/128")


async def test_a_world_that_cannot_be_is_one_line_and_exit_code_2(tmp_path):
    ended = await run(*LAB, "--world", "none.toml", folder=tmp_path, settings={}, seconds=20)
    assert ended.returncode == 2
    assert ended.stderr.count("\n") == 1
    assert "none.toml" in ended.stderr
