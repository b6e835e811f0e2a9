"""Writes a download in the upload's own rows and columns; a process of its own, so that the gateway's loop stays free.

    python -m gateway.downloads.write_table < job.json > download

Reads the upload again in order, row by row, with the verdict of each row's address beside it (see collect.py and
plan.bin in uploads/folder.py). Blank rows are left out; rows that have no verdict so far say `pending`. A list that
came without an upload is written from its results, in the order of their rows, with the one column `email`.
"""

from __future__ import annotations

import csv
import io
import json
import os
import sys
from array import array
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import orjson

from gateway.downloads.cells import APPENDED, OFFSETS, STATUS, VERDICTS, harmless
from gateway.downloads.workbook import write_workbook
from gateway.uploads.records import Records, Table, open_text

READ = 65_536  # entries of plan or offsets at a time
LINE = 2_048  # bytes read for a verdict at first; longer ones are read again


@dataclass(frozen=True, slots=True)
class Job:
    folder: str | None  # of the upload; None: there is none
    table: dict[str, Any] | None  # as records.Table
    verdicts: str  # folder made by collect.py
    format: str  # csv or xlsx
    statuses: list[str]  # rows with these only; empty: all
    unfinished: list[str]  # status and reason of rows without a verdict


class _Verdicts:
    """The appended cells of a row, read where they lie."""

    def __init__(self, folder: Path, unfinished: list[str]) -> None:
        self._lines = os.open(folder / VERDICTS, os.O_RDONLY)
        self._offsets = os.open(folder / OFFSETS, os.O_RDONLY)
        self._window: array[int] = array("Q")
        self._window_at = 0
        self._none = ["", *unfinished, *[""] * (len(APPENDED) - 1 - len(unfinished))]

    def of(self, row: int) -> list[str]:
        """[email, appended cells but the last]."""
        offset = self._offset(row - 1)
        if not offset:
            return list(self._none)
        size = LINE
        while True:
            piece = os.pread(self._lines, size, offset - 1)
            end = piece.find(b"\n")
            if end >= 0:
                cells: list[str] = orjson.loads(piece[:end])
                return cells
            size *= 8

    def rows(self) -> Iterator[int]:
        """Rows with a verdict, in order."""
        count = os.fstat(self._offsets).st_size // 8
        return (n + 1 for n in range(count) if self._offset(n))

    def _offset(self, n: int) -> int:
        place = n - self._window_at
        if not 0 <= place < len(self._window):
            self._window_at = n - n % READ
            self._window = _read_array("Q", self._offsets, self._window_at)
            place = n - self._window_at
        return self._window[place] if place < len(self._window) else 0


def _read_array(kind: str, file: int, start: int) -> array[int]:
    values = array(kind)
    values.frombytes(os.pread(file, READ * values.itemsize, start * values.itemsize))
    if sys.byteorder == "big":
        values.byteswap()
    return values


def _plan(path: Path) -> Iterator[int]:
    file = os.open(path, os.O_RDONLY)
    start = 0
    while values := _read_array("I", file, start):
        yield from values
        start += len(values)
    os.close(file)


def table_rows(job: Job) -> Iterator[list[str]]:
    """Header and rows, every cell harmless."""
    verdicts = _Verdicts(Path(job.verdicts), job.unfinished)
    wanted = frozenset(job.statuses)
    if job.table is None or job.folder is None:
        yield ["email", *APPENDED]
        for row in verdicts.rows():
            cells = [*verdicts.of(row), ""]
            if not wanted or cells[1 + STATUS] in wanted:
                yield cells
        return
    table = Table.from_document(job.table)
    folder = Path(job.folder)
    yield [harmless(name) for name in _names(table)] + list(APPENDED)
    width = len(table.columns)
    with open_text(folder / table.source, table.encoding) as stream:
        records = Records(stream, table.delimiter, skip_space=table.skip_space)
        for row, (cells, first) in enumerate(zip(records, _plan(folder / "plan.bin"), strict=True), 1):
            if not first:
                continue
            verdict = verdicts.of(first)
            if wanted and verdict[1 + STATUS] not in wanted:
                continue
            own = [harmless(cell) for cell in cells]
            own.extend([""] * (width - len(own)))
            yield [*own, *verdict[1:], "" if first == row else str(first)]


def _names(table: Table) -> list[str]:
    """Columns of a list without a header are called by their number, and the one with the addresses `email`."""
    if table.header_row is not None:
        return table.columns
    return ["email" if n == table.column else name for n, name in enumerate(table.columns)]


def write(job: Job, out: IO[bytes]) -> None:
    rows = table_rows(job)
    if job.format == "xlsx":
        write_workbook(out, rows)
        return
    delimiter, encoding = ",", "utf-8"
    if job.table is not None:
        table = Table.from_document(job.table)
        delimiter = table.delimiter or delimiter
        if table.source == "upload" and table.encoding in ("utf-8-sig", "utf-16", "utf-32"):
            encoding = "utf-8-sig"  # whoever sends a byte order mark has programs that look for one
    text = io.TextIOWrapper(out, encoding, newline="", write_through=False)
    csv.writer(text, delimiter=delimiter).writerows(rows)
    text.flush()
    text.detach()


def main() -> None:
    job = Job(**json.load(sys.stdin))
    with open(sys.stdout.fileno(), "wb", buffering=1 << 18, closefd=False) as out:
        write(job, out)


if __name__ == "__main__":
    main()
