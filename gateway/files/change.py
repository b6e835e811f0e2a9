"""Pause, resume, cancel, start: what a caller asks of a file's state. Each may be repeated; 409 where it is too late.

Starting a `ready` file: hold its credits (402 leaves it as it is) -> `receiving` -> store its batches -> `queued`. Cut
off anywhere, repair makes it `ready` again, with its hold, and starting it once more goes on from there.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

from gateway.batches.state import PAUSE, RESUME, TAKE_IN, FileStatus, Move, shown
from gateway.batches.store import RECEIVING_LEASE, accept_file, store_batches
from gateway.collections import FILES
from gateway.files.present import present_progress
from gateway.parts import Parts
from gateway.problem import Problem, not_found
from gateway.retention.suppress import suppressed_in
from gateway.sandbox.mark import cost_of
from gateway.uploads.folder import receiving
from gateway.uploads.submit import drop_plan, hold_once, in_flight, malformed_rows, planned_batches
from shared.documents import Change, Document

Step = Callable[[Parts, Document], Awaitable[Document]]
CANCEL_WITHIN = 2.0  # seconds the caller waits to see the file cancelled; it goes on without them


def _not_possible(verb: str, file: Document) -> Problem:
    status = shown(file["status"])
    return Problem(409, "not_possible", f"A file that is {status} cannot be {verb}.", fileStatus=status)


async def _present(parts: Parts, file_id: str) -> Document:
    file = await parts.documents.get(FILES, file_id)
    if file is None:
        raise not_found("file")
    return file


async def _move(parts: Parts, file: Document, move: Move, change: Change) -> Document | None:
    moved = await parts.documents.update(FILES, file["_id"], change, move.where)
    if moved is not None:
        parts.machine.announcer.announce(file["_id"], "progress", present_progress(moved, time.time()))
        parts.machine.file_changed(file["_id"])
    return moved


async def pause(parts: Parts, file: Document) -> Document:
    """What is under way is finished and recorded; nothing new goes out."""
    moved = await _move(parts, file, PAUSE, Change(set=PAUSE.set))
    if moved is not None:
        return moved
    now = await _present(parts, file["_id"])
    if now["status"] == FileStatus.PAUSED:
        return now
    raise _not_possible("paused", now)


async def resume(parts: Parts, file: Document) -> Document:
    moved = await _move(parts, file, RESUME, Change(set={**RESUME.set, "eta": None}))
    if moved is not None:
        return moved
    now = await _present(parts, file["_id"])
    if now["status"] in (FileStatus.QUEUED, FileStatus.PROCESSING):
        return now
    raise _not_possible("resumed", now)


async def cancel(parts: Parts, file: Document) -> Document:
    """Decided when this returns; a large file's batches are closed in the background, and repair would finish it."""
    decided = await parts.machine.finisher.begin_cancel(file["_id"])
    if decided is not None:
        return await _wait_a_little(parts, decided)
    now = await _present(parts, file["_id"])
    cancelled = now["status"] == FileStatus.SETTLING and now["outcome"] == FileStatus.CANCELLED
    if cancelled or now["status"] == FileStatus.CANCELLED:
        return now
    raise _not_possible("cancelled", now)


async def _wait_a_little(parts: Parts, decided: Document) -> Document:
    ending = parts.machine.begin("cancel", parts.machine.finisher.resume(decided))
    await asyncio.wait([ending], timeout=CANCEL_WITHIN)
    return await _present(parts, decided["_id"])


async def start(parts: Parts, file: Document) -> Document:
    if file["status"] != FileStatus.READY:
        if file["status"] in (FileStatus.QUEUED, FileStatus.PROCESSING):
            return file
        raise _not_possible("started", file)
    with receiving(parts.settings, file["_id"]) as folder:
        if folder is None:
            raise in_flight()
        return await _start(parts, file, folder)


async def _start(parts: Parts, file: Document, folder: Path) -> Document:
    file_id, org_id = file["_id"], file["orgId"]
    await hold_once(parts, file)
    alive = {"wasReady": True, "creditsReserved": cost_of(file), "aliveUntil": time.time() + RECEIVING_LEASE}
    if await parts.documents.update(FILES, file_id, Change(set={**TAKE_IN.set, **alive}), TAKE_IN.where) is None:
        raise in_flight()
    suppressed = await suppressed_in(parts, file)
    planned, malformed = planned_batches(folder), malformed_rows(folder)
    total = await store_batches(parts.documents, file_id, org_id, planned, malformed, suppressed=suppressed)
    accepted = await accept_file(parts, file_id, total)
    if accepted is None:
        raise in_flight()
    drop_plan(folder)
    return accepted
