"""Whatever the list looks like, every row that is not blank has one fate, and the export keeps its cells."""

from __future__ import annotations

import csv
import io
import json
from array import array
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import orjson
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.downloads.cells import APPENDED, OFFSETS, VERDICTS, harmless
from gateway.downloads.write_table import Job as WriteJob
from gateway.downloads.write_table import table_rows
from gateway.uploads.analyse import Job, Summary, analyse, run
from shared.address import Address, parse_address

CELL = st.text(
    st.one_of(st.sampled_from('a ,;"\n\t=+-@é'), st.characters(exclude_categories=["Cs"], exclude_characters="\0")),
    max_size=6,
)
ADDRESS = st.sampled_from(
    ["a@b.example.com", "A@B.example.com", "c@d.example.com", "é@d.example.com", " a@b.example.com "]
)
EMAIL = st.one_of(ADDRESS, ADDRESS, ADDRESS, st.sampled_from(["", "broken", "a@b@c"]), CELL)


@st.composite
def lists(draw: st.DrawFn) -> tuple[list[list[str]], int, str, bytes]:
    """Rows below a header, the address's column, the delimiter, the file."""
    width, delimiter = draw(st.integers(2, 4)), draw(st.sampled_from(",;\t|"))
    column = draw(st.integers(0, width - 1))
    rows = [[draw(EMAIL) if n == column else draw(CELL) for n in range(width)] for _ in range(draw(st.integers(1, 10)))]
    sure = ["Ann"] * width
    sure[column] = "sure@b.example.com"
    rows = [list(sure) for _ in range(3)] + rows  # enough to see the delimiter by
    header = [f"name {n}" for n in range(width)]
    header[column] = "email"
    out = io.StringIO(newline="")
    quoting = draw(st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL]))
    # Python's writer leaves a line end bare that is not its own
    line_end = "\r\n" if quoting == csv.QUOTE_MINIMAL else draw(st.sampled_from(["\n", "\r\n", "\r"]))
    writer = csv.writer(out, delimiter=delimiter, quoting=quoting, lineterminator=line_end)
    writer.writerows([header, *rows])
    encoding = draw(st.sampled_from(["utf-8", "utf-8-sig", "utf-16"]))
    return rows, column, delimiter, out.getvalue().encode(encoding)


def analysed(folder: str, content: bytes, **options: Any) -> Summary:
    (Path(folder) / "upload").write_bytes(content)
    job = {
        "filename": "list",
        "column": None,
        "has_header": None,
        "batch_size": 2,
        "max_rows": 1000,
        "max_bytes": 10**6,
    }
    return analyse(Job(folder=folder, **(job | options)))


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


@settings(deadline=None)
@given(lists())
def test_every_row_has_one_fate_and_the_counts_add_up(case: tuple[list[list[str]], int, str, bytes]) -> None:
    rows, column, delimiter, content = case
    with TemporaryDirectory() as folder:
        summary = analysed(folder, content, column="email")
        plan = array("I", (Path(folder) / "plan.bin").read_bytes())
        malformed = {one["row"] for one in lines(Path(folder) / "malformed.jsonl")}
        batches = lines(Path(folder) / "batches.jsonl")
    assert summary.table["delimiter"] == delimiter
    unique = {row: email for batch in batches for row, email in zip(batch["rows"], batch["emails"], strict=True)}
    first: dict[str, int] = {}
    for row, cells in enumerate(rows, 2):
        address = parse_address(cells[column].strip())
        if not any(map(str.strip, cells)):
            assert plan[row - 1] == 0
        elif isinstance(address, Address):
            assert plan[row - 1] == first.setdefault(address.key, row)
            assert (row in unique) == (first[address.key] == row)
            assert row not in unique or unique[row] == cells[column].strip()
        else:
            assert plan[row - 1] == row
            assert row in malformed
    assert len(plan) == len(rows) + 1
    assert summary.total == summary.unique + summary.duplicates + summary.malformed == sum(map(bool, plan))
    assert (summary.unique, summary.malformed) == (len(unique), len(malformed))
    assert [batch["no"] for batch in batches] == list(range(1, summary.batches + 1))


@settings(deadline=None)
@given(lists())
def test_an_export_keeps_the_cells_and_gives_duplicates_their_firsts_verdict(
    case: tuple[list[list[str]], int, str, bytes],
) -> None:
    rows, _, _, content = case
    with TemporaryDirectory() as folder:
        summary = analysed(folder, content, column="email")
        plan = array("I", (Path(folder) / "plan.bin").read_bytes())
        give_verdicts(Path(folder), set(plan) - {0})
        job = WriteJob(folder, summary.table, folder, "csv", [], ["pending"])
        written = list(table_rows(job))
    width = len(summary.table["columns"])
    kept = [(row, cells) for row, cells in enumerate(rows, 2) if any(map(str.strip, cells))]
    assert written[0][width:] == list(APPENDED)
    assert [cells[:width] for cells in written[1:]] == [list(map(harmless, cells)) for _, cells in kept]
    for (row, _), cells in zip(kept, written[1:], strict=True):
        first = plan[row - 1]
        assert cells[width] == f"verdict of {first}"
        assert cells[-1] == ("" if first == row else str(first))


def give_verdicts(folder: Path, rows: set[int]) -> None:
    offsets = array("Q", bytes(8 * max(rows)))
    with (folder / VERDICTS).open("wb") as out:
        for row in sorted(rows, key=lambda row: -row):
            offsets[row - 1] = out.tell() + 1
            padding = "x" * (5_000 if row % 2 else 0)
            out.write(orjson.dumps(["", f"verdict of {row}", padding, *[""] * (len(APPENDED) - 3)]) + b"\n")
    (folder / OFFSETS).write_bytes(offsets.tobytes())


@settings(deadline=None)
@given(st.one_of(st.binary(max_size=200), st.text(max_size=100).map(lambda text: text.encode("utf-8", "ignore"))))
def test_any_bytes_are_analysed_or_refused(content: bytes) -> None:
    with TemporaryDirectory() as folder:
        (Path(folder) / "upload").write_bytes(content)
        job = Job(folder, "list.csv", None, None, batch_size=2, max_rows=1000, max_bytes=10**6)
        answer = run(job)
    assert answer.keys() <= {"summary", "refused"}
    if "refused" in answer:
        assert answer["refused"]["status"] in (415, 422)
