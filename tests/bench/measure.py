"""What the benchmarks share: a lab in a process of its own with any world, what processes cost, tables."""

from __future__ import annotations

import asyncio
import json
import multiprocessing
import os
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import uvloop

from services.maillab.lab import Lab
from services.maillab.world import World
from shared.settings import Settings

_TICKS = os.sysconf("SC_CLK_TCK")


@dataclass
class LabInfo:
    """A lab that runs. `env`: the settings that point a validator at it. `addresses`: of hosts, by name."""

    env: dict[str, str]
    addresses: dict[str, str]
    pid: int
    _pipe: Connection

    def settings(self, **more: Any) -> Settings:
        told = {name.removeprefix("MAILVET_").lower(): value for name, value in self.env.items()}
        return Settings.load(_env_file=None, **told, **more)

    def seen(self) -> dict[str, int]:
        """`{"connections", "peak", "complaints"}` since the lab began; `peak`: most at once at one host."""
        self._pipe.send(True)
        told: dict[str, int] = self._pipe.recv()
        return told


def _serve(pipe: Connection, world_of: Callable[..., World], arguments: dict[str, Any], rtt: float, port: int) -> None:
    async def serve() -> None:
        world = world_of(**arguments)
        async with Lab(world, rtt=rtt, keep="counts", smtp_port=port, dns_port=53 if port else 0) as lab:
            pipe.send((lab.env(), {name: host.ip for name, host in world.hosts.items()}))
            loop = asyncio.get_running_loop()
            while await loop.run_in_executor(None, pipe.recv):
                peak = max((lab.log.peak_connections(name) for name in world.hosts), default=0)
                complaints = lab.complaints()
                pipe.send(
                    {"connections": len(lab.log.sessions()), "peak": peak, "complaints": len(complaints)},
                )

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serve())


@asynccontextmanager
async def lab_of(
    world_of: Callable[..., World], *, rtt: float = 0.0, port: int = 0, **arguments: Any
) -> AsyncIterator[LabInfo]:
    """A lab in a process of its own, with the world that `world_of(**arguments)` makes there."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_serve, args=(theirs, world_of, arguments, rtt, port), daemon=True)
    process.start()
    try:
        loop = asyncio.get_running_loop()
        env, addresses = await loop.run_in_executor(None, ours.recv)
        yield LabInfo(env, addresses, process.pid or 0, ours)
        ours.send(False)
        await loop.run_in_executor(None, process.join, 10)
    finally:
        process.kill()


def cpu_of(pid: int) -> float:
    """Processor seconds of a process and of its children that ended."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return sum(map(int, fields[11:15])) / _TICKS


def peak_rss(pid: int | str = "self") -> float:
    """MB that the process held at most."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return int(next(line.split()[1] for line in lines if line.startswith("VmHWM"))) / 1024


def children_of(pid: int) -> dict[int, str]:
    """Running descendants, by pid: their names."""
    found: dict[int, str] = {}
    for task in Path(f"/proc/{pid}/task").iterdir():
        for child in map(int, (task / "children").read_text().split()):
            found[child] = Path(f"/proc/{child}/comm").read_text().strip()
            found |= children_of(child)
    return found


def table(title: str, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Right-aligned, the first column left."""
    cells = [[_shown(cell) for cell in row] for row in (columns, *rows)]
    widths = [max(len(row[at]) for row in cells) for at in range(len(columns))]
    lines = [
        "  ".join(
            cell.ljust(width) if at == 0 else cell.rjust(width)
            for at, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in cells
    ]
    return "\n".join([title, *lines, ""])


def _shown(cell: object) -> str:
    if isinstance(cell, float):
        return f"{cell:,.0f}" if abs(cell) >= 100 else f"{cell:.3g}"
    return f"{cell:,}" if isinstance(cell, int) else str(cell)


def run_apart(module: str, **arguments: Any) -> list[str]:
    """The command line that runs `module.case(**arguments)` in a fresh process, which prints its result as JSON."""
    code = (
        "import asyncio, json, sys, uvloop, importlib\n"
        "case = importlib.import_module(sys.argv[1]).case\n"
        "with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:\n"
        "    print(json.dumps(runner.run(case(**json.loads(sys.argv[2])))))\n"
    )
    return ["-c", code, module, json.dumps(arguments)]
