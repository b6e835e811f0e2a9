"""Workbooks and archives, made into one text table beside the upload.

- XLSX: the first visible sheet with an address among its first rows (people put a cover before their list); where there
  is none, the first with anything in it.
- ZIP: one list, read as it is; or several, laid below each other. Columns of the same name become one column, the
  address columns become one, and a column `file` says which list a row came from. Rows are counted in the joint table.
  No archive inside an archive; folders, hidden files and what macOS adds are passed over.

Nothing is unpacked before the directory of the archive was believed possible: number of entries, their sizes in sum and
their ratio. While unpacking, what really comes out is counted. Names in an archive are never used as paths.
"""

from __future__ import annotations

import csv
import datetime as dt
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from itertools import islice
from pathlib import Path, PurePosixPath

import python_calamine as calamine

from gateway.uploads.decode import detect_encoding
from gateway.uploads.recognise import Kind, recognise
from gateway.uploads.records import MAX_COLUMNS, Records, Table, guessed_address, open_text
from gateway.uploads.refusal import Refusal
from gateway.uploads.sniff import Wanted, describe_table
from shared.address import Address, parse_address

MAX_ENTRIES = 1_000
MAX_LISTS = 50  # in one archive
MAX_RATIO = 100  # unpacked to packed, of an entry that is large enough to matter
LARGE = 1_048_576
COPY = 262_144
WORKBOOK_FACTOR = 4  # XML is that much longer than the text in it
WORKBOOK_RATIO = 500  # and packs that much better
LOOKED_AT = 100  # rows of a sheet, for whether it is the list
TABLE = "table.csv"

Cell = float | str | bool | dt.time | dt.date | dt.datetime | dt.timedelta


def unpack(folder: Path, wanted: Wanted, max_bytes: int) -> Table:
    """Make `table.csv` from the packed `upload`. Raises Refusal naming the entry where one is to blame."""
    upload = folder / "upload"
    with _opened(upload) as archive:
        entries = _entries(archive)
        if _is_workbook(archive):
            _check_sizes(archive.infolist(), WORKBOOK_FACTOR * max_bytes, WORKBOOK_RATIO)
            _write_sheet(upload, folder / TABLE)
            return describe_table(folder / TABLE, TABLE, "utf-8", wanted, delimiter=",")
        _refuse_documents(archive)
        _check_sizes(entries, max_bytes)
        if not entries:
            raise Refusal(422, "empty_file", "There is no list in the archive.", field="file")
        if len(entries) > MAX_LISTS:
            detail = f"There are more than {MAX_LISTS} lists in the archive."
            raise Refusal(422, "too_many_entries", detail, field="file")
        left = max_bytes
        for number, entry in enumerate(entries):
            left -= _extract(archive, entry, folder / f"entry-{number}", left)
    tables = [_read_entry(folder, number, entry, wanted, max_bytes) for number, entry in enumerate(entries)]
    if len(tables) == 1:
        (folder / tables[0].source).rename(folder / TABLE)
        return replace(tables[0], source=TABLE)
    names = [PurePosixPath(entry.filename.replace("\\", "/")).name for entry in entries]
    return _join(folder, names, tables)


@contextmanager
def _opened(path: Path) -> Iterator[zipfile.ZipFile]:
    try:
        with zipfile.ZipFile(path) as archive:
            yield archive
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, UnicodeDecodeError) as error:
        raise Refusal(
            422, "bad_archive", "The archive is damaged or packed in an unusual way.", field="file"
        ) from error


def _entries(archive: zipfile.ZipFile) -> list[zipfile.ZipInfo]:
    """The lists in it."""
    infos = archive.infolist()
    if len(infos) > MAX_ENTRIES:
        raise Refusal(422, "too_many_entries", f"The archive has more than {MAX_ENTRIES} entries.", field="file")
    for info in infos:
        if info.flag_bits & 0x1:
            raise Refusal(422, "encrypted", "The archive is encrypted.", field="file")
    return [info for info in infos if not info.is_dir() and not _passed_over(info.filename)]


def _passed_over(name: str) -> bool:
    parts = PurePosixPath(name.replace("\\", "/")).parts
    return not parts or "__MACOSX" in parts or parts[-1].startswith(".") or parts[-1].lower() == "thumbs.db"


def _is_workbook(archive: zipfile.ZipFile) -> bool:
    names = set(archive.namelist())
    return "[Content_Types].xml" in names and any(name.startswith("xl/workbook") for name in names)


def _refuse_documents(archive: zipfile.ZipFile) -> None:
    names = set(archive.namelist())
    if names & {"[Content_Types].xml", "mimetype", "META-INF/MANIFEST.MF", "AndroidManifest.xml"}:
        detail = "This is a document or program, not an archive of lists."
        raise Refusal(415, "unsupported_type", detail, field="file")


def _check_sizes(entries: Sequence[zipfile.ZipInfo], max_bytes: int, max_ratio: int = MAX_RATIO) -> None:
    for entry in entries:
        if entry.file_size > LARGE and entry.file_size > max_ratio * max(1, entry.compress_size):
            detail = f"An entry of the archive unpacks to more than {max_ratio} times its size."
            raise Refusal(422, "zip_bomb", detail, field="file", entry=entry.filename[:200])
    if sum(entry.file_size for entry in entries) > max_bytes:
        raise _too_large(max_bytes)


def _too_large(max_bytes: int) -> Refusal:
    return Refusal(413, "too_large", f"The archive unpacks to more than {max_bytes} bytes.", limit=max_bytes)


