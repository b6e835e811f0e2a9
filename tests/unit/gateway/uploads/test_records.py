"""No row vanishes in broken quoting."""

from __future__ import annotations

import csv
import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.uploads.records import MAX_COLUMNS, MAX_FIELD, Records
from gateway.uploads.refusal import Refusal


def read(text: str, delimiter: str | None = ",", *, skip_space: bool = False) -> list[list[str]]:
    return list(Records(io.StringIO(text, newline=""), delimiter, skip_space=skip_space))


def refused(text: str, delimiter: str | None = ",") -> Refusal:
    with pytest.raises(Refusal) as caught:
        read(text, delimiter)
    return caught.value


def test_quotes_line_ends_and_blank_lines_are_read_as_a_spreadsheet_does() -> None:
    assert read('a,"b, ""c"""\r\n\r\n"two\r\nlines",x\rlast,') == [
        ["a", 'b, "c"'],
        [],
        ["two\r\nlines", "x"],
        ["last", ""],
    ]


def test_sloppy_quotes_in_one_line_are_that_lines_own_affair() -> None:
    text = '"Ann" Lee,a@b.example\n"ann lee"@b.example,x\nBob,b@b.example\n'
    assert read(text) == [['"Ann" Lee', "a@b.example"], ['"ann lee"@b.example', "x"], ["Bob", "b@b.example"]]


def test_a_single_column_keeps_its_commas() -> None:
    assert read('a,b\n"c,d"\n"ann lee"@b.example\n', None) == [["a,b"], ["c,d"], ['"ann lee"@b.example']]


def test_a_quote_that_is_never_closed_is_refused_with_its_line() -> None:
    for text in (
        'a\nb\n"c\nd\ne\n',
        'a\nb\n"c',
        'a\nb\n"c,d\ne\nf,"g, h"\n',
        'a\nb\n"c' + "\nd" * MAX_FIELD,
    ):
        refusal = refused(text)
        assert (refusal.code, refusal.extra["line"]) == ("unterminated_quote", 3)


def test_fields_and_records_are_bounded_and_named() -> None:
    assert read("x" * MAX_FIELD + ",y\n") == [["x" * MAX_FIELD, "y"]]
    large = refused("a,b\nc," + "x" * (MAX_FIELD + 1) + "\n")
    assert (large.code, large.extra) == ("field_too_large", {"line": 2, "field": 2})
    wide = refused("a\n" + "," * MAX_COLUMNS + "\n")
    assert (wide.code, wide.extra["line"]) == ("too_many_columns", 2)
    sloppy = refused('a\n"b" c' + "," * MAX_COLUMNS + "\n")
    assert (sloppy.code, sloppy.extra["line"]) == ("too_many_columns", 2)


def test_a_space_before_quotes_can_be_passed_over() -> None:
    assert read('"Lee, Ann", "a@b.example"\n', skip_space=True) == [["Lee, Ann", "a@b.example"]]


CELL = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0\U0010ffff"), max_size=8)


@given(st.lists(st.lists(CELL, min_size=1, max_size=4), max_size=8), st.sampled_from(",;\t|:"))
def test_what_a_csv_writer_wrote_is_read_back(rows: list[list[str]], delimiter: str) -> None:
    out = io.StringIO(newline="")
    csv.writer(out, delimiter=delimiter).writerows(rows)
    assert read(out.getvalue(), delimiter) == rows


@given(st.text(st.sampled_from('ab,"\n\r '), max_size=40))
def test_any_text_is_read_or_refused_and_no_line_is_lost(text: str) -> None:
    lines = io.StringIO(text, newline="").readlines()
    refusals: list[Refusal] = []
    rows = read_or_refuse(text, refusals)
    for refusal in refusals:
        assert refusal.code == "unterminated_quote"
        assert 1 <= refusal.extra["line"] <= len(lines)
    if not refusals:
        assert letters("".join(cell for row in rows for cell in row)) == letters(text)


def read_or_refuse(text: str, refusals: list[Refusal]) -> list[list[str]]:
    try:
        return read(text)
    except Refusal as refusal:
        refusals.append(refusal)
        return []


def letters(text: str) -> str:
    return "".join(letter for letter in text if letter in "ab ")
