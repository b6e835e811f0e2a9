"""Every benchmark with small sizes, or one by name: `python -m tests.bench [name [its arguments]]`."""

from __future__ import annotations

import asyncio
import importlib
import inspect
import sys

import uvloop

NAMES = (
    "request_overhead", "upload_memory", "dns", "lists_only", "probe_engine", "small_domains", "worker", "whole",
    "api_under_load", "peers",
)  # fmt: skip


def run(name: str, arguments: list[str]) -> None:
    module = importlib.import_module(f"tests.bench.{name}")
    entry = module.main
    taken: list[object] = [arguments] if inspect.signature(entry).parameters else []
    if name == "upload_memory":
        taken = [[int(rows) for rows in arguments] or [10_000, 100_000]]
    if inspect.iscoroutinefunction(entry):
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(entry(*taken))
    else:
        entry(*taken)


if __name__ == "__main__":
    wanted = sys.argv[1:2] or NAMES
    if unknown := set(wanted) - set(NAMES):
        sys.exit(f"no benchmark {', '.join(unknown)}; there are: {', '.join(NAMES)}")
    for chosen in wanted:
        run(chosen, sys.argv[2:])
