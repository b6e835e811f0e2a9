"""The embedded document store: one SQLite file, one writing thread, short reads on threads of their own.

Writes that wait together are committed together: the writer takes all that are queued, applies them in order in one
transaction and answers them after the commit. An update is read, judged and written inside that one thread, which makes
it atomic. A failing transaction fails every write in it with DocumentsUnavailable and leaves no trace of any.

What was answered survives the death of the process (`kill -9`); a power cut may take back the last moments, never more,
and never damages the file (WAL, synchronous=NORMAL).

A scan reads page by page, each page a short query of its own that goes on behind the last document seen: constant
memory, and a slow reader holds no snapshot that would keep the log from being folded back. So a scan sees changes made
behind its cursor while it runs, as MongoDB's does.
"""

# ruff: noqa: S608 - names in statements come from declared collections and are quoted; values are always parameters

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

import orjson

from shared.documents import Change, Collection, Document, Where
from shared.documents.sqlite_schema import create, index_name
from shared.documents.sqlite_scrub import drop_filler, fold_log, overwrite_free_pages, write_anew
from shared.documents.sqlite_writer import Writer
from shared.documents.where import (
    Sql,
    apply,
    column,
    from_column,
    matches,
    quoted,
    refuse_undeclared,
    to_sql,
)
from shared.errors import DocumentsUnavailable

T = TypeVar("T")

_READERS = 2
_PAGE_WHOLE = 16  # documents a page: up to a few MB
_PAGE_COVERED = 1_000  # rows a page
_DELETE_STEP = 200  # documents a transaction, so that other writes get in between
_BUSY_SECONDS = 5.0


