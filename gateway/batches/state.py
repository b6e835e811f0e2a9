"""The states of a batch and of a file, as two tables of moves. Nobody changes a state except through a move from here.

A batch is `pending -> dispatched -> done`. It goes back to `pending` when the broker did not confirm it, when its lease
ran out, or when some of its addresses were put off; it is `cancelled` with its file. A result that arrives while the
batch is `pending` again (the broker had it after all) counts as well, so the recording moves start from both.

A file is `receiving` until its batches are stored (`ready` before that, where its owner wanted to look first), then
`queued`, `processing` or `paused`. `settling` is inside only
(callers see the state it came from): whoever moves a file there has written down the outcome, and every step after that
can be repeated by anybody, so a crash between the last result and the money leaves nothing half done.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from shared.documents import In


class BatchStatus(StrEnum):
    PENDING = "pending"
    DISPATCHED = "dispatched"
    DONE = "done"
    CANCELLED = "cancelled"


class FileStatus(StrEnum):
    RECEIVING = "receiving"  # being stored; not shown to anybody
    READY = "ready"  # analysed, waits for its owner to start it; nothing is stored but the upload
    QUEUED = "queued"
    PROCESSING = "processing"
    PAUSED = "paused"
    SETTLING = "settling"  # the outcome is fixed, the money moves; shown as processing
    COMPLETED = "completed"
    CANCELLED = "cancelled"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Move:
    """A change of state: goes into an update as `where={**move.where, ...}` and `set={**move.set, ...}`."""

    sources: frozenset[str]
    target: str

    @property
    def where(self) -> dict[str, Any]:
        return {"status": In(tuple(sorted(self.sources)))}

    @property
    def set(self) -> dict[str, Any]:
        return {"status": str(self.target)}


def _move(target: StrEnum, *sources: StrEnum) -> Move:
    return Move(frozenset(str(source) for source in sources), str(target))


_B, _F = BatchStatus, FileStatus

DISPATCH = _move(_B.DISPATCHED, _B.PENDING)
TAKE_BACK = _move(_B.PENDING, _B.DISPATCHED)  # not confirmed, or the lease ran out
PUT_OFF = _move(_B.PENDING, _B.PENDING, _B.DISPATCHED)  # some addresses need a second look
FINISH_BATCH = _move(_B.DONE, _B.PENDING, _B.DISPATCHED)
CANCEL_BATCH = _move(_B.CANCELLED, _B.PENDING, _B.DISPATCHED)
BATCH_MOVES = (DISPATCH, TAKE_BACK, PUT_OFF, FINISH_BATCH, CANCEL_BATCH)

TAKE_IN = _move(_F.RECEIVING, _F.READY)
PUT_BACK = _move(_F.READY, _F.RECEIVING)  # the start of a ready file was cut off
DISCARD = _move(_F.CANCELLED, _F.READY)
ACCEPT = _move(_F.QUEUED, _F.RECEIVING)
START = _move(_F.PROCESSING, _F.QUEUED)
PAUSE = _move(_F.PAUSED, _F.QUEUED, _F.PROCESSING)
RESUME = _move(_F.PROCESSING, _F.PAUSED)
SETTLE = _move(_F.SETTLING, _F.QUEUED, _F.PROCESSING, _F.PAUSED)
CLOSE = {
    outcome: _move(outcome, _F.SETTLING) for outcome in (_F.COMPLETED, _F.CANCELLED, _F.FAILED)
}  # by the outcome written down when the file moved to settling
FILE_MOVES = (TAKE_IN, PUT_BACK, DISCARD, ACCEPT, START, PAUSE, RESUME, SETTLE, *CLOSE.values())

OPEN_BATCH = frozenset(CANCEL_BATCH.sources)
RUNNING_FILE = frozenset(SETTLE.sources)
TERMINAL_FILE = frozenset(str(outcome) for outcome in CLOSE)


def shown(status: str) -> str:
    """The status a caller sees."""
    return str(FileStatus.PROCESSING) if status == FileStatus.SETTLING else status
