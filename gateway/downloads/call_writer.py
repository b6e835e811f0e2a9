"""Runs the writer of a table as a child process and hands on what it writes."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncGenerator
from dataclasses import asdict

import orjson

from gateway.downloads.write_table import Job
from shared.logs import get_log

log = get_log("gateway.downloads")

PIECE = 65_536


class WriterFailed(Exception):
    """The download ends early; the client sees a transfer that was cut off."""


async def written(job: Job, file_id: str) -> AsyncGenerator[bytes]:
    """The download, piece by piece; as slow as its reader. Closing the iterator ends the child."""
    child = await asyncio.create_subprocess_exec(
        sys.executable,
        "-P",
        "-m",
        "gateway.downloads.write_table",
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    assert child.stdin is not None  # noqa: S101 - a pipe was asked for
    assert child.stdout is not None  # noqa: S101
    try:
        child.stdin.write(orjson.dumps(asdict(job)))
        child.stdin.close()
        while piece := await child.stdout.read(PIECE):
            yield piece
        if await child.wait():
            log.error("download_writer_failed", file_id=file_id, returncode=child.returncode)
            raise WriterFailed
    finally:
        if child.returncode is None:
            child.kill()
            await child.wait()
