"""Small lists that come as JSON, and single addresses that need longer: files like any other, without an upload.

The same order as for uploads (gateway/batches/store.py), and as repeatable: with the same file id and the same input it
finds what an earlier run left and goes on.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence

from gateway.accounts.caller import Caller
from gateway.batches.state import FileStatus
from gateway.batches.store import accept_file, receiving_file, store_batches
from gateway.collections import BATCHES, FILES
from gateway.parts import Parts
from gateway.problem import Problem
from gateway.retention.suppress import suppressed_in
from gateway.sandbox.mark import own_file
from gateway.uploads.folder import erase_folders, receiving
from gateway.uploads.keep_list import LIST_TABLE, keep_list
from gateway.uploads.plan import Fates, PlannedBatch, assign_fates, plan_batches
from gateway.uploads.submit import hold_once, in_flight
from shared.documents import Document


async def submit_list(
    parts: Parts,
    caller: Caller,
    file_id: str,
    emails: Sequence[str],
    callback_url: str | None,
    *,
    trace: bool = False,
) -> Document:
    """A file of kind `batch`; each string is a row, counted from 1. Raises Problem 402; then nothing is left of it."""
    fates = assign_fates(enumerate(emails, start=1))
    file = receiving_file(
        file_id,
        caller.org_id,
        kind="batch",
        filename="validate-batch",
        created_at=time.time(),
        total=fates.total,
        unique=len(fates.unique),
        duplicates=len(fates.duplicates),
        malformed=len(fates.malformed),
        callback_url=callback_url,
        table=LIST_TABLE,
        trace=trace,
    )
    with receiving(parts.settings, file_id) as folder:
        if folder is None:
            raise in_flight()
        await asyncio.to_thread(keep_list, parts.settings, file_id, emails, fates)  # for its downloads
        try:
            return await _submit(parts, own_file(caller, file), fates, parts.settings.batch_size)
        except Problem:
            await asyncio.to_thread(erase_folders, parts.settings, file_id)
            raise


async def submit_single(parts: Parts, caller: Caller, file_id: str, email: str, *, put_off: float | None) -> Document:
    """A file of kind `single`. `put_off`: seconds until the second look, where the first has been had."""
    fates = assign_fates([(1, email)])
    file = receiving_file(
        file_id,
        caller.org_id,
        kind="single",
        filename="validate",
        created_at=time.time(),
        total=1,
        unique=len(fates.unique),
        duplicates=0,
        malformed=len(fates.malformed),
    )
    looked = put_off is not None and bool(parts.settings.retry_delays)
    due_at = time.time() + (put_off or 0.0) if looked else 0.0
    return await _submit(parts, own_file(caller, file), fates, 1, look=int(looked), due_at=due_at)


async def _submit(
    parts: Parts, file: Document, fates: Fates, batch_size: int, *, look: int = 0, due_at: float = 0.0
) -> Document:
    file_id, org_id = file["_id"], file["orgId"]
    if not await parts.documents.insert(FILES, file):
        found = await parts.documents.get(FILES, file_id)
        if found is not None and found["status"] != FileStatus.RECEIVING:
            return found
    try:
        await hold_once(parts, file)
    except Problem:
        await parts.documents.delete(FILES, file_id)
        raise
    batches: list[PlannedBatch] = list(plan_batches(sorted(fates.unique), batch_size))
    total = await store_batches(
        parts.documents,
        file_id,
        org_id,
        batches,
        fates.malformed,
        look=look,
        due_at=due_at,
        suppressed=await suppressed_in(parts, file),
        trace=file["trace"],
    )
    accepted = await accept_file(parts, file_id, total)
    if accepted is not None:
        return accepted
    found = await parts.documents.get(FILES, file_id)
    if found is None:  # swept away meanwhile
        await parts.documents.delete_many(BATCHES, {"fileId": file_id})
        raise Problem(503, "unavailable", "The list was given up while it was stored; try again.", retry_after=1)
    return found
