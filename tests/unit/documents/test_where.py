"""Conditions judged in Python and by SQLite must never disagree, whatever the document."""

from __future__ import annotations

import sqlite3
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.documents import Change, Collection, Gt, Gte, In, Lt, Lte, Missing, Ne
from shared.documents.where import apply, column, from_column, look_up, matches, to_sql

THINGS = Collection("Things", indexed=("f", "deep.f"))

scalars = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"]), max_size=5)
    | st.sampled_from([0, 1, 0.0, 1.0, "", "0", "1"])
)
values = scalars | st.dictionaries(st.sampled_from("ab"), scalars, max_size=2)
ordered = scalars.filter(lambda value: value is not None and not isinstance(value, bool))
singles = (
    values
    | st.just(Missing())
    | st.builds(Ne, values)
    | st.builds(In, st.lists(values, max_size=3).map(tuple))
    | st.builds(Lt, ordered)
    | st.builds(Lte, ordered)
    | st.builds(Gt, ordered)
    | st.builds(Gte, ordered)
)
documents = st.fixed_dictionaries({}, optional={"f": values})


def sqlite_says(document: dict[str, Any], where: dict[str, Any]) -> bool:
    condition = to_sql(THINGS, where)
    connection = sqlite3.connect(":memory:")
    connection.execute('CREATE TABLE t ("f")')
    connection.execute("INSERT INTO t VALUES (?)", (column(document, "f"),))
    (count,) = connection.execute(f"SELECT count(*) FROM t WHERE {condition.text}", condition.values).fetchone()  # noqa: S608 - made by the code under test
    connection.close()
    return bool(count)


@given(documents, singles | st.tuples(singles, singles))
def test_python_and_sqlite_agree_on_every_condition(document: dict[str, Any], condition: Any) -> None:
    where = {"f": condition}
    assert matches(document, where) == sqlite_says(document, where)


@given(values)
def test_a_value_comes_out_of_its_column_as_it_went_in(value: Any) -> None:
    connection = sqlite3.connect(":memory:")
    (stored,) = connection.execute("SELECT ?", (column({"f": value}, "f"),)).fetchone()
    connection.close()
    assert from_column(stored) == value
    assert type(from_column(stored)) is type(value)


def test_a_path_goes_through_objects() -> None:
    document = {"a": {"b": {"c": 1}}, "list": [{"b": 2}]}
    assert look_up(document, "a.b.c") == 1
    assert matches(document, {"a.b.c": 1, "a.x": Missing(), "list.b": Missing()})


def test_a_change_that_fails_says_which_path() -> None:
    with pytest.raises(ValueError, match=r"a\.b runs through"):
        apply(Change(set={"a.b": 1}), {"a": 5})
    with pytest.raises(ValueError, match="n is not a number"):
        apply(Change(inc={"n": 1}), {"n": True})
    with pytest.raises(ValueError, match="_id never changes"):
        apply(Change(set={"_id": "x"}), {"_id": "a"})


def test_the_parts_of_a_change_apply_in_a_fixed_order() -> None:
    document: dict[str, Any] = {}
    apply(Change(set={"n": 1, "l": []}, inc={"n": 1}, push={"l": 1}, unset=("gone",)), document)
    assert document == {"n": 2, "l": [1]}
