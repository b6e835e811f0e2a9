"""GET /api/v1/files/{fileId}/download: json and jsonl are the results, csv and xlsx the uploader's own table."""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator
from contextlib import aclosing
from pathlib import PurePath
from typing import Annotated, Literal, cast
from urllib.parse import quote

import orjson
from fastapi import APIRouter, Query
from fastapi.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from gateway.audit.record import record
from gateway.batches.state import TERMINAL_FILE
from gateway.collections import BATCHES
from gateway.downloads.call_writer import WriterFailed, written
from gateway.downloads.cells import PENDING
from gateway.downloads.collect import collected
from gateway.downloads.workbook import MAX_ROWS
from gateway.downloads.write_table import Job
from gateway.files.find import ReadableFile, Reader
from gateway.parts import Parts, PartsDep
from gateway.problem import Problem, not_found
from gateway.uploads.folder import upload_folder
from shared.documents import Document
from shared.verdict import Reason, Status

router = APIRouter(tags=["files"])

Format = Literal["csv", "json", "jsonl", "xlsx"]
MEDIA_TYPES: dict[Format, str] = {
    "csv": "text/csv; charset=utf-8; header=present",
    "json": "application/json",
    "jsonl": "application/jsonl",
    "xlsx": "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
}
_STATUSES = frozenset({*map(str, Status), PENDING})


@router.get(
    "/api/v1/files/{file_id}/download",
    response_class=StreamingResponse,
    responses={200: {"content": {kind.partition(";")[0]: {} for kind in MEDIA_TYPES.values()}}},
)
async def download_file(
    file: ReadableFile,
    parts: PartsDep,
    caller: Reader,
    form: Annotated[Format, Query(alias="format")] = "csv",
    status: Annotated[str | None, Query(description="Comma list; rows with these verdicts only.")] = None,
) -> StreamingResponse:
    """The results as a file, also while the list is still being verified."""
    file_id = file["_id"]
    if file.get("eraseState"):
        raise not_found("file")
    statuses = _read_statuses(status)
    if form in ("json", "jsonl"):
        pieces = _results(parts, file_id, statuses, lines=form == "jsonl")
    else:
        if form == "xlsx" and int(file["totalEmails"]) >= MAX_ROWS:
            raise Problem(422, "too_many_rows", f"A sheet holds {MAX_ROWS} rows; download as csv.", field="format")
        pieces = _table(parts, file, form, statuses)
    await record(parts, caller, "file.downloaded", file_id, {"format": form})
    try:
        first = await anext(pieces, b"")  # what fails before anything was sent is a problem, not a broken download
    except (WriterFailed, FileNotFoundError) as error:  # erased meanwhile, in all likelihood
        raise Problem(503, "unavailable", "The download could not be made; try again.", retry_after=1) from error
    headers = {
        "Content-Disposition": content_disposition(file["filename"], form),
        "Cache-Control": "no-store",
        "X-Content-Type-Options": "nosniff",
    }
    return _Download(_chained(first, pieces), 200, headers, MEDIA_TYPES[form])


def _read_statuses(given: str | None) -> list[str]:
    statuses = [word.strip() for word in (given or "").split(",") if word.strip()]
    wrong = [word for word in statuses if word not in _STATUSES]
    if wrong:
        raise Problem(422, "invalid_request", f"status takes {', '.join(sorted(_STATUSES))}.", field="status")
    return statuses


class _Download(StreamingResponse):
    """Ends what produces it at once when the client goes away."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async with aclosing(cast("AsyncGenerator[bytes]", self.body_iterator)):
            await super().__call__(scope, receive, send)


async def _chained(first: bytes, rest: AsyncGenerator[bytes]) -> AsyncGenerator[bytes]:
    async with aclosing(rest):
        yield first
        async for piece in rest:
            yield piece


async def _results(parts: Parts, file_id: str, statuses: list[str], *, lines: bool) -> AsyncGenerator[bytes]:
    before = b"" if lines else b"[\n"
    between = b"" if lines else b",\n"
    end = b"\n" if lines else b""
    async for batch in parts.documents.scan(BATCHES, {"fileId": file_id}, sort="no"):
        found = [orjson.dumps(one) + end for one in batch["results"] if not statuses or one["status"] in statuses]
        if found:
            yield before + between.join(found)
            before = between
    if not lines:
        yield b"[]\n" if before == b"[\n" else b"\n]\n"


async def _table(parts: Parts, file: Document, form: Format, statuses: list[str]) -> AsyncGenerator[bytes]:
    finished = file["status"] in TERMINAL_FILE
    table = file.get("table")
    async with collected(parts.settings, parts.documents, file) as verdicts:
        job = Job(
            folder=str(upload_folder(parts.settings, file["_id"]).absolute()) if table else None,
            table=table,
            verdicts=str(verdicts.absolute()),
            format=form,
            statuses=statuses,
            unfinished=["", str(Reason.CANCELLED)] if finished else [PENDING],
        )
        async with aclosing(written(job, file["_id"])) as pieces:
            async for piece in pieces:
                yield piece


def content_disposition(filename: str, form: str) -> str:
    """RFC 6266: an ASCII name for old programs, the real one for the others."""
    name = f"{PurePath(filename).stem or 'list'}-mailvet.{form}"
    plain = re.sub(r"[^A-Za-z0-9._ -]", "_", name)
    return f"attachment; filename=\"{plain}\"; filename*=UTF-8''{quote(name, safe='')}"
