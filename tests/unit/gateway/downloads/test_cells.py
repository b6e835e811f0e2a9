"""No cell runs."""

from __future__ import annotations

import io

import openpyxl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.downloads.cells import APPENDED, appended_cells, harmless
from gateway.downloads.workbook import MAX_CELL, write_workbook


@pytest.mark.parametrize(
    "cell",
    ["=1+1", "+1", "-1+1", "@SUM(A1)", "\t=1", "\r=1", "\n=1", "\0=1", "＝1", "＋1", "－1", "＠x", " =1", "\xa0 =1",
     "\ufeff=1", '=HYPERLINK("http://x")', "-", "-5-3", "+49 170 1", "-2+3+cmd|' /C calc'!A0"],
)  # fmt: skip
def test_what_a_spreadsheet_would_run_gets_an_apostrophe(cell: str) -> None:
    assert harmless(cell) == "'" + cell


@pytest.mark.parametrize("cell", ["", "a=b", "ann@b.example.com", "-5", "-1.25", "-1,250.00", "0", "'=1", " x", "é"])
def test_other_cells_stay_as_they_are(cell: str) -> None:
    assert harmless(cell) == cell


@given(st.text(max_size=10))
def test_no_cell_begins_with_what_runs(cell: str) -> None:
    kept = harmless(cell).lstrip()
    assert kept[:1] not in ("=", "+", "@")
    assert not kept.startswith("-") or kept[1:2].isdigit()
    assert harmless(cell) in (cell, "'" + cell)


def test_appended_cells_are_in_the_order_of_their_names() -> None:
    result = {"status": "valid", "reason": "accepted", "score": 95, "risk_level": "low", "verify_status": "valid",
              "is_valid": True, "normalized": "=a@b.example.com", "suggestion": None, "details": {}}  # fmt: skip
    cells = dict(zip(APPENDED, [*appended_cells(result), "7"], strict=True))
    assert cells["mailvet_normalized"] == "'=a@b.example.com"
    assert cells["mailvet_suggestion"] == ""
    assert cells["mailvet_is_valid"] == "true"
    assert cells["mailvet_catch_all"] == "false"
    assert cells["mailvet_duplicate_of"] == "7"


def test_a_workbook_is_read_by_others_and_holds_strings_only() -> None:
    rows = [
        ["a", "", "<&>"],
        ["=1+1", "line\nline", " space "],
        ["_x0041_", "\x01", "é😀"],
        ["x" * (MAX_CELL + 1), "", ""],
    ]
    out = io.BytesIO()
    write_workbook(out, rows)
    sheet = openpyxl.load_workbook(io.BytesIO(out.getvalue())).worksheets[0]
    cells = [[cell.value for cell in row] for row in sheet.iter_rows()]
    assert cells[0] == ["a", None, "<&>"]
    assert cells[1] == ["=1+1", "line\nline", " space "]
    assert cells[2][2] == "é😀"
    assert len(cells[3][0]) == MAX_CELL
    assert {cell.data_type for row in sheet.iter_rows() for cell in row if cell.value is not None} == {"s"}
