"""What becomes of every row of a list: the plan that uploads write, batches are stored from and downloads read again.

A *row* is the 1-based number of a record, as a spreadsheet shows it: the header, where there is one, and blank lines
count. Every row that is not blank (and is no header) has exactly one fate:

    unique      the first row with this address; it is verified
    duplicate   the same address as an earlier row (case ignored, IDN normalised); takes that row's verdict
    malformed   no address in it; takes the verdict invalid/invalid_syntax, free of charge

so that unique + duplicates + malformed = rows that are not blank. Two rows are the same address when
`shared.address.Address.key` is equal.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from shared.address import Address, parse_address

MAX_SHOWN = 320  # characters of a malformed cell that are kept and shown


class PlannedBatch(NamedTuple):
    """Unique addresses to verify together, those of one domain side by side. `rows[i]` is the row of `emails[i]`."""

    no: int  # from 1, without gaps
    emails: list[str]
    rows: list[int]


class MalformedRow(NamedTuple):
    """A row without an address. `email` is what stood there, cut after MAX_SHOWN characters; `why` is for people."""

    row: int
    email: str
    why: str


class UniqueRow(NamedTuple):
    domain: str
    row: int
    email: str  # as it was given, trimmed


@dataclass(slots=True)
class Fates:
    """One fate for each row, in the order of the rows."""

    unique: list[UniqueRow] = field(default_factory=list)
    duplicates: dict[int, int] = field(default_factory=dict)  # row -> the first row with the same address
    malformed: list[MalformedRow] = field(default_factory=list)

    @property
    def total(self) -> int:
        return len(self.unique) + len(self.duplicates) + len(self.malformed)


def assign_fates(rows: Iterable[tuple[int, str]]) -> Fates:
    """Judge (row, cell) pairs in memory, for lists of some ten thousands. An empty cell gets a fate, too."""
    fates = Fates()
    first: dict[str, int] = {}
    for row, cell in rows:
        address = read_cell(row, cell)
        if isinstance(address, MalformedRow):
            fates.malformed.append(address)
        elif (same := first.setdefault(address.key, row)) != row:
            fates.duplicates[row] = same
        else:
            fates.unique.append(UniqueRow(address.domain, row, address.given))
    return fates


def read_cell(row: int, cell: str) -> Address | MalformedRow:
    """The address in a cell, trimmed, or why there is none. Never raises."""
    text = cell.strip()
    if len(text) > MAX_SHOWN:  # nothing that long is an address, and parsers need not prove it
        return MalformedRow(row, text[:MAX_SHOWN], "too long")
    address = parse_address(text)
    if isinstance(address, Address):
        return address
    return MalformedRow(row, text, address.why)


def plan_batches(unique: Iterable[UniqueRow], size: int, first_no: int = 1) -> Iterator[PlannedBatch]:
    """Cut `unique`, which comes grouped by domain, into batches of at most `size`."""
    emails: list[str] = []
    rows: list[int] = []
    no = first_no
    for _, row, email in unique:
        emails.append(email)
        rows.append(row)
        if len(emails) == size:
            yield PlannedBatch(no, emails, rows)
            emails, rows, no = [], [], no + 1
    if emails:
        yield PlannedBatch(no, emails, rows)
