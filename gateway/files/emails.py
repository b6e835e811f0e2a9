"""A file's results, page by page, in the order of its batches.

The place in the list is (batch number, position in the batch): both never change, so pages taken while the file runs
neither repeat nor reorder; results that come in behind the place are seen by listing again. Batches without a fitting
status are left out by their summary. A search has to read every batch, so a page is cut after READ_AT_MOST of them and
may hold fewer items than asked for while `nextCursor` still leads on.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from gateway.collections import BATCHES
from gateway.cursor import read_cursor, write_cursor
from gateway.problem import Problem
from shared.documents import Documents, Gte

READ_AT_MOST = 20  # batches read for one page
_POSITIONS = 100_000  # more than results in any batch


class Place(NamedTuple):
    """Where a page begins."""

    no: int = 0
    position: int = 0


class Filter(NamedTuple):
    """`q` is looked for in the address, case ignored."""

    status: str | None = None
    q: str | None = None

    def wants(self, result: dict[str, Any]) -> bool:
        if self.status is not None and result["status"] != self.status:
            return False
        return self.q is None or self.q.casefold() in result["email"].casefold()


def write_place(place: Place, file_id: str) -> str:
    """The cursor of a place."""
    return write_cursor(place.no * _POSITIONS + place.position, file_id)


def read_place(cursor: str | None) -> Place:
    """Raises Problem 400 for a cursor of another list."""
    if cursor is None:
        return Place()
    number, _ = read_cursor(cursor)
    if not isinstance(number, int) or number < 0:
        raise Problem(400, "cursor_malformed", "This cursor is none of this list.", field="cursor")
    return Place(*divmod(number, _POSITIONS))


async def read_emails(
    documents: Documents, file_id: str, wanted: Filter, start: Place, limit: int
) -> tuple[list[dict[str, Any]], Place | None]:
    """Up to `limit` results from `start`, and where the next page begins (None: there is nothing more)."""
    items: list[dict[str, Any]] = []
    read = 0
    stubs = documents.scan(
        BATCHES,
        {"fileId": file_id, "no": Gte(start.no)},
        sort="no",
        fields=("no", "processedEmails", "summary"),
    )
    async for stub in stubs:
        no = stub["no"]
        if not stub["processedEmails"] or (wanted.status is not None and not stub["summary"][wanted.status]):
            continue
        if read == READ_AT_MOST:
            return items, Place(no, 0)
        read += 1
        batch = await documents.get(BATCHES, stub["_id"])
        results = [] if batch is None else batch["results"]
        for position in range(start.position if no == start.no else 0, len(results)):
            if wanted.wants(results[position]):
                if len(items) == limit:
                    return items, Place(no, position)
                items.append(results[position])
    return items, None
