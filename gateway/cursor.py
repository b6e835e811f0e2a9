"""Pages: `?cursor=&limit=` in, `{items, nextCursor}` out.

A cursor is where the last page ended: the sort value and id of its last document. It carries no right: the query that
it continues is scoped by the caller's organisation as every query is.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Mapping
from typing import Annotated, Any

import orjson
from fastapi import Query

from gateway.problem import Problem
from shared.documents import Collection, Document, Documents, Where

Limit = Annotated[int, Query(ge=1, le=1_000, description="Items on a page.")]
Cursor = Annotated[str | None, Query(max_length=512, description="The `nextCursor` of the page before.")]
DEFAULT_LIMIT = 50
_LARGEST = 2**53  # no store has trouble with numbers below


def write_cursor(sort_value: Any, id_: str) -> str:
    return base64.urlsafe_b64encode(orjson.dumps([sort_value, id_])).decode().rstrip("=")


def read_cursor(cursor: str) -> tuple[str | int | float, str]:
    """Raises Problem 400 for what `write_cursor` did not make."""
    try:
        decoded = orjson.loads(base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True))
    except (binascii.Error, ValueError):
        raise _malformed() from None
    match decoded:
        case [str() as value, str() as id_]:
            return value, id_
        case [int() | float() as value, str() as id_] if not isinstance(value, bool) and abs(value) < _LARGEST:
            return value, id_
    raise _malformed()


async def read_page(
    documents: Documents,
    collection: Collection,
    where: Where,
    show: Callable[[Document], Mapping[str, Any]],
    *,
    sort: str,
    cursor: str | None,
    limit: int,
) -> dict[str, Any]:
    """`{items, nextCursor}`, the highest `sort` first; `nextCursor` is null on the last page. Raises Problem 400."""
    after = None if cursor is None else read_cursor(cursor)
    found = [
        document
        async for document in documents.scan(
            collection, where, sort=sort, descending=True, after=after, limit=limit + 1
        )
    ]
    more = len(found) > limit
    page = found[:limit]
    return {
        "items": [show(document) for document in page],
        "nextCursor": write_cursor(page[-1][sort], page[-1]["_id"]) if more else None,
    }


def _malformed() -> Problem:
    return Problem(400, "cursor_malformed", "This cursor is none of ours; start again without one.", field="cursor")
