"""From a received body to a file that the dispatcher may work on. The order, and what a failure at each step leaves:

1. The body is spooled to a folder of its own, locked (folder.py). Failure, refusal, client gone: folder removed. Crash:
   the folder is a leftover, `sweep_leftovers` removes it at the next start.
2. It moves to the folder of the file's id and is analysed in a child process. As before.
3. The FILES document is inserted with status `receiving`, which nobody is shown and nothing dispatches. From here a
   crash is repaired by the store's owner: a `receiving` file that is no longer kept alive goes with batches and hold.
4. One credit for each unique address is held. 402: document and folder removed.
5. The batches are stored, `pending`; malformed rows as batches that are done.
6. `receiving` -> `queued`: one conditional update. Crash after it: the file runs, only its uploader was not told.

All of it can be repeated for the same file id, which a retry with the same Idempotency-Key does: what an earlier run
finished is answered again; what it left unfinished is done again over the same document and the same hold. A hold that
was released meanwhile is never made again, so that try ends with 409 and the next one is a new file.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from gateway.accounts.caller import Caller
from gateway.batches.state import ACCEPT, FileStatus
from gateway.batches.store import accept_file, receiving_file, store_batches
from gateway.collections import BATCHES, FILES
from gateway.parts import Parts
from gateway.problem import Problem, not_found
from gateway.retention.suppress import suppressed_in
from gateway.sandbox.mark import cost_of, is_test, own_file
from gateway.uploads.analyse import Job, Summary
from gateway.uploads.call_analyser import call_analyser
from gateway.uploads.folder import LOCK_SUFFIX, erase_folders, receiving, uploads_dir
from gateway.uploads.plan import MalformedRow, PlannedBatch
from gateway.uploads.receive import Received
from shared.documents import Change, Document
from shared.logs import get_log

log = get_log("gateway.uploads")

DAY = 86_400.0  # seconds
_YES, _NO = frozenset({"true", "1", "yes", "on"}), frozenset({"false", "0", "no", "off"})


@dataclass(frozen=True, slots=True)
class Upload:
    """A body that was received. `start`: verify it now; else it is only analysed and waits, `ready`."""

    spool: Path
    received: Received
    start: bool = True


async def submit(parts: Parts, caller: Caller, file_id: str, upload: Upload) -> Document:
    """The FILES document of the accepted file. Raises Problem; then nothing is left of it."""
    with receiving(parts.settings, file_id) as folder:
        if folder is None:
            raise in_flight()
        found = await parts.documents.get(FILES, file_id)
        if found is not None:
            if found.get("table") is None:  # erased since
                raise not_found("file")
            if found["status"] != FileStatus.RECEIVING:
                return found
            await parts.documents.delete_many(BATCHES, {"fileId": file_id})
            await asyncio.to_thread(erase_folders, parts.settings, file_id)
        document = await _take_in(parts, caller, file_id, folder, upload)
        return await _hold_and_store(parts, document, folder) if upload.start else document


async def _take_in(parts: Parts, caller: Caller, file_id: str, folder: Path, upload: Upload) -> Document:
    """Steps 2 and 3."""
    async with _or_else(lambda: asyncio.to_thread(erase_folders, parts.settings, file_id)):
        await asyncio.to_thread(upload.spool.rename, folder)
        summary = await call_analyser(_job(parts, folder, upload.received), file_id)
        document = own_file(caller, _describe(caller.org_id, file_id, upload.received.filename, summary))
        if not upload.start:
            document |= {
                "status": str(FileStatus.READY),
                "creditsReserved": 0,
                "totalBatches": summary.batches,
                "expiresAt": document["createdAt"] + DAY * parts.settings.retention_days,
            }
        if not await parts.documents.insert(FILES, document):  # an earlier run's, if it is still there
            again = Change(set={"aliveUntil": document["aliveUntil"]})
            if await parts.documents.update(FILES, file_id, again, ACCEPT.where) is None:
                raise in_flight()
    return document


async def _hold_and_store(parts: Parts, document: Document, folder: Path) -> Document:
    """Steps 4 to 6."""
    org_id, file_id, unique = document["orgId"], document["_id"], document["uniqueEmails"]
    async with _or_else(lambda: _remove(parts, org_id, file_id)):
        await hold_once(parts, document)
        suppressed = await suppressed_in(parts, document)
        planned, malformed = planned_batches(folder), malformed_rows(folder)
        total = await store_batches(parts.documents, file_id, org_id, planned, malformed, suppressed=suppressed)
        accepted = await accept_file(parts, file_id, total)
        if accepted is None:
            raise Problem(503, "unavailable", "The file was given up while it was stored; try again.", retry_after=1)
    drop_plan(folder)
    log.info("file_accepted", file_id=file_id, org_id=org_id, addresses=unique, batches=total)
    return accepted


@asynccontextmanager
async def _or_else(undo: Callable[[], Coroutine[Any, Any, None]]) -> AsyncIterator[None]:
    """Undo what was begun when it fails or is cancelled; to the end, even if cancelled once more."""
    try:
        yield
    except BaseException:
        await asyncio.shield(asyncio.create_task(undo(), name="upload-undo"))
        raise


async def hold_once(parts: Parts, file: Document) -> None:
    """The credits of a file. Raises Problem 402, or 409 where they were held before and given back."""
    org_id, file_id, cost = file["orgId"], file["_id"], cost_of(file)
    await parts.ledger.hold(org_id, file_id, cost)
    if cost and await parts.ledger.held(org_id, file_id) != cost:
        raise Problem(409, "given_up", "An earlier try of this was given up; send it again.", retry_after=1)


def in_flight() -> Problem:
    return Problem(409, "in_flight", "This file is being received.", retry_after=1)


def _job(parts: Parts, folder: Path, received: Received) -> Job:
    settings = parts.settings
    said = received.fields.get("has_header", "").strip().lower()
    if said and said not in _YES | _NO:
        raise Problem(422, "invalid_request", "has_header is true or false.", field="has_header")
    return Job(
        folder=str(folder.resolve()),
        filename=received.filename,
        column=received.fields.get("column", "").strip() or None,
        has_header=said in _YES if said else None,
        batch_size=settings.batch_size,
        max_rows=settings.max_upload_rows,
        max_bytes=settings.max_upload_bytes,
    )


def _describe(org_id: str, file_id: str, filename: str, summary: Summary) -> Document:
    return receiving_file(
        file_id,
        org_id,
        kind="upload",
        filename=filename,
        created_at=time.time(),
        total=summary.total,
        unique=summary.unique,
        duplicates=summary.duplicates,
        malformed=summary.malformed,
        table=summary.table,
    )


def planned_batches(folder: Path) -> Iterator[PlannedBatch]:
    with (folder / "batches.jsonl").open("rb") as stream:
        for line in stream:
            yield PlannedBatch(**msgspec.json.decode(line))


def malformed_rows(folder: Path) -> Iterator[MalformedRow]:
    with (folder / "malformed.jsonl").open("rb") as stream:
        for line in stream:
            yield MalformedRow(**msgspec.json.decode(line))


def drop_plan(folder: Path) -> None:
    """The document store has them now."""
    for name in ("batches.jsonl", "malformed.jsonl"):
        (folder / name).unlink(missing_ok=True)


async def _remove(parts: Parts, org_id: str, file_id: str) -> None:
    """Everything a run for this id may have left, in the reverse order."""
    await parts.documents.delete_many(BATCHES, {"fileId": file_id})
    await parts.ledger.release(org_id, file_id)
    await parts.documents.delete(FILES, file_id)
    await asyncio.to_thread(erase_folders, parts.settings, file_id)


async def sweep_leftovers(parts: Parts) -> int:
    """Remove the folders that no process receives and no document knows; how many those were. For every start."""
    removed = 0
    for name in await asyncio.to_thread(_names, uploads_dir(parts.settings)):
        if await parts.documents.get(FILES, name) is not None:
            continue
        with receiving(parts.settings, name) as folder:
            if folder is not None:
                await asyncio.to_thread(erase_folders, parts.settings, name)
                removed += 1
    if removed:
        log.info("leftover_uploads_removed", count=removed)
    return removed


def _names(directory: Path) -> set[str]:
    return {path.name.removesuffix(LOCK_SUFFIX) for path in directory.iterdir()} if directory.exists() else set()


def summary_for_uploader(document: Document) -> dict[str, Any]:
    """What POST /files answers."""
    table = document["table"]
    return {
        "fileId": document["_id"],
        "filename": document["filename"],
        "status": document["status"],
        "totalEmails": document["totalEmails"],
        "uniqueEmails": document["uniqueEmails"],
        "duplicates": document["duplicates"],
        "malformed": document["malformed"],
        "creditsReserved": document["creditsReserved"],
        "cost": cost_of(document),
        "test": is_test(document),
        "totalBatches": document["totalBatches"],
        "column": table["columns"][table["column"]],
        "hasHeader": table["header_row"] is not None,
        "delimiter": table["delimiter"],
        "encoding": table["encoding"],
    }
