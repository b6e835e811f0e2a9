"""Duplicates found and domains gathered in bounded memory and linear time.

First every row with an address goes to one of some bucket files, by a hash of its domain, so that equal addresses and
equal domains meet in one bucket. Then one bucket after the other is read, freed of duplicates and ordered by domain. A
bucket with too many rows for memory (half of a consumer list lives at one provider) is split again by a hash of the
address. Rows keep their order inside a bucket, so the first row of an address is the first met. The same list always
gives the same batches in the same order, so storing them can be repeated.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import IO
from zlib import crc32

from gateway.uploads.plan import UniqueRow
from shared.address import Address

BUCKET_ROWS = 40_000  # in memory at once; some 400 bytes each
BYTES_FOR_A_BUCKET = 1_048_576  # of the upload
MAX_BUCKETS = 128  # open files, each with its own write buffer
WRITE_BUFFER = 16_384

_Line = tuple[int, str, str]  # row, key, given


class Partition:
    """`add` every row, then iterate `drain` once."""

    def __init__(self, folder: Path, upload_bytes: int, rows_in_memory: int = BUCKET_ROWS) -> None:
        """`folder` is made and emptied again."""
        self._folder = folder
        self._rows_in_memory = rows_in_memory
        folder.mkdir()
        count = min(MAX_BUCKETS, 1 + upload_bytes // BYTES_FOR_A_BUCKET)
        self._buckets = _open_buckets(folder, "", count)
        self._rows = [0] * count

    def add(self, row: int, address: Address) -> None:
        n = _spread(address.domain) % len(self._buckets)
        self._rows[n] += 1
        key, given = address.key, address.given
        self._buckets[n].write(f"{row}\t{given}\t\n" if given == key else f"{row}\t{given}\t{key}\n")

    def close(self) -> None:
        """No more rows are added; also where a refusal ends the analysis. Repeatable."""
        for bucket in self._buckets:
            bucket.close()

    def drain(self, on_duplicate: Callable[[int, int], None]) -> Iterator[UniqueRow]:
        """Unique rows, those of one domain together. `on_duplicate(row, first row)` is told the others."""
        self.close()
        for n, rows in enumerate(self._rows):
            yield from self._drain_one(self._folder / str(n), rows, on_duplicate)
        self._folder.rmdir()

    def _drain_one(self, path: Path, rows: int, on_duplicate: Callable[[int, int], None]) -> Iterator[UniqueRow]:
        if rows <= self._rows_in_memory:
            yield from _settle(_read_bucket(path), on_duplicate)
        else:
            count = min(MAX_BUCKETS, 2 * rows // self._rows_in_memory)
            parts = _open_buckets(self._folder, f"{path.name}-", count)
            for row, key, given in _read_bucket(path):
                parts[_spread(key) % count].write(f"{row}\t{given}\t{key}\n")
            for n, part in enumerate(parts):
                part.close()
                part_path = self._folder / f"{path.name}-{n}"
                yield from _settle(_read_bucket(part_path), on_duplicate)
                part_path.unlink()
        path.unlink()


def _spread(text: str) -> int:
    return crc32(text.encode())


def _open_buckets(folder: Path, prefix: str, count: int) -> list[IO[str]]:
    return [
        (folder / f"{prefix}{n}").open("w", encoding="utf-8", newline="\n", buffering=WRITE_BUFFER)
        for n in range(count)
    ]


def _read_bucket(path: Path) -> Iterator[_Line]:
    with path.open(encoding="utf-8", newline="\n") as stream:
        for line in stream:
            row, given, key = line[:-1].split("\t")
            yield int(row), key or given, given


def _settle(lines: Iterable[_Line], on_duplicate: Callable[[int, int], None]) -> list[UniqueRow]:
    first: dict[str, int] = {}
    unique: list[UniqueRow] = []
    for row, key, given in lines:
        same = first.setdefault(key, row)
        if same == row:
            unique.append(UniqueRow(key.rpartition("@")[2], row, given))
        else:
            on_duplicate(row, same)
    unique.sort()
    return unique
