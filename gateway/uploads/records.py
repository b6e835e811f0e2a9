"""Records of delimited text, read so that no row can vanish. The one reader for analysis and for downloads.

Python's csv does the splitting, in strict mode. What it does with broken quoting is caught here:

- A quote that is opened and never closed would swallow the rows after it, up to the next quote or the end of the file.
  In strict mode that ends in an error sooner or later, always in a record of more than one line or at the end of the
  file: refused with the line where the quote was opened.
- Sloppy quoting inside one line (`"Ann" Lee,a@b.example` or an unescaped `"ann lee"@b.example`) hurts nobody else:
  that line alone is split without regard to quotes.
- One column without any delimiter is read with a delimiter that no text contains, so that commas stay in the cell.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self, TextIO

from gateway.uploads.refusal import Refusal

MAX_FIELD = 131_072  # characters
MAX_COLUMNS = 1_000
NO_DELIMITER = "\U0010ffff"  # a noncharacter, which no text contains


@dataclass(frozen=True, slots=True)
class Table:
    """How to read an upload again. Stored with the file as `table`."""

    source: str  # file in the upload's folder: the upload itself, or the text made of a workbook or an archive
    encoding: str  # a Python codec name
    delimiter: str | None  # None: one column, nothing is split
    skip_space: bool  # white space after a delimiter is not part of the cell
    header_row: int | None  # the row that names the columns
    first_row: int  # rows before are blank lines, a `sep=` line or the header
    column: int  # 0-based position of the address
    columns: list[str]  # names of the columns, made up where there is no header
    guessed: bool = False  # the encoding; letters outside ASCII may be others

    def to_document(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_document(cls, document: dict[str, Any]) -> Self:
        return cls(**document)


@contextmanager
def open_text(path: Path, encoding: str) -> Iterator[TextIO]:
    """The text with its line ends as they are."""
    with path.open(encoding=encoding, newline="") as stream:
        yield stream


def guessed_address(path: Path, line: int) -> Refusal:
    """Bytes that are one letter in one encoding, another in the next, may not decide which mailbox is asked about."""
    offset = 0
    with path.open("rb") as stream:
        for number, text in enumerate(stream, 1):
            bad = next((n for n, byte in enumerate(text) if byte > 127), None)
            if bad is not None and number >= line:
                offset += bad
                break
            offset += len(text)
    detail = f"The address in line {line} has bytes that are not UTF-8 (offset {offset}). Save the list as UTF-8."
    return Refusal(422, "undecodable", detail, line=line, byteOffset=offset)


class Records:
    """Iterates over records as lists of cells; a blank line is an empty list. `line` is where the last one began.

    Raises Refusal `unterminated_quote`, `field_too_large` or `too_many_columns`, each with its line.
    """

    def __init__(self, lines: Iterable[str], delimiter: str | None, *, skip_space: bool = False) -> None:
        self.line = 1
        self._last = ""
        self._delimiter = delimiter or NO_DELIMITER
        self._reader = csv.reader(
            self._remember(lines), delimiter=self._delimiter, skipinitialspace=skip_space, strict=True
        )

    def _remember(self, lines: Iterable[str]) -> Iterator[str]:
        for line in lines:
            self._last = line
            yield line

    def __iter__(self) -> Iterator[list[str]]:
        reader = self._reader
        csv.field_size_limit(MAX_FIELD)
        while True:
            self.line = reader.line_num + 1
            try:
                for cells in reader:
                    if len(cells) > MAX_COLUMNS:
                        raise self._too_wide(len(cells))
                    yield cells
                    self.line = reader.line_num + 1
            except csv.Error as error:
                yield self._recover(str(error), reader.line_num + 1 - self.line)
            else:
                return

    def _recover(self, why: str, lines: int) -> list[str]:
        if lines > 1 or "unexpected end" in why:
            raise Refusal(
                422,
                "unterminated_quote",
                f"A quotation mark opened in the record that begins in line {self.line} is not closed where it should"
                " be; the rows after it would be lost.",
                line=self.line,
            )
        if "field larger" in why:
            raise self._too_large()
        cells = self._last.rstrip("\r\n").split(self._delimiter)
        if len(cells) > MAX_COLUMNS:
            raise self._too_wide(len(cells))
        return cells

    def _too_large(self) -> Refusal:
        cells = self._last.split(self._delimiter)
        field = next((n for n, cell in enumerate(cells, 1) if len(cell) > MAX_FIELD), 1)
        return Refusal(
            422,
            "field_too_large",
            f"Field {field} in line {self.line} is longer than {MAX_FIELD} characters.",
            line=self.line,
            field=field,
        )

    def _too_wide(self, found: int) -> Refusal:
        return Refusal(
            422,
            "too_many_columns",
            f"Line {self.line} has {found} columns; at most {MAX_COLUMNS} are read.",
            line=self.line,
            field=MAX_COLUMNS + 1,
        )
