"""Runs the analysis of an upload as a child process and reads its answer; a few at a time, others wait their turn."""

from __future__ import annotations

import asyncio
import sys
from dataclasses import asdict
from typing import Any
from weakref import WeakKeyDictionary

import msgspec

from gateway.problem import Problem
from gateway.uploads.analyse import Job, Summary
from shared.logs import get_log

log = get_log("gateway.uploads")


AT_ONCE = 4  # children; a workbook's may take a gigabyte
_turns: WeakKeyDictionary[asyncio.AbstractEventLoop, asyncio.Semaphore] = WeakKeyDictionary()


class _Refused(msgspec.Struct):
    status: int
    code: str
    detail: str
    extra: dict[str, Any]


class _Answer(msgspec.Struct):
    summary: Summary | None = None
    refused: _Refused | None = None
    failed: str | None = None


async def call_analyser(job: Job, file_id: str) -> Summary:
    """Raises Problem: what is wrong with the list, or 507 where the disk is full. Cancelling ends the child, too."""
    turns = _turns.setdefault(asyncio.get_running_loop(), asyncio.Semaphore(AT_ONCE))
    async with turns:
        return await _call(job, file_id)


async def _call(job: Job, file_id: str) -> Summary:
    child = await asyncio.create_subprocess_exec(
        sys.executable,
        "-P",  # a module of the same name in the present directory must not get in the way
        "-m",
        "gateway.uploads.analyse",
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        out, trouble = await child.communicate(msgspec.json.encode(asdict(job)))
    finally:
        if child.returncode is None:
            child.kill()
            await child.wait()
    if child.returncode:
        log.error("analysis_died", file_id=file_id, returncode=child.returncode, stderr_bytes=len(trouble))
        if child.returncode < 0:  # a signal: it ran against a bound, or into a fault of a library
            raise Problem(422, "too_complex", "This file cannot be read within bounds; send it as CSV.", field="file")
        raise RuntimeError(f"analysis ended with {child.returncode}")
    answer = msgspec.json.decode(out, type=_Answer)
    if answer.summary is not None:
        return answer.summary
    if answer.refused is not None:
        refused = answer.refused
        raise Problem(refused.status, refused.code, refused.detail, **refused.extra)
    log.error("analysis_disk_trouble", file_id=file_id, error=answer.failed)
    raise disk_full()


def disk_full() -> Problem:
    return Problem(507, "disk_full", "There is no room for this file at the moment; try again later.", retry_after=60)
