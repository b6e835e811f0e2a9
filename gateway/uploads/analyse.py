"""The analysis of one upload, a process of its own: its memory, its time and its crashes are not the gateway's.

    python -m gateway.uploads.analyse < job.json > answer.json

1. What is it (recognise.py), how is it encoded, split and headed (decode.py, sniff.py; unpack.py for workbooks and
   archives).
2. Every row gets its fate: malformed ones are written out at once, the others go to partition.py.
3. Bucket after bucket is freed of duplicates and written out as batches, ordered by domain.

Writes plan.bin, batches.jsonl and malformed.jsonl (see folder.py) beside the upload. The answer is one JSON object:
{"summary": {...}}, {"refused": {"status", "code", "detail", "extra"}} or {"failed": "..."} for trouble with the disk.
"""

from __future__ import annotations

import json
import resource
import struct
import sys
from collections.abc import Iterator
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import IO, Any

from gateway.uploads.decode import detect_encoding
from gateway.uploads.partition import Partition
from gateway.uploads.plan import MalformedRow, plan_batches, read_cell
from gateway.uploads.recognise import Kind, recognise
from gateway.uploads.records import Records, Table, guessed_address, open_text
from gateway.uploads.refusal import Refusal
from gateway.uploads.sniff import Wanted, describe_table

MAX_MEMORY = 1_073_741_824  # of address space; text needs a tenth, the rest is for workbooks
MAX_CPU = 900  # seconds; twenty million rows need about a tenth
_ENTRY = struct.Struct("<I")


@dataclass(frozen=True, slots=True)
class Job:
    folder: str  # with `upload` in it
    filename: str  # as the uploader called it; only its ending counts
    column: str | None
    has_header: bool | None
    batch_size: int
    max_rows: int
    max_bytes: int  # that an archive may unpack to


@dataclass(slots=True)
class Summary:
    """What the analysis found. `total` = unique + duplicates + malformed; `table` as records.Table."""

    table: dict[str, Any]
    total: int
    unique: int
    duplicates: int
    malformed: int
    batches: int


def analyse(job: Job) -> Summary:
    """Raises Refusal, OSError. Leaves files behind on either; the caller removes the folder."""
    folder = Path(job.folder)
    table = _find_table(job, folder)
    malformed = 0
    source = folder / table.source
    with (
        (folder / "plan.bin").open("wb+") as plan,
        (folder / "malformed.jsonl").open("w", encoding="utf-8") as bad,
        closing(Partition(folder / "buckets", source.stat().st_size)) as partition,
    ):
        addresses = _Addresses(source, table, plan, job.max_rows)
        good = 0
        for row, cell in addresses:
            if table.guessed and not cell.strip().isascii():
                raise guessed_address(source, addresses.line)
            address = read_cell(row, cell)
            if isinstance(address, MalformedRow):
                malformed += 1
                bad.write(json.dumps(address._asdict()) + "\n")
            else:
                partition.add(row, address)
                good += 1
        duplicates, batches = _write_batches(folder, partition, plan, job.batch_size)
    columns = table.columns + [f"column {n}" for n in range(len(table.columns) + 1, addresses.width + 1)]
    return Summary(
        table=replace(table, columns=columns).to_document(),
        total=good + malformed,
        unique=good - duplicates,
        duplicates=duplicates,
        malformed=malformed,
        batches=batches,
    )


def _find_table(job: Job, folder: Path) -> Table:
    wanted = Wanted(job.column, job.has_header)
    upload = folder / "upload"
    if recognise(upload, job.filename) is Kind.PACKED:
        from gateway.uploads.unpack import unpack  # noqa: PLC0415 - most uploads are plain text

        return unpack(folder, wanted, job.max_bytes)
    encoding = detect_encoding(upload)
    return describe_table(upload, upload.name, encoding.name, wanted, guessed=encoding.guessed)


class _Addresses:
    """Iterates over (row, address cell) of the rows that are not blank, and writes the plan's entry of every record."""

    def __init__(self, path: Path, table: Table, plan: IO[bytes], max_rows: int) -> None:
        self.width = len(table.columns)  # of the widest record
        self.line = 0
        self._path = path
        self._table = table
        self._plan = plan
        self._max_rows = max_rows

    def __iter__(self) -> Iterator[tuple[int, str]]:
        table, plan, pack = self._table, self._plan, _ENTRY.pack
        column, first_row = table.column, table.first_row
        with open_text(self._path, table.encoding) as stream:
            records = Records(stream, table.delimiter, skip_space=table.skip_space)
            for row, cells in enumerate(records, 1):
                if row > self._max_rows:
                    detail = f"The list has more than {self._max_rows} rows."
                    raise Refusal(422, "too_many_rows", detail, line=records.line, limit=self._max_rows)
                cell = cells[column] if column < len(cells) else ""
                if row < first_row or not (cell.strip() or any(map(str.strip, cells))):
                    plan.write(b"\0\0\0\0")
                    continue
                plan.write(pack(row))
                self.line = records.line
                self.width = max(self.width, len(cells))
                yield row, cell


def _write_batches(folder: Path, partition: Partition, plan: IO[bytes], size: int) -> tuple[int, int]:
    """How many duplicates there were, and how many batches."""
    duplicates = batches = 0

    def on_duplicate(row: int, first: int) -> None:
        nonlocal duplicates
        duplicates += 1
        plan.seek(4 * (row - 1))
        plan.write(_ENTRY.pack(first))

    with (folder / "batches.jsonl").open("w", encoding="utf-8") as out:
        for batch in plan_batches(partition.drain(on_duplicate), size):
            out.write(json.dumps(batch._asdict()) + "\n")
            batches = batch.no
    return duplicates, batches


def run(job: Job) -> dict[str, Any]:
    """The answer for the gateway."""
    try:
        return {"summary": asdict(analyse(job))}
    except Refusal as refusal:
        answer = {"status": refusal.status, "code": refusal.code, "detail": refusal.detail, "extra": refusal.extra}
        return {"refused": answer}
    except MemoryError:
        detail = "Reading this file takes more memory than is allowed; send it as CSV."
        return {"refused": {"status": 422, "code": "too_complex", "detail": detail, "extra": {"field": "file"}}}
    except OSError as error:
        return {"failed": error.strerror or type(error).__name__}


def main() -> None:
    job = Job(**json.load(sys.stdin))
    resource.setrlimit(resource.RLIMIT_AS, (MAX_MEMORY, MAX_MEMORY))
    resource.setrlimit(resource.RLIMIT_CPU, (MAX_CPU, MAX_CPU))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    json.dump(run(job), sys.stdout)


if __name__ == "__main__":
    main()
