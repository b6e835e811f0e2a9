"""Our own programs as processes: started, killed, told to stop; none outlives the test run, however that ends.

Their environment holds no setting but those given, and they run in a folder of their own, so that no `.env` is read.
Output goes to `{name}.out` and `{name}.err` there, over all runs.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import httpx

from shared.child import tied_to_us
from tests.servers.process import free_port

MAILVET = (str(Path(sys.executable).with_name("mailvet")),)
API_KEY = "mv_test_key_of_the_journeys_0123456789"
T = TypeVar("T")
TOKEN = "token-between-gateway-and-validator"
QUICK = {
    "MAILVET_API_KEY": API_KEY,
    "MAILVET_INTERNAL_TOKEN": TOKEN,
    "MAILVET_RETRY_DELAYS": "1,1",
    "MAILVET_PROBE_TIMEOUT": "2",
    "MAILVET_DNS_TIMEOUT": "2",
    "MAILVET_REQUESTS_PER_MINUTE": "0",
    "MAILVET_LOG_LEVEL": "info",
}


async def until(ask: Callable[[], Awaitable[T]], seconds: float, what: str, every: float = 0.05) -> T:
    """The first true answer of `ask`. Raises AssertionError, saying `what`, when none came in time."""
    deadline = time.monotonic() + seconds
    while not (answer := await ask()):
        assert time.monotonic() < deadline, f"{what}: not within {seconds} s"
        await asyncio.sleep(every)
    return answer


def environment(settings: Mapping[str, str]) -> dict[str, str]:
    """Ours without any MAILVET_* but `settings`."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("MAILVET_")}
    return {**inherited, "NO_COLOR": "1", "COLUMNS": "120", **settings}


def children_of(pid: int) -> dict[int, str]:
    """The processes that `pid` started itself and their commands (Linux; elsewhere none are seen)."""
    listed = Path(f"/proc/{pid}/task/{pid}/children")
    found = {}
    for child in listed.read_text().split() if listed.exists() else ():
        with contextlib.suppress(OSError):
            found[int(child)] = Path(f"/proc/{child}/cmdline").read_bytes().replace(b"\0", b" ").decode()
    return found


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


class Program:
    """One command of ours."""

    def __init__(self, folder: Path, name: str, command: Sequence[str], settings: Mapping[str, str]) -> None:
        self.folder, self.name, self.command, self.settings = folder, name, command, settings
        self.out, self.err = folder / f"{name}.out", folder / f"{name}.err"
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    async def start(self, ready: Callable[[], Awaitable[bool]], seconds: float = 20) -> None:
        """Returns when `ready`. Raises AssertionError with the end of its output where it ends before."""
        with self.out.open("ab") as out, self.err.open("ab") as err:
            self._process = subprocess.Popen(  # noqa: ASYNC220 - it may outlive this event loop
                tied_to_us(self.command),
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                cwd=self.folder,
                env=environment(self.settings),
                start_new_session=True,
            )

        async def look() -> bool:
            assert self.running, f"{self.name} ended: {self.err.read_text(errors='replace')[-1500:]}"
            return await ready()

        await until(look, seconds, f"{self.name} is ready")

    async def kill(self) -> None:
        """SIGKILL to this one process."""
        await self.end(signal.SIGKILL, 10)

    async def terminate(self, seconds: float = 30) -> int:
        return await self.end(signal.SIGTERM, seconds)

    async def end(self, number: signal.Signals, seconds: float) -> int:
        """Signal it and wait; its exit code. Raises subprocess.TimeoutExpired, having killed it, when it takes longer."""
        process = self._process
        assert process is not None
        process.send_signal(number)
        try:
            return await asyncio.to_thread(process.wait, seconds)
        except subprocess.TimeoutExpired:
            process.kill()
            await asyncio.to_thread(process.wait)
            raise

    async def close(self) -> None:
        if self.running:
            await self.kill()


async def answers(url: str) -> bool:
    """Whether an HTTP server there says 200."""
    async with httpx.AsyncClient(trust_env=False, timeout=2) as http:
        try:
            return (await http.get(url)).is_success
        except httpx.TransportError:
            return False


async def metric(url: str, sample: str) -> float:
    """The value of a Prometheus sample, name and labels as written; 0.0 where it is not there yet."""
    async with httpx.AsyncClient(trust_env=False, timeout=5) as http:
        text = (await http.get(f"{url}/metrics")).text
    return next((float(line.rpartition(" ")[2]) for line in text.splitlines() if line.startswith(sample + " ")), 0.0)


@dataclass
class Listening:
    """A program with an HTTP server at `url`."""

    program: Program
    url: str
    ready: str = "/healthz"

    async def start(self) -> None:
        await self.program.start(lambda: answers(self.url + self.ready))

    async def kill(self) -> None:
        await self.program.kill()

    async def terminate(self, seconds: float = 30) -> int:
        return await self.program.terminate(seconds)


def _listening(name: str, command: Sequence[str], folder: Path, settings: Mapping[str, str], port: int) -> Listening:
    program = Program(folder, name, command, settings)
    return Listening(program, f"http://127.0.0.1:{port}", "/healthz" if name.startswith("validator") else "/readyz")


def serve(folder: Path, settings: Mapping[str, str]) -> Listening:
    """`mailvet serve`, not started yet, with its data in `folder/data`."""
    port = free_port()
    command = (*MAILVET, "serve", "--port", str(port), "--data", str(folder / "data"))
    own = {name: value for name, value in QUICK.items() if name != "MAILVET_INTERNAL_TOKEN"}  # it makes its own
    return _listening("serve", command, folder, {**own, **settings}, port)


def gateway(folder: Path, settings: Mapping[str, str]) -> Listening:
    """`python -m gateway`, not started yet."""
    port = free_port()
    own = {"MAILVET_PORT": str(port), "MAILVET_DATA_DIR": str(folder / "data")}
    return _listening("gateway", (sys.executable, "-m", "gateway"), folder, {**QUICK, **settings, **own}, port)


def validator(folder: Path, number: int, settings: Mapping[str, str]) -> Listening:
    """`mailvet validator`, not started yet."""
    port = free_port()
    own = {**QUICK, **settings, "MAILVET_VALIDATOR_PORT": str(port)}
    return _listening(f"validator{number}", (*MAILVET, "validator"), folder, own, port)


async def run(
    *command: str, folder: Path, settings: Mapping[str, str], stdin: str = "", seconds: float = 60
) -> subprocess.CompletedProcess[str]:
    """`mailvet` with these arguments, or a command by its path, to its end."""
    whole = list(command) if command[0].startswith("/") else [*MAILVET, *command]
    return await asyncio.to_thread(
        subprocess.run,
        tied_to_us(whole),
        input=stdin,
        capture_output=True,
        text=True,
        cwd=folder,
        env=environment(settings),
        timeout=seconds,
        check=False,
    )
