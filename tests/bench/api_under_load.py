"""How long an answer of the API takes while a large list runs, beside the same calls on an idle system in the same run.

`python -m tests.bench api_under_load [--rows N] [--clients C]`. C clients call in a closed loop (each sends its next
request when the last was answered), once before the list is uploaded and once while it is verified.
"""

from __future__ import annotations

import argparse
import asyncio
import tempfile
import time
from pathlib import Path
from typing import Self

import httpx

from services.maillab.big import big_list, big_world
from tests.bench.measure import lab_of, table
from tests.bench.whole import DOMAINS, HOSTS, serving

SECONDS = 15.0
PATHS = ("/api/v1/files", "/api/v1/credits", "/api/v1/credits/ledger", "/api/v1/api-keys")


class _Caller:
    """A kept connection and bare HTTP: a whole client library would take the processor that it measures the lack of."""

    def __init__(self, client: httpx.AsyncClient) -> None:
        self._url = client.base_url
        self._head = f" HTTP/1.1\r\nHost: {self._url.host}\r\nAccept: application/json\r\n\r\n"

    async def __aenter__(self) -> Self:
        self._reader, self._writer = await asyncio.open_connection(self._url.host, self._url.port)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._writer.close()
        await self._writer.wait_closed()

    async def get(self, path: str) -> None:
        """Raises RuntimeError for an answer that is not 200."""
        self._writer.write(f"GET {path}{self._head}".encode())
        head = await self._reader.readuntil(b"\r\n\r\n")
        if not head.startswith(b"HTTP/1.1 200"):
            raise RuntimeError(head.partition(b"\r\n")[0].decode())
        await self._reader.readexactly(int(head.lower().partition(b"content-length:")[2].split(b"\r\n")[0]))


async def _client(client: httpx.AsyncClient, number: int, until: float, taken: list[float]) -> None:
    turn = number
    async with _Caller(client) as caller:
        while time.perf_counter() < until:
            started = time.perf_counter()
            await caller.get(PATHS[turn % len(PATHS)])
            taken.append(time.perf_counter() - started)
            turn += 1


async def _measure(client: httpx.AsyncClient, clients: int) -> list[float]:
    taken: list[float] = []
    until = time.perf_counter() + SECONDS
    await asyncio.gather(*(_client(client, number, until, taken) for number in range(clients)))
    return sorted(taken)


def _row(name: str, taken: list[float]) -> list[object]:
    def at(share: float) -> str:
        return f"{1000 * taken[min(len(taken) - 1, int(share * len(taken)))]:.0f}"

    return [name, f"{len(taken) / SECONDS:,.0f}", at(0.5), at(0.95), at(0.99), f"{1000 * taken[-1]:.0f}"]


async def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(prog="api_under_load")
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--clients", type=int, default=50)
    told = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="mailvet-bench-") as folder:
        path = Path(folder) / "list.csv"
        big_list(told.rows, path, domains=DOMAINS)
        async with lab_of(big_world, domains=DOMAINS, hosts=HOSTS) as lab:
            unlimited = {"MAILVET_REQUESTS_PER_MINUTE": "0"}
            async with serving(Path(folder), lab, **unlimited) as (_, client):
                idle = await _measure(client, told.clients)
                with path.open("rb") as file:
                    answer = await client.post("/api/v1/files", files={"file": ("list.csv", file)})
                answer.raise_for_status()
                busy = await _measure(client, told.clients)
                state = (await client.get(f"/api/v1/files/{answer.json()['fileId']}")).json()
                if state["status"] != "processing":
                    raise RuntimeError("the list was too short: it ended before the measurement did")
                await client.post(f"/api/v1/files/{state['fileId']}/cancel")
    title = f"{told.clients} clients, a list of {told.rows:,} addresses; milliseconds"
    print(table(title, ("", "answers/s", "p50", "p95", "p99", "most"), (_row("idle", idle), _row("running", busy))))
