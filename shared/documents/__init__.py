"""The documents seam: insert, get, conditional update, replace, ordered scans. One document is the unit of atomicity.

Two implementations meet it: `shared.documents.mongodb` (motor) and `shared.documents.sqlite` (embedded). One contract
suite, `tests/integration/test_documents_contract.py`, runs over both.

A document is a JSON object (str keys without `$`, values: null, bool, int up to 64 bit, float, str, list, object) with
a string `_id`. Keys of objects may hold dots, except inside lists. Times are float seconds since the epoch. Field paths
may be dotted (`holds.abc`) and go through objects only. `scan`, `count` and `delete_many` take only fields that the
collection declares in `indexed`, and no lists in them; both sides refuse others with ValueError, so a slow scan cannot
creep in. A change that does not fit the document (counting up a string) is a ValueError and changes nothing.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Protocol, Self

Document = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Collection:
    """`indexed`: fields that may be filtered, sorted or projected cheaply. `indexes`: compound indexes, in order."""

    name: str
    indexed: tuple[str, ...] = ()
    indexes: tuple[tuple[str, ...], ...] = ()


@dataclass(frozen=True, slots=True)
class In:
    values: tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class Ne:
    """Not equal; on a list: does not contain. A missing field is not equal to any value."""

    value: Any


@dataclass(frozen=True, slots=True)
class Lt:
    value: Any


@dataclass(frozen=True, slots=True)
class Lte:
    value: Any


@dataclass(frozen=True, slots=True)
class Gt:
    value: Any


@dataclass(frozen=True, slots=True)
class Gte:
    value: Any


@dataclass(frozen=True, slots=True)
class Missing:
    """The field is not there (null counts as there)."""


# A condition per field path; all must hold. A bare value means equal. A field that is missing or of another type never
# satisfies Lt, Lte, Gt, Gte. A tuple of conditions means all of them: {"dueAt": (Gt(1.0), Lte(2.0))}.
Condition = Any
Where = Mapping[str, Condition]


@dataclass(frozen=True, slots=True)
class Change:
    """What an update does, in one atomic step. `push` appends to a list that is made when missing."""

    set: Mapping[str, Any] = field(default_factory=dict)
    inc: Mapping[str, int | float] = field(default_factory=dict)
    push: Mapping[str, Any] = field(default_factory=dict)
    unset: Sequence[str] = ()


class Documents(Protocol):
    """Every method raises DocumentsUnavailable when the store does not answer."""

    async def __aenter__(self) -> Self:
        """Connect; create collections and indexes (repeatable). Raises DocumentsUnavailable."""

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    async def insert(self, collection: Collection, document: Document) -> bool:
        """Durable when it returns. False when the `_id` is taken (nothing changed)."""

    async def insert_many(self, collection: Collection, documents: Sequence[Document]) -> int:
        """Insert those whose `_id` is free, in order, each atomic; how many that were."""

    async def get(self, collection: Collection, id_: str) -> Document | None: ...

    async def update(
        self, collection: Collection, id_: str, change: Change, where: Where | None = None
    ) -> Document | None:
        """Apply `change` if the document exists and meets `where` (any field). The new document, or None if not."""

    async def replace(self, collection: Collection, document: Document) -> None:
        """Insert, or replace the document with the same `_id`."""

    async def delete(self, collection: Collection, id_: str) -> bool: ...

    async def delete_many(self, collection: Collection, where: Where) -> int: ...

    async def count(self, collection: Collection, where: Where) -> int: ...

    def scan(
        self,
        collection: Collection,
        where: Where,
        *,
        sort: str = "_id",
        descending: bool = False,
        after: tuple[Any, str] | None = None,
        limit: int | None = None,
        fields: Sequence[str] | None = None,
    ) -> AsyncIterator[Document]:
        """Documents that meet `where`, ordered by (`sort`, `_id`), streamed in constant memory.

        Not a snapshot: it sees what changes behind its cursor while it runs. Documents with neither a number nor a
        string in the `sort` field are left out. `after`: the (sort value, _id) of the last document already seen.
        `fields`: only these top-level fields and `_id`; where all are declared `indexed`, the documents themselves are
        not read.
        """

    async def scrub(self) -> None:
        """Make sure that nothing of what was deleted or changed before this call is left in our own files.

        For a server that keeps its own files: nothing to do here. May be repeated, and take as long as much was
        deleted.
        """

    async def check(self) -> None:
        """Raises DocumentsUnavailable unless a round trip works now."""
