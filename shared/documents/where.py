"""What conditions and changes mean: judged on a document in Python, or translated to SQL over declared columns.

The MongoDB side leaves both to its server; the contract suite holds the two to the same meaning.

A column of the embedded store keeps a field so that SQLite's own comparison is right: absent is NULL, numbers and
strings are themselves, everything else (null, booleans, lists, objects) is a BLOB of its JSON. Paths go through objects
only, never into lists by position.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import orjson

from shared.documents import Change, Collection, Condition, Document, Gt, Gte, In, Lt, Lte, Missing, Ne, Where

ABSENT = object()
_ORDERED: dict[type, tuple[str, Callable[[Any, Any], bool]]] = {
    Lt: ("<", lambda a, b: a < b),
    Lte: ("<=", lambda a, b: a <= b),
    Gt: (">", lambda a, b: a > b),
    Gte: (">=", lambda a, b: a >= b),
}


class Sql(NamedTuple):
    """A boolean expression and its parameters."""

    text: str
    values: list[Any]


def conditions(where: Where) -> Iterator[tuple[str, Condition]]:
    """Each (path, single condition) of `where`; tuples taken apart."""
    for path, condition in where.items():
        if isinstance(condition, tuple):
            for one in condition:
                yield path, one
        else:
            yield path, condition


def kind(value: Any) -> str | None:
    """'number' or 'text' for what has an order, else None."""
    if isinstance(value, str):
        return "text"
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return "number"
    return None


def ordered_operand(condition: Lt | Lte | Gt | Gte) -> Any:
    """The value of a range condition. Raises ValueError for one that has no order."""
    if kind(condition.value) is None:
        raise ValueError(f"{type(condition).__name__} needs a number or a string")
    return condition.value


def refuse_undeclared(collection: Collection, names: Sequence[str]) -> None:
    """Raises ValueError for a field that would need a slow scan."""
    for name in names:
        if name != "_id" and name not in collection.indexed:
            raise ValueError(f"{collection.name}.{name} is not declared as indexed")


# --- in Python ---
def look_up(document: Document, path: str) -> Any:
    """The value at a dotted path, or ABSENT."""
    found: Any = document
    for step in path.split("."):
        if not isinstance(found, dict) or step not in found:
            return ABSENT
        found = found[step]
    return found


def matches(document: Document, where: Where) -> bool:
    return all(_holds(look_up(document, path), condition) for path, condition in conditions(where))


def _holds(found: Any, condition: Condition) -> bool:
    if isinstance(condition, Missing):
        return found is ABSENT
    if isinstance(condition, Ne):
        return found is ABSENT or not _equal(found, condition.value)
    if found is ABSENT:
        return False
    if isinstance(condition, In):
        return any(_equal(found, value) for value in condition.values)
    if isinstance(condition, (Lt, Lte, Gt, Gte)):
        operand = ordered_operand(condition)
        compare = _ORDERED[type(condition)][1]
        return any(kind(one) == kind(operand) and compare(one, operand) for one in _candidates(found))
    return _equal(found, condition)


def _equal(found: Any, wanted: Any) -> bool:
    return any(_column(one) == _column(wanted) for one in _candidates(found))


def _candidates(found: Any) -> list[Any]:
    """A list stands for itself and for each of its members."""
    return [found, *found] if isinstance(found, list) else [found]


# --- change ---
def apply(change: Change, document: Document) -> None:
    """Change `document` in place. Raises ValueError where a path runs through a non-object or a type does not fit."""
    for path, value in change.set.items():
        holder, name = _holder(document, path)
        holder[name] = value
    for path, value in change.inc.items():
        holder, name = _holder(document, path)
        before = holder.get(name, 0)
        if kind(before) != "number":
            raise ValueError(f"{path} is not a number")
        holder[name] = before + value
    for path, value in change.push.items():
        holder, name = _holder(document, path)
        entries = holder.setdefault(name, [])
        if not isinstance(entries, list):
            raise ValueError(f"{path} is not a list")  # noqa: TRY004 - the data's fault, not the caller's code
        entries.append(value)
    for path in change.unset:
        parent, _, name = path.rpartition(".")
        found = look_up(document, parent) if parent else document
        if isinstance(found, dict):
            found.pop(name, None)


def _holder(document: Document, path: str) -> tuple[Document, str]:
    """The object that holds the last step of `path`, made where missing."""
    *parents, name = path.split(".")
    if path == "_id":
        raise ValueError("_id never changes")
    holder = document
    for step in parents:
        holder = holder.setdefault(step, {})
        if not isinstance(holder, dict):
            raise ValueError(f"{path} runs through a non-object")  # noqa: TRY004 - the data's fault, as above
    return holder, name


# --- in SQL ---
def quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _column(value: Any) -> Any:
    return value if kind(value) is not None else orjson.dumps(value)


def column(document: Document, path: str) -> Any:
    """What the column of `path` keeps for `document`."""
    found = look_up(document, path)
    return None if found is ABSENT else _column(found)


def from_column(stored: Any) -> Any:
    return orjson.loads(stored) if isinstance(stored, bytes) else stored


def to_sql(collection: Collection, where: Where) -> Sql:
    """All of `where`. Raises ValueError for a field that is not declared."""
    refuse_undeclared(collection, list(where))
    parts = [_condition_sql(quoted(path), condition) for path, condition in conditions(where)]
    if not parts:
        return Sql("1", [])
    return Sql(" AND ".join(part.text for part in parts), [value for part in parts for value in part.values])


def _condition_sql(name: str, condition: Condition) -> Sql:
    if isinstance(condition, Missing):
        return Sql(f"{name} IS NULL", [])
    if isinstance(condition, Ne):
        return Sql(f"{name} IS NOT ?", [_column(condition.value)])
    if isinstance(condition, In):
        marks = ",".join("?" * len(condition.values))
        return Sql(f"{name} IN ({marks})", [_column(value) for value in condition.values])
    if isinstance(condition, (Lt, Lte, Gt, Gte)):
        operand = ordered_operand(condition)
        types = "('text')" if isinstance(operand, str) else "('integer','real')"
        return Sql(f"({name} {_ORDERED[type(condition)][0]} ? AND typeof({name}) IN {types})", [operand])
    return Sql(f"{name} = ?", [_column(condition)])
