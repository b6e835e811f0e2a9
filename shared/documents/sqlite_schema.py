"""Tables of the embedded document store: the document as JSON bytes, and a column for each declared field.

Column names of SQLite ignore case, so two declared fields may not differ by case alone.
"""

# ruff: noqa: S608 - names in statements come from declared collections and are quoted; values are always parameters

from __future__ import annotations

import sqlite3
from collections.abc import Sequence

import orjson

from shared.documents import Collection
from shared.documents.where import column, quoted, refuse_undeclared


def index_name(collection: Collection, fields: Sequence[str]) -> str:
    return quoted(".".join((collection.name, *fields)))


def create(connection: sqlite3.Connection, collection: Collection) -> None:
    """Table and indexes, repeatable. A field declared since the table was made gets its column filled."""
    table = quoted(collection.name)
    columns = "".join(f", {quoted(name)}" for name in collection.indexed)
    connection.execute("BEGIN IMMEDIATE")
    connection.execute(f"CREATE TABLE IF NOT EXISTS {table} (_id TEXT NOT NULL PRIMARY KEY{columns}, doc BLOB)")
    present = {row[1] for row in connection.execute(f"PRAGMA table_info({table})")}
    for name in collection.indexed:
        if name not in present:
            connection.execute(f"ALTER TABLE {table} ADD COLUMN {quoted(name)}")
            _fill(connection, collection, name)
    for fields in collection.indexes:
        refuse_undeclared(collection, fields)
        indexed = ", ".join(map(quoted, (*fields, "_id")))
        connection.execute(f"CREATE INDEX IF NOT EXISTS {index_name(collection, fields)} ON {table} ({indexed})")
    connection.execute("COMMIT")


def _fill(connection: sqlite3.Connection, collection: Collection, name: str) -> None:
    table = quoted(collection.name)
    select = f"SELECT doc FROM {table} WHERE rowid = ?"
    statement = f"UPDATE {table} SET {quoted(name)} = ? WHERE rowid = ?"
    for (rowid,) in connection.execute(f"SELECT rowid FROM {table}").fetchall():
        (doc,) = connection.execute(select, (rowid,)).fetchone()
        connection.execute(statement, (column(orjson.loads(doc), name), rowid))