def _extract(archive: zipfile.ZipFile, entry: zipfile.ZipInfo, target: Path, left: int) -> int:
    size = 0
    with archive.open(entry) as source, target.open("xb") as out:
        while block := source.read(COPY):
            size += len(block)
            if size > left:
                raise _too_large(left)
            out.write(block)
    return size


def _read_entry(folder: Path, number: int, entry: zipfile.ZipInfo, wanted: Wanted, max_bytes: int) -> Table:
    path = folder / f"entry-{number}"
    try:
        if recognise(path, entry.filename) is Kind.TEXT:
            encoding = detect_encoding(path)
            return describe_table(path, path.name, encoding.name, wanted, guessed=encoding.guessed)
        _check_inner(path, max_bytes)
        text = folder / f"entry-{number}.csv"
        _write_sheet(path, text)
        path.unlink()
        return describe_table(text, text.name, "utf-8", wanted, delimiter=",")
    except Refusal as refusal:
        refusal.extra.setdefault("entry", entry.filename[:200])
        raise


def _check_inner(path: Path, max_bytes: int) -> None:
    with _opened(path) as inner:
        if not _is_workbook(inner):
            raise Refusal(422, "nested_archive", "There is an archive inside the archive.", field="file")
        _check_sizes(inner.infolist(), WORKBOOK_FACTOR * max_bytes, WORKBOOK_RATIO)


def _write_sheet(path: Path, target: Path) -> None:
    try:
        with calamine.load_workbook(path) as workbook:
            sheet = _sheet_of_list(workbook)
            if sheet is not None:
                _write_rows(sheet, target)
                return
    except calamine.PasswordError as error:
        raise Refusal(422, "encrypted", "The workbook is encrypted.", field="file") from error
    except (calamine.CalamineError, calamine.XmlError, calamine.ZipError) as error:
        raise Refusal(422, "bad_workbook", "The workbook is damaged.", field="file") from error
    raise Refusal(422, "empty_file", "There is nothing in the workbook.", field="file")


def _sheet_of_list(workbook: calamine.CalamineWorkbook) -> calamine.CalamineSheet | None:
    """The sheet that is read; None where all are empty. One sheet is in memory at a time."""
    first = None
    for meta in workbook.sheets_metadata:
        if meta.visible is calamine.SheetVisibleEnum.Visible and meta.typ is calamine.SheetTypeEnum.WorkSheet:
            sheet = workbook.get_sheet_by_name(meta.name)
            if sheet.start is None:
                continue
            if _holds_address(sheet):
                return sheet
            first = first or meta.name
    return workbook.get_sheet_by_name(first) if first is not None else None


def _holds_address(sheet: calamine.CalamineSheet) -> bool:
    return sheet.width <= MAX_COLUMNS and any(
        isinstance(cell, str) and "@" in cell and isinstance(parse_address(cell.strip()), Address)
        for cells in islice(sheet.iter_rows(), LOOKED_AT)
        for cell in cells
    )


def _write_rows(sheet: calamine.CalamineSheet, target: Path) -> None:
    if sheet.width > MAX_COLUMNS:
        detail = f"The sheet has {sheet.width} columns; at most {MAX_COLUMNS} are read."
        raise Refusal(422, "too_many_columns", detail, line=1, field=MAX_COLUMNS + 1)
    with target.open("w", encoding="utf-8", newline="") as stream:
        out = csv.writer(stream)  # its CRLF makes it quote a bare CR or LF
        for cells in sheet.iter_rows():  # from row 1 on, so that rows have the numbers that the spreadsheet shows
            out.writerow([_text(cell) for cell in cells])


def _text(cell: Cell) -> str:
    if isinstance(cell, bool):
        return "TRUE" if cell else "FALSE"
    if isinstance(cell, float) and cell.is_integer():
        return str(int(cell))
    return str(cell)


def _join(folder: Path, names: list[str], tables: list[Table]) -> Table:
    """One table below the other. The address column is the first list's."""
    email = tables[0].columns[tables[0].column]
    columns = ["file", *dict.fromkeys(name for table in tables for name in _joint_names(table, email))]
    column = columns.index(email, 1)
    row = 1
    with (folder / TABLE).open("w", encoding="utf-8", newline="") as stream:
        out = csv.writer(stream)  # its CRLF makes it quote a bare CR or LF
        out.writerow(columns)
        for name, table in zip(names, tables, strict=True):
            places = [columns.index(own, 1) for own in _joint_names(table, email)]
            for cells in _data(folder / table.source, table):
                joint = [name, *[""] * (len(columns) - 1)]
                for place, cell in zip(places, cells, strict=False):
                    joint[place] = cell
                out.writerow(joint)
                row += 1
            (folder / table.source).unlink()
    return Table(
        source=TABLE,
        encoding="utf-8",
        delimiter=",",
        skip_space=False,
        header_row=1,
        first_row=2,
        column=column,
        columns=columns,
    )


def _joint_names(table: Table, email: str) -> list[str]:
    """The table's column names, its address column called as in the joint table; a name used twice gets a number."""
    taken: list[str] = []
    for n, name in enumerate(table.columns):
        own = email if n == table.column else f"{name} (2)" if name == email else name
        while own in taken and n != table.column:
            own += " (2)"
        taken.append(own)
    return taken


def _data(path: Path, table: Table) -> Iterator[list[str]]:
    """Records below the header that are not blank."""
    with open_text(path, table.encoding) as stream:
        records = Records(stream, table.delimiter, skip_space=table.skip_space)
        for row, cells in enumerate(records, 1):
            if row >= table.first_row and any(map(str.strip, cells)):
                if table.guessed and table.column < len(cells) and not cells[table.column].strip().isascii():
                    raise guessed_address(path, records.line)
                yield cells
