"""A server process under a watcher that signals it when told and kills it when this process dies.

The watcher reads a pipe whose only writer is us. A byte is a signal for the server's process group; the end of the pipe,
whatever ended us, is SIGKILL. It ends only when the last process of the server is gone, so that ports and files are free.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

_WATCHER = """
import ctypes, os, signal, subprocess, sys, threading
if sys.platform == "linux":
    ctypes.CDLL(None).prctl(36, 1)  # PR_SET_CHILD_SUBREAPER: grandchildren come to us when their parent dies
server = subprocess.Popen(sys.argv[1:], stdin=subprocess.PIPE, start_new_session=True)
def obey():
    while True:
        order = os.read(0, 1)
        try:
            os.killpg(server.pid, order[0] if order else signal.SIGKILL)
        except ProcessLookupError:
            pass
        if not order:
            return
threading.Thread(target=obey, daemon=True).start()
while True:
    try:
        os.wait()
    except ChildProcessError:
        sys.exit()
"""


class ServerDidNotStart(Exception):
    """The server ended or did not answer in time. The message holds the end of its output."""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def can_bind(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def exchange(port: int, question: bytes, timeout: float = 1.0) -> bytes:
    """The first bytes a server on loopback answers; empty when there is none."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout) as connection:
            connection.sendall(question)
            return connection.recv(16)
    except OSError:
        return b""


class Process:
    """One run of a command; its output goes to `folder/output`."""

    def __init__(self, command: Sequence[str], folder: Path, environment: Mapping[str, str] | None = None) -> None:
        self._output = folder / "output"
        with self._output.open("ab") as output:
            self._watcher = subprocess.Popen(
                [sys.executable, "-S", "-c", _WATCHER, *command],
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd=folder,
                env={**os.environ, **(environment or {})},
                start_new_session=True,
                bufsize=0,
            )
        assert self._watcher.stdin is not None
        self._orders = self._watcher.stdin

    @property
    def running(self) -> bool:
        return self._watcher.poll() is None

    async def wait_until(self, ready: Callable[[], bool], seconds: float) -> None:
        """Raises ServerDidNotStart when the process ends first or time runs out; the process is killed then."""
        deadline = time.monotonic() + seconds
        while not await asyncio.to_thread(ready):
            if not self.running or time.monotonic() > deadline:
                await self.end(signal.SIGKILL)
                raise ServerDidNotStart(self._output.read_text(errors="replace")[-1500:])
            await asyncio.sleep(0.02)

    async def end(self, number: signal.Signals, seconds: float = 20) -> None:
        """Signal the server and wait until all of it is gone; SIGKILL after `seconds`."""
        self.signal(number)
        try:
            await asyncio.to_thread(self._watcher.wait, seconds)
        except subprocess.TimeoutExpired:
            self.signal(signal.SIGKILL)
            await asyncio.to_thread(self._watcher.wait)
        self._orders.close()

    def signal(self, number: signal.Signals) -> None:
        with contextlib.suppress(BrokenPipeError):  # the server is gone, and its watcher
            self._orders.write(bytes([number]))


class Server:
    """What they have in common: a folder, a port, and at most one run at a time, which `start` puts into `_process`."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._process: Process | None = None
        self.port = free_port()

    async def stop(self) -> None:
        await self._end(signal.SIGTERM)

    async def kill(self) -> None:
        await self._end(signal.SIGKILL)

    async def _end(self, number: signal.Signals) -> None:
        process, self._process = self._process, None
        if process is not None:
            await process.end(number)
