"""The files a caller has: list, one, its counts and results; pause, resume, cancel, start, delete."""

from __future__ import annotations

import time
from functools import partial
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Response
from fastapi.responses import JSONResponse

from gateway.audit.record import record
from gateway.batches.state import FileStatus
from gateway.collections import FILES
from gateway.cursor import DEFAULT_LIMIT, Cursor, Limit, read_page
from gateway.files import change
from gateway.files.emails import Filter, read_emails, read_place, write_place
from gateway.files.find import ReadableFile, Reader, WritableFile, Writer
from gateway.files.present import present_file, present_stats
from gateway.idempotency.once import Once, OnceDep
from gateway.parts import Parts, PartsDep
from gateway.problem import Problem
from gateway.sandbox.mark import same_side
from shared.documents import Document, In, Missing, Ne

router = APIRouter(prefix="/api/v1/files", tags=["files"])

StatusWord = Literal["valid", "invalid", "risky", "unknown"]


@router.get("")
async def list_files(
    caller: Reader, parts: PartsDep, cursor: Cursor = None, limit: Limit = DEFAULT_LIMIT
) -> dict[str, Any]:
    """The organisation's lists, newest first, without erased ones and single addresses. Test keys see test lists."""
    where = {
        "orgId": caller.org_id,
        "kind": In(("upload", "batch")),
        "status": Ne(str(FileStatus.RECEIVING)),
        "eraseState": Missing(),
        **same_side(caller),
    }
    now = time.time()
    show = partial(present_file, now=now)
    return await read_page(parts.documents, FILES, where, show, sort="createdAt", cursor=cursor, limit=limit)


@router.get("/{file_id}")
async def get_file(file: ReadableFile) -> dict[str, Any]:
    """Status and counts. `progress` is 0 to 1; `etaSeconds` is null while nothing can be said."""
    return present_file(file, time.time())


@router.get("/{file_id}/stats")
async def get_stats(file: ReadableFile) -> dict[str, Any]:
    """Counts by status, by reason and for the largest domains."""
    return present_stats(file)


@router.get("/{file_id}/emails")
async def list_emails(
    file: ReadableFile,
    parts: PartsDep,
    *,
    status: StatusWord | None = None,
    q: Annotated[str | None, Query(max_length=320, description="A part of the address, case ignored.")] = None,
    cursor: Cursor = None,
    limit: Limit = 100,
) -> dict[str, Any]:
    """Results. A page may be short, even empty, while `nextCursor` leads on: a search stops after a while."""
    if file.get("eraseState"):
        raise Problem(410, "erased", "The results of this file were erased.")
    start = read_place(cursor)
    items, following = await read_emails(parts.documents, file["_id"], Filter(status, q or None), start, limit)
    return {"items": items, "nextCursor": None if following is None else write_place(following, file["_id"])}


@router.post("/{file_id}/pause", status_code=202, response_model=dict[str, Any])
async def pause_file(file: WritableFile, parts: PartsDep, once: OnceDep) -> Response:
    """Send nothing new; what is under way is finished. Repeatable; 409 for a file that has ended."""
    return await _changed(change.pause, file, parts, once)


@router.post("/{file_id}/resume", status_code=202, response_model=dict[str, Any])
async def resume_file(file: WritableFile, parts: PartsDep, once: OnceDep) -> Response:
    """Go on with a paused file. Repeatable; 409 for a file that has ended."""
    return await _changed(change.resume, file, parts, once)


@router.post("/{file_id}/cancel", status_code=202, response_model=dict[str, Any])
async def cancel_file(file: WritableFile, parts: PartsDep, once: OnceDep) -> Response:
    """Keep what is finished, release the other credits. Repeatable; 409 for a file that has ended otherwise."""
    return await _changed(change.cancel, file, parts, once)


@router.post("/{file_id}/start", status_code=202, response_model=dict[str, Any])
async def start_file(file: WritableFile, parts: PartsDep, once: OnceDep) -> Response:
    """Verify a file that was uploaded with `start=false`. Repeatable; 402 leaves it `ready`."""
    return await _changed(change.start, file, parts, once)


async def _changed(step: change.Step, file: Document, parts: Parts, once: Once) -> Response:
    async def produce(_: str) -> Response:
        return JSONResponse(present_file(await step(parts, file), time.time()), 202)

    return await once(produce)


@router.delete("/{file_id}", status_code=204)
async def delete_file(file: WritableFile, parts: PartsDep, caller: Writer) -> Response:
    """Erase upload, results and exports; the counts stay. A running file is cancelled first. Repeatable."""
    await parts.machine.eraser.erase(file)
    await record(parts, caller, "file.deleted", file["_id"])
    return Response(status_code=204)
