"""What it costs a request to be known: credential, look-up, both rate limits, scope; against the work of a plain read.

The check runs in process against a real Valkey and the embedded store, one after the other and 50 at once. The first
number is the budget of one millisecond; the ratio compares with reading one document, on the same machine in the same
run. Exit code 1 where the middle request takes longer than the budget.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from statistics import median

from fastapi import Request

from gateway.accounts.caller import DEFAULT_ORG, identify, need_scope
from gateway.collections import ORGANISATIONS
from tests.integration.account_gateway import KEY, AccountGateway
from tests.servers import ValkeyServer

BUDGET_MS = 1.0
CALLS = 3_000
_HEADERS = [(b"host", b"gateway"), (b"accept", b"*/*"), (b"authorization", b"Bearer " + KEY.encode())]


def _request() -> Request:
    return Request(
        {
            "type": "http",
            "method": "GET",
            "path": "/",
            "query_string": b"limit=50",
            "client": ("127.0.0.1", 1),
            "headers": _HEADERS,
            "state": {},
        }
    )


async def _timed(call: Callable[[], Awaitable[object]], at_once: int) -> tuple[float, float]:
    """Milliseconds: of the middle call, and of the one that only one in a hundred exceeds."""
    taken: list[float] = []

    async def in_turn() -> None:
        for _ in range(CALLS // at_once):
            began = time.perf_counter()
            await call()
            taken.append((time.perf_counter() - began) * 1_000)

    await asyncio.gather(*(in_turn() for _ in range(at_once)))
    return median(taken), sorted(taken)[len(taken) * 99 // 100]


async def main() -> int:
    with tempfile.TemporaryDirectory() as folder:
        valkey = ValkeyServer(Path(folder) / "valkey")
        await valkey.start()
        try:
            async with AccountGateway(Path(folder), valkey.url, requests_per_minute=100_000_000) as gateway:
                check = need_scope("files:write")

                async def known() -> None:
                    await check(await identify(_request(), gateway.parts))

                await _timed(known, 1)
                alone, alone_99 = await _timed(known, 1)
                many, many_99 = await _timed(known, 50)
                read, _ = await _timed(lambda: gateway.parts.documents.get(ORGANISATIONS, DEFAULT_ORG), 1)
        finally:
            await valkey.stop()
    print(f"one after the other: p50 {alone:.3f} ms, p99 {alone_99:.3f} ms (budget p50 {BUDGET_MS:.0f} ms)")
    print(f"50 at once:          p50 {many:.3f} ms, p99 {many_99:.3f} ms, {50_000 / many:,.0f} a second")
    print(f"reading a document:  p50 {read:.3f} ms; being known costs {alone / read:.2f} times that")
    return 0 if alone <= BUDGET_MS else 1


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
