"""Memory and time of a list's way in and out: 10 k, 100 k and 1 M rows, in one run.

    python -m tests.bench.upload_memory [ROWS ...]

A gateway process (the routes for files, the embedded store, the ledger) on loopback takes a made-up CSV, four columns,
a tenth of the rows duplicates, half of the addresses at one provider; then gives it back as CSV and XLSX. Peaks are the
kernel's (VmHWM, reset before each step) and told apart: the gateway process above its own idle, and the child process
that analyses or writes. The target for an upload of a million rows: at most 64 MB for the two together.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import httpx

TARGET_MB = 64.0
SIZES = (10_000, 100_000, 1_000_000)


@dataclass
class Step:
    seconds: float
    gateway_mb: float  # above idle
    child_mb: float


def make_list(path: Path, rows: int) -> None:
    dice = random.Random(rows)
    with path.open("w", encoding="utf-8", newline="") as out:
        out.write("id,name,email,city\r\n")
        for n in range(rows):
            domain = "mail.example.com" if dice.random() < 0.5 else f"d{dice.randrange(20_000)}.example.com"
            user = dice.randrange(n) if n and dice.random() < 0.1 else n
            out.write(f'{n},"Lee, Ann {n}",user{user}@{domain},Bern\r\n')


def memory_mb(pid: int, what: str) -> float:
    for line in Path(f"/proc/{pid}/status").read_text(encoding="ascii").splitlines():
        if line.startswith(what):
            return int(line.split()[1]) / 1024
    return 0.0


def children(pid: int) -> list[int]:
    found = []
    for task in Path(f"/proc/{pid}/task").iterdir():
        with contextlib.suppress(OSError):
            found += [int(child) for child in (task / "children").read_text(encoding="ascii").split()]
    return found


def command(pid: int) -> bytes:
    return Path(f"/proc/{pid}/cmdline").read_bytes()


class Gauge:
    """Peaks of a process and of its children while `async with` is open."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.child_mb = 0.0
        Path(f"/proc/{pid}/clear_refs").write_text("5", encoding="ascii")  # resets VmHWM

    async def __aenter__(self) -> Self:
        self.idle = memory_mb(self.pid, "VmRSS")
        self._begun = time.perf_counter()
        self._watch = asyncio.create_task(self._look(), name="gauge")
        return self

    async def __aexit__(self, *_: object) -> None:
        self._watch.cancel()
        seconds = time.perf_counter() - self._begun
        self.step = Step(seconds, memory_mb(self.pid, "VmHWM") - self.idle, self.child_mb)

    async def _look(self) -> None:
        while True:
            for child in children(self.pid):
                with contextlib.suppress(OSError):
                    if command(child) != command(self.pid):  # not yet itself: still shares its parent's memory
                        self.child_mb = max(self.child_mb, memory_mb(child, "VmHWM"))
            await asyncio.sleep(0.01)


@contextlib.asynccontextmanager
async def gateway_process(folder: Path) -> AsyncIterator[tuple[int, httpx.AsyncClient]]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.bench.upload_memory", "--serve", str(folder), stdout=asyncio.subprocess.PIPE
    )
    try:
        assert process.stdout is not None
        port = int(await process.stdout.readline())
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=600) as client:
            yield process.pid, client
    finally:
        process.terminate()
        await process.wait()


async def serve(folder: Path) -> None:
    import structlog

    from gateway.downloads.routes import router as downloads
    from gateway.uploads.routes import router as uploads
    from tests.integration.list_gateway import ListGateway

    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    async with ListGateway(folder, uploads, downloads) as gateway:
        print(gateway.port, flush=True)
        await asyncio.Event().wait()


async def upload(client: httpx.AsyncClient, path: Path, key: str) -> str:
    """Streamed as a multipart body without being held here."""

    async def body() -> AsyncIterator[bytes]:
        yield b'--b\r\nContent-Disposition: form-data; name="file"; filename="list.csv"\r\n\r\n'
        with path.open("rb") as source:
            while piece := source.read(65_536):
                yield piece
        yield b"\r\n--b--\r\n"

    headers = {"Content-Type": "multipart/form-data; boundary=b", "Idempotency-Key": key}
    answer = await client.post("/api/v1/files", content=body(), headers=headers)
    assert answer.status_code == 202, answer.text
    found = answer.json()
    assert found["totalEmails"] == found["uniqueEmails"] + found["duplicates"] + found["malformed"]
    return str(found["fileId"])


async def download(client: httpx.AsyncClient, file_id: str, form: str) -> int:
    size = 0
    async with client.stream("GET", f"/api/v1/files/{file_id}/download", params={"format": form}) as answer:
        assert answer.status_code == 200
        async for piece in answer.aiter_bytes():
            size += len(piece)
    return size


def show(rows: int, what: str, step: Step) -> None:
    per_row = step.seconds / rows * 1e6
    print(
        f"{rows:>9,} rows  {what:<14} {step.seconds:7.2f} s  {per_row:6.1f} us/row"
        f"   gateway +{step.gateway_mb:5.1f} MB   child {step.child_mb:5.1f} MB"
    )


async def main(sizes: list[int]) -> int:
    uploads: dict[int, Step] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        async with gateway_process(folder) as (pid, client):
            make_list(folder / "warm.csv", 1_000)
            await download(client, await upload(client, folder / "warm.csv", "warm"), "csv")
            print(f"idle gateway: {memory_mb(pid, 'VmRSS'):.1f} MB")
            for rows in sizes:
                make_list(folder / "list.csv", rows)
                async with Gauge(pid) as gauge:
                    file_id = await upload(client, folder / "list.csv", str(rows))
                uploads[rows] = gauge.step
                show(rows, "upload", gauge.step)
                for form in ("csv", "xlsx"):
                    if form == "xlsx" and rows > 1_000_000:
                        continue
                    async with Gauge(pid) as gauge:
                        await download(client, file_id, form)
                    show(rows, f"download {form}", gauge.step)
    largest = uploads[max(sizes)]
    together = largest.gateway_mb + largest.child_mb
    per_row = [step.seconds / rows for rows, step in uploads.items()]
    print(f"\nupload of {max(sizes):,} rows: {together:.1f} MB above idle for both processes (target {TARGET_MB:.0f})")
    print(f"time per row, largest to smallest list: {per_row[-1] / per_row[0]:.2f} (1 is linear)")
    return 0 if together <= TARGET_MB else 1


if __name__ == "__main__":
    if sys.argv[1:2] == ["--serve"]:
        with contextlib.suppress(KeyboardInterrupt):
            asyncio.run(serve(Path(sys.argv[2])))
    else:
        sys.exit(asyncio.run(main([int(rows) for rows in sys.argv[1:]] or list(SIZES))))
