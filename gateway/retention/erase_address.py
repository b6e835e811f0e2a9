"""One address, erased from everything that an organisation has here. The order:

1. It is put on the suppression list: nothing new is asked about it from here on.
2. Each file, the oldest first: the upload is overwritten where it stands (blank.py), exports and live news go, then its
   batches: a result keeps its verdict, so that counts and charges stay true, and loses the address and all that may
   name it; an address that still waits gets the result `suppressed`. A message of it that is on its way is answered in
   vain.
3. Its cached verdict goes, the request forgets what it was about, and the stores are scrubbed.

The request holds the address sealed until it is done, so that a crash anywhere is taken up where the file was.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable
from pathlib import Path
from typing import Any

from redis.exceptions import RedisError

from gateway.batches.state import FINISH_BATCH, OPEN_BATCH, PUT_OFF
from gateway.collections import BATCHES, ERASURES, FILES
from gateway.idempotency.seal import seal, unseal
from gateway.parts import Parts
from gateway.results.summary import summarise
from gateway.results.verdicts import undecided_result
from gateway.retention.blank import blank, spellings
from gateway.retention.forget_verdict import forget_verdict
from gateway.retention.suppress import suppress, suppression_key
from gateway.uploads.folder import export_folder, upload_folder
from shared.address import Address, parse_address
from shared.documents import Change, Document
from shared.logs import get_log
from shared.redis_keys import file_events
from shared.verdict import Reason

log = get_log("gateway.retention")

_TEXTS = ("table.csv", "batches.jsonl", "malformed.jsonl")  # beside the upload, in UTF-8


async def new_erasure(parts: Parts, org_id: str, erasure_id: str, address: Address) -> Document:
    """Suppress the address and write the request down. Repeatable for the same id."""
    await suppress(parts, org_id, address)
    key = await suppression_key(parts.settings)
    erasure: Document = {
        "_id": erasure_id,
        "orgId": org_id,
        "state": "running",
        "sealed": seal(address.given.encode(), key.hex(), erasure_id),
        "files": 0,
        "results": 0,
        "createdAt": time.time(),
        "finishedAt": None,
    }
    await parts.documents.insert(ERASURES, erasure)
    return await parts.documents.get(ERASURES, erasure_id) or erasure


async def carry_out(parts: Parts, erasure: Document) -> None:
    """Repeatable. Raises DocumentsUnavailable."""
    if erasure["state"] != "running":
        return
    key = await suppression_key(parts.settings)
    address = parse_address(unseal(erasure["sealed"], key.hex(), erasure["_id"]).decode())
    if not isinstance(address, Address):
        raise TypeError("an erasure is about an address")
    files = results = 0
    async for file in parts.documents.scan(FILES, {"orgId": erasure["orgId"]}, sort="createdAt"):
        if file.get("eraseState") == "done":
            continue
        on_disk, told = await _erase_from_file(parts, file, address)
        files, results = files + bool(on_disk or told), results + told
    await _forget(forget_verdict(parts.redis, parts.settings, erasure["orgId"], address))
    done = {"state": "done", "sealed": "", "files": files, "results": results, "finishedAt": time.time()}
    await parts.documents.update(ERASURES, erasure["_id"], Change(set=done), {"state": "running"})
    await parts.documents.scrub()
    parts.machine.eraser.erased.set()  # and Redis's file, by the sweep
    log.info("address_erased", erasure_id=erasure["_id"], files=files, results=results)


async def _erase_from_file(parts: Parts, file: Document, address: Address) -> tuple[int, int]:
    """In how many places of the upload it stood, and in how many results."""
    file_id = file["_id"]
    found = await asyncio.to_thread(_blank_folder, upload_folder(parts.settings, file_id), file, address)
    changed = 0
    batches = parts.documents.scan(BATCHES, {"fileId": file_id}, sort="no")
    async for batch in batches:
        changed += await _erase_from_batch(parts, batch, address)
    if found or changed:
        await asyncio.to_thread(_remove_exports, export_folder(parts.settings, file_id))
        await _forget(parts.redis.delete(file_events(file_id)))
        parts.machine.file_changed(file_id)
    return found, changed


def _blank_folder(folder: Path, file: Document, address: Address) -> int:
    words, table = spellings(address), file.get("table")
    found = sum(blank(folder / name, words, "utf-8") for name in _TEXTS)
    if table is None:
        return found
    if table["source"] == "upload":
        return found + blank(folder / "upload", words, table["encoding"])
    if found:
        (folder / "upload").unlink(missing_ok=True)  # a workbook or archive; `table.csv` has all that is read
    return found


def _remove_exports(folder: Path) -> None:
    """What is made again from the results at the next download."""
    for path in sorted(folder.rglob("*"), reverse=True) if folder.exists() else ():
        path.rmdir() if path.is_dir() else path.unlink(missing_ok=True)


async def _forget(in_redis: Awaitable[object]) -> None:
    try:
        await in_redis
    except RedisError as error:  # it ends by itself, by its time to live
        log.warning("redis_key_not_erased", error=type(error).__name__)


async def _erase_from_batch(parts: Parts, batch: Document | None, address: Address) -> int:
    while batch is not None:
        planned = without_address(batch, address, time.time())
        if planned is None:
            return 0
        change, count = planned
        same = {name: batch[name] for name in ("status", "look", "attempt", "recordedAt", "processedEmails")}
        if await parts.documents.update(BATCHES, batch["_id"], change, same) is not None:
            return count
        batch = await parts.documents.get(BATCHES, batch["_id"])
    return 0


def without_address(batch: Document, address: Address, now: float) -> tuple[Change, int] | None:
    """The update that takes the address out of a batch, and from how many places; None where it is not in it. Pure."""
    told = [at for at, result in enumerate(batch["results"]) if _names(result["email"], address)]
    waiting = {at for at, email in enumerate(batch["emails"]) if _names(email, address)}
    if not told and not waiting:
        return None
    results = list(batch["results"])
    for at in told:
        results[at] = _nameless(results[at], now)
    change: dict[str, Any] = {"results": results}
    if waiting:
        rows = [batch["rows"][at] for at in sorted(waiting)]
        results += [{**undecided_result("", Reason.SUPPRESSED, now), "row": row} for row in rows]
        left = [at for at in range(len(batch["emails"])) if at not in waiting]
        change |= {
            "emails": [batch["emails"][at] for at in left],
            "rows": [batch["rows"][at] for at in left],
            "processedEmails": len(results),
            "summary": batch["summary"] | _counts(summarise(results)),
            "recordedAt": now,
        }
        if batch["status"] in OPEN_BATCH and not left:
            change |= FINISH_BATCH.set
        elif batch["status"] in OPEN_BATCH:  # what is on its way does not fit the batch any more
            change |= {**PUT_OFF.set, "lookAttempt": batch["attempt"] + 1, "dueAt": now, "leaseUntil": 0.0}
    return Change(set=change), len(told) + len(waiting)


def _counts(summary: dict[str, Any]) -> dict[str, Any]:
    """Without the domains: those of nameless results are known no more, and stay as they were counted."""
    return {name: value for name, value in summary.items() if name != "domains"}


def _names(text: str, address: Address) -> bool:
    parsed = parse_address(text)
    if isinstance(parsed, Address):
        return parsed.key == address.key
    return any(word.casefold() in text.casefold() for word in spellings(address))


def _nameless(result: dict[str, Any], now: float) -> dict[str, Any]:
    empty = undecided_result("", Reason.SUPPRESSED, now)
    kept = {name: result[name] for name in ("status", "is_valid", "risk_level", "reason", "verify_status", "score")}
    return {**empty, **kept, "row": result["row"]}