class SqliteDocuments:
    """`Documents` in the file at `path`, whose folder is made when missing. `collections`: every one that is used."""

    def __init__(self, path: Path, collections: Sequence[Collection]) -> None:
        self._path = path
        self._collections = tuple(collections)
        self._writer: Writer | None = None
        self._readers: ThreadPoolExecutor | None = None
        self._local = threading.local()
        self._reading: list[sqlite3.Connection] = []

    async def __aenter__(self) -> Self:
        self._readers = ThreadPoolExecutor(_READERS, thread_name_prefix="documents-read")
        try:
            connection = await self._read(self._prepare)
        except BaseException:
            self._readers.shutdown()
            raise
        self._writer = Writer(connection, asyncio.get_running_loop())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        writer, readers = self._writer, self._readers
        self._writer = self._readers = None
        if writer is not None:
            await asyncio.to_thread(writer.close)
        if readers is not None:
            await asyncio.to_thread(readers.shutdown)
        for connection in self._reading:
            connection.close()
        self._reading.clear()

    def _prepare(self) -> sqlite3.Connection:
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise DocumentsUnavailable(
                f"cannot make the folder of {self._path}: {error.strerror}", setting="MAILVET_DATA_DIR"
            ) from error
        connection = sqlite3.connect(
            self._path, timeout=_BUSY_SECONDS, isolation_level=None, check_same_thread=False, cached_statements=256
        )
        try:
            connection.execute("PRAGMA page_size=16384")  # documents are tens to hundreds of KB
            connection.execute("PRAGMA journal_mode=WAL")
            connection.execute("PRAGMA synchronous=NORMAL")
            connection.execute("PRAGMA secure_delete=FAST")  # pages left over are the business of `scrub`
            connection.execute("PRAGMA cache_size=-16000")
            connection.execute("PRAGMA journal_size_limit=67108864")
            for collection in self._collections:
                create(connection, collection)
        except BaseException:
            connection.close()
            raise
        return connection

    # --- writes ---
    async def _write(self, job: Callable[[sqlite3.Connection], T]) -> T:
        if self._writer is None:
            raise DocumentsUnavailable("the document store is closed")
        return await self._writer.submit(job)

    async def insert(self, collection: Collection, document: Document) -> bool:
        return await self.insert_many(collection, [document]) == 1

    async def insert_many(self, collection: Collection, documents: Sequence[Document]) -> int:
        rows = [_row(collection, document) for document in documents]
        statement = _insert_sql(collection, "INSERT OR IGNORE")
        if not rows:
            return 0
        return await self._write(lambda connection: connection.executemany(statement, rows).rowcount)

    async def replace(self, collection: Collection, document: Document) -> None:
        row = _row(collection, document)
        statement = _insert_sql(collection, "INSERT OR REPLACE")
        await self._write(lambda connection: connection.execute(statement, row))

    async def update(
        self, collection: Collection, id_: str, change: Change, where: Where | None = None
    ) -> Document | None:
        names = ["doc", *collection.indexed]
        select = f"SELECT doc FROM {quoted(collection.name)} WHERE _id = ?"
        assign = ", ".join(f"{quoted(name)} = ?" for name in names)
        statement = f"UPDATE {quoted(collection.name)} SET {assign} WHERE _id = ?"

        def job(connection: sqlite3.Connection) -> Document | None:
            row = connection.execute(select, (id_,)).fetchone()
            if row is None:
                return None
            document: Document = orjson.loads(row[0])
            if where is not None and not matches(document, where):
                return None
            apply(change, document)
            columns = [column(document, name) for name in collection.indexed]
            connection.execute(statement, (orjson.dumps(document), *columns, id_))
            return document

        return await self._write(job)

    async def delete(self, collection: Collection, id_: str) -> bool:
        statement = f"DELETE FROM {quoted(collection.name)} WHERE _id = ?"
        return await self._write(lambda connection: connection.execute(statement, (id_,)).rowcount) == 1

    async def delete_many(self, collection: Collection, where: Where) -> int:
        table, condition = quoted(collection.name), to_sql(collection, where)
        chosen = f"SELECT rowid FROM {table} WHERE {condition.text} LIMIT {_DELETE_STEP}"
        statement = f"DELETE FROM {table} WHERE rowid IN ({chosen})"
        deleted = 0
        while True:
            step = await self._write(lambda connection: connection.execute(statement, condition.values).rowcount)
            deleted += step
            if step < _DELETE_STEP:
                return deleted

    # --- reads ---
    async def _read(self, job: Callable[[], T]) -> T:
        if self._readers is None:
            raise DocumentsUnavailable("the document store is closed")
        try:
            return await asyncio.get_running_loop().run_in_executor(self._readers, job)
        except sqlite3.Error as error:
            raise DocumentsUnavailable(f"the document store failed: {error}", setting="MAILVET_DATA_DIR") from error

    def _rows(self, statement: str, values: Sequence[Any]) -> list[tuple[Any, ...]]:
        connection: sqlite3.Connection | None = getattr(self._local, "connection", None)
        if connection is None:
            connection = sqlite3.connect(
                self._path, timeout=_BUSY_SECONDS, isolation_level=None, check_same_thread=False
            )
            connection.execute("PRAGMA query_only=1")
            self._local.connection = connection
            self._reading.append(connection)
        return connection.execute(statement, values).fetchall()

    async def get(self, collection: Collection, id_: str) -> Document | None:
        statement = f"SELECT doc FROM {quoted(collection.name)} WHERE _id = ?"

        def job() -> Document | None:
            rows = self._rows(statement, (id_,))
            return orjson.loads(rows[0][0]) if rows else None

        return await self._read(job)

    async def count(self, collection: Collection, where: Where) -> int:
        condition = to_sql(collection, where)
        statement = f"SELECT count(*) FROM {quoted(collection.name)} WHERE {condition.text}"
        rows = await self._read(lambda: self._rows(statement, condition.values))
        return int(rows[0][0])

    async def scan(
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
        refuse_undeclared(collection, [sort])
        condition = to_sql(collection, where)
        covered = fields is not None and all(name == "_id" or name in collection.indexed for name in fields)
        wanted = [name for name in fields if name != "_id"] if covered and fields is not None else ["doc"]
        page = _PAGE_COVERED if covered else _PAGE_WHOLE
        table = quoted(collection.name) + (_covering(collection, where, sort, wanted) if covered else "")
        left = limit
        while left is None or left > 0:
            size = page if left is None else min(page, left)
            statement, values = _page_sql(table, condition, wanted, sort, after, size, descending=descending)
            rows = await self._read(lambda s=statement, v=values: self._rows(s, v))  # type: ignore[misc]
            for row in rows:
                yield _covered(row, wanted) if covered else _whole(row, fields)
            if len(rows) < size:
                return
            after = (rows[-1][1], rows[-1][0])
            left = None if left is None else left - size

    async def scrub(self) -> None:
        """Overwrite what is free in the file, write it anew where it is time, and fold the log back into it."""
        while await self._write(overwrite_free_pages):
            continue
        await self._write(drop_filler)
        await self._write(write_anew)
        await self._read(lambda: fold_log(self._path, _BUSY_SECONDS))

    async def check(self) -> None:
        await self._read(lambda: self._rows("SELECT count(*) FROM sqlite_master", ()))
        await self._write(lambda connection: connection.execute("PRAGMA user_version").fetchone())


def _row(collection: Collection, document: Document) -> tuple[Any, ...]:
    if not isinstance(document.get("_id"), str):
        raise ValueError("_id must be a string")  # noqa: TRY004 - one kind of error for everything that does not fit
    return (document["_id"], *(column(document, name) for name in collection.indexed), orjson.dumps(document))


def _insert_sql(collection: Collection, verb: str) -> str:
    names = ["_id", *collection.indexed, "doc"]
    marks = ",".join("?" * len(names))
    return f"{verb} INTO {quoted(collection.name)} ({','.join(map(quoted, names))}) VALUES ({marks})"


def _covering(collection: Collection, where: Where, sort: str, wanted: Sequence[str]) -> str:
    """An index that holds all a scan needs. Without statistics SQLite may prefer a shorter one and then read rows."""
    needed = {sort, *where, *wanted} - {"_id"}
    for fields in collection.indexes:
        if needed <= set(fields) and (fields[0] in where or fields[0] == sort):
            return f" INDEXED BY {index_name(collection, fields)}"
    return ""


def _page_sql(  # noqa: PLR0917 - the parts of one statement
    table: str,
    condition: Sql,
    wanted: Sequence[str],
    sort: str,
    after: tuple[Any, str] | None,
    size: int,
    *,
    descending: bool,
) -> tuple[str, list[Any]]:
    by, direction, beyond = quoted(sort), ("DESC" if descending else "ASC"), ("<" if descending else ">")
    text, values = condition.text, list(condition.values)
    if sort != "_id":
        text += f" AND typeof({by}) IN ('integer','real','text')"
    if after is not None:
        text += f" AND _id {beyond} ?" if sort == "_id" else f" AND ({by}, _id) {beyond} (?, ?)"
        values += [after[1]] if sort == "_id" else [after[0], after[1]]
    order = f"_id {direction}" if sort == "_id" else f"{by} {direction}, _id {direction}"
    columns = ", ".join(map(quoted, ["_id", sort, *wanted]))
    return f"SELECT {columns} FROM {table} WHERE {text} ORDER BY {order} LIMIT {size}", values


def _covered(row: Sequence[Any], wanted: Sequence[str]) -> Document:
    document: Document = {"_id": row[0]}
    for name, stored in zip(wanted, row[2:], strict=True):
        if stored is not None:
            document[name] = from_column(stored)
    return document


def _whole(row: Sequence[Any], fields: Sequence[str] | None) -> Document:
    document: Document = orjson.loads(row[2])
    if fields is None:
        return document
    return {name: document[name] for name in ("_id", *fields) if name in document}
