"""From planned rows to stored batches, before anything is published; and the moment a file begins to count.

Order: the FILES document is there with status `receiving` -> credits are held -> `store_batches` -> `accept_file`.
All of it can be repeated with the same input (ids come from the file's id and the batch's number). While batches are
being stored the file carries `aliveUntil`; repair removes a `receiving` file whose time has passed, with its hold.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import TYPE_CHECKING, Any

from gateway.batches.state import ACCEPT, BatchStatus, FileStatus
from gateway.collections import BATCHES, FILES
from gateway.results.summary import empty_summary, summarise
from gateway.results.verdicts import malformed_result, undecided_result
from gateway.retention.suppress import IsSuppressed
from gateway.uploads.plan import MalformedRow, PlannedBatch
from shared.documents import Change, Document, Documents, Missing
from shared.verdict import Reason

if TYPE_CHECKING:
    from gateway.parts import Parts

NEVER_SENT = 1.0  # seconds since the epoch: first looks are due before it
GOLDEN_RATIO = 0.618033988749895
CHUNK_ADDRESSES = 10_000  # addresses in memory at once while storing
MALFORMED_BATCH = 500  # malformed rows in one document
RECEIVING_LEASE = 60.0  # seconds a receiving file may be silent before it counts as abandoned

# What every accepted file begins with.
NOTHING_YET: dict[str, Any] = {
    "creditsCharged": 0,
    "completedBatches": 0,
    "processed": 0,
    "valid": 0,
    "invalid": 0,
    "risky": 0,
    "unknown": 0,
    "reasons": {},
    "domains": [],
    "settled": False,
    "failure": None,
}

Clock = Callable[[], float]


def receiving_file(
    file_id: str,
    org_id: str,
    *,
    kind: str,
    filename: str,
    created_at: float,
    total: int,
    unique: int,
    duplicates: int,
    malformed: int,
    callback_url: str | None = None,
    table: dict[str, Any] | None = None,
    trace: bool = False,
) -> Document:
    """A new FILES document, not yet visible to anybody. As many credits as `unique` are to be held for it."""
    return {
        "_id": file_id,
        "fileId": file_id,
        "orgId": org_id,
        "kind": kind,
        "filename": filename,
        "status": str(FileStatus.RECEIVING),
        "createdAt": created_at,
        "aliveUntil": created_at + RECEIVING_LEASE,
        "totalEmails": total,
        "uniqueEmails": unique,
        "duplicates": duplicates,
        "malformed": malformed,
        "creditsReserved": unique,
        "totalBatches": 0,
        **NOTHING_YET,
        "callbackUrl": callback_url,
        "table": table,
        "trace": trace,
    }


def batch_id(file_id: str, no: int) -> str:
    return f"{file_id}.{no:07d}"


def _pending(file_id: str, org_id: str, planned: PlannedBatch, look: int, due_at: float) -> Document:
    id_ = batch_id(file_id, planned.no)
    return {
        "_id": id_,
        "batchId": id_,
        "fileId": file_id,
        "orgId": org_id,
        "no": planned.no,
        "domain": _only_domain(planned.emails),
        "status": str(BatchStatus.PENDING),
        "attempt": 0,
        "lost": 0,
        "waits": 0,
        "look": look,
        "lookAttempt": 1,
        "dueAt": due_at + _apart(planned.no),
        "leaseUntil": 0.0,
        "recordedAt": 0.0,
        "emails": planned.emails,
        "rows": planned.rows,
        "processedEmails": 0,
        "results": [],
        "summary": empty_summary(),
    }


def _only_domain(emails: list[str]) -> str:
    """Those of one domain stand side by side, so the ends tell."""
    if not emails:
        return ""
    first, last = (email.rpartition("@")[2].lower() for email in (emails[0], emails[-1]))
    return first if first == last else ""


def _apart(no: int) -> float:
    """Seconds below one: neighbours in the list, which meet the same mail hosts, are sent far from one another.

    Multiples of the golden ratio lie evenly, however many of them are taken; so what is under way at any time is a fair
    sample of the list, and a domain that takes long begins early.
    """
    return no * GOLDEN_RATIO % NEVER_SENT


def _malformed(file_id: str, org_id: str, no: int, rows: list[MalformedRow], now: float) -> Document:
    results = [{**malformed_result(row.email, row.why, now), "row": row.row} for row in rows]
    document = _pending(file_id, org_id, PlannedBatch(no, [], []), 0, now)
    return document | {
        "status": str(BatchStatus.DONE),
        "recordedAt": now,
        "processedEmails": len(results),
        "results": results,
        "summary": summarise(results),
    }


def _without_suppressed(document: Document, suppressed: IsSuppressed, now: float) -> Document:
    pairs = list(zip(document["emails"], document["rows"], strict=True))
    out = {row for email, row in pairs if suppressed(email)}
    if not out:
        return document
    left = [(email, row) for email, row in pairs if row not in out]
    results = [{**undecided_result(email, Reason.SUPPRESSED, now), "row": row} for email, row in pairs if row in out]
    return document | {
        "status": str(BatchStatus.PENDING if left else BatchStatus.DONE),
        "recordedAt": now,
        "emails": [email for email, _ in left],
        "rows": [row for _, row in left],
        "processedEmails": len(results),
        "results": results,
        "summary": summarise(results),
    }


def _documents_of(
    file_id: str,
    org_id: str,
    batches: Iterable[PlannedBatch],
    malformed: Iterable[MalformedRow],
    *,
    now: float,
    look: int,
    due_at: float,
    suppressed: IsSuppressed | None,
) -> Iterator[Document]:
    no = 0
    for planned in batches:
        no = max(no, planned.no)
        document = _pending(file_id, org_id, planned, look, due_at)
        yield document if suppressed is None else _without_suppressed(document, suppressed, now)
    rows = iter(malformed)
    while chunk := list(islice(rows, MALFORMED_BATCH)):
        no += 1
        yield _malformed(file_id, org_id, no, chunk, now)


async def store_batches(
    documents: Documents,
    file_id: str,
    org_id: str,
    batches: Iterable[PlannedBatch],
    malformed: Iterable[MalformedRow] = (),
    *,
    look: int = 0,
    due_at: float = 0.0,
    suppressed: IsSuppressed | None = None,
    trace: bool = False,
    clock: Clock = time.time,
) -> int:
    """Insert the batches of a `receiving` file, and its malformed rows as batches that are done; how many that are.

    The iterables are read in chunks of CHUNK_ADDRESSES and may read from disk. `look` and `due_at` (seconds since the
    epoch) are those of addresses that were put off once already. Addresses that are `suppressed` get their result here
    and are never asked about. `trace`: their results tell every step. Repeatable; raises DocumentsUnavailable.
    """
    total = 0
    chunk: list[Document] = []
    addresses = 0
    planned = _documents_of(
        file_id, org_id, batches, malformed, now=clock(), look=look, due_at=due_at, suppressed=suppressed
    )
    for document in planned:
        if trace:
            document["trace"] = True
        chunk.append(document)
        addresses += len(document["emails"]) + len(document["results"])
        total += 1
        if addresses >= CHUNK_ADDRESSES:
            await documents.insert_many(BATCHES, chunk)
            await _stay_alive(documents, file_id, clock)
            chunk, addresses = [], 0
    if chunk:
        await documents.insert_many(BATCHES, chunk)
    return total


async def _stay_alive(documents: Documents, file_id: str, clock: Clock) -> None:
    alive = Change(set={"aliveUntil": clock() + RECEIVING_LEASE})
    await documents.update(FILES, file_id, alive, ACCEPT.where)


async def accept_file(parts: Parts, file_id: str, total_batches: int) -> Document | None:
    """`receiving` -> `queued`: from here on the file is the dispatcher's. None where it was given up meanwhile."""
    expires_at = time.time() + parts.settings.retention_days * 86_400.0
    start = {**NOTHING_YET, "totalBatches": total_batches, "expiresAt": expires_at}
    change = Change(set={**ACCEPT.set, **start}, unset=("aliveUntil", "wasReady"))
    unless_given_up = {**ACCEPT.where, "eraseState": Missing()}
    accepted = await parts.documents.update(FILES, file_id, change, unless_given_up)
    if accepted is not None:
        parts.machine.file_changed(file_id)
    return accepted
