"""Who is next: the organisation with the fewest batches in flight, and in it the file with the fewest. Pure.

A list of ten rows is therefore never behind one of ten million: the big one is bounded, and whenever a place becomes
free the small one has fewer in flight. Equals take turns.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from heapq import heapify, heappop, heappush
from itertools import count
from typing import NamedTuple


class Waiting(NamedTuple):
    """A file that may have batches to send."""

    file_id: str
    org_id: str


class Turns:
    """Remembers across rounds whose turn it was."""

    def __init__(self) -> None:
        self.tick = count(1)
        self.last: dict[str, int] = {}

    def line(self, waiting: Iterable[Waiting], by_org: Counter[str], by_file: Counter[str]) -> Line:
        """One round's line. The counters are what is in flight; they are kept up to date."""
        return Line(list(waiting), by_org, by_file, self)

    def forget_all_but(self, names: set[str]) -> None:
        self.last = {name: tick for name, tick in self.last.items() if name in names}


class Line:
    """`front()` says who is next; then exactly one of `sent(file)` and `leave(file)` follows."""

    def __init__(self, waiting: list[Waiting], by_org: Counter[str], by_file: Counter[str], turns: Turns) -> None:
        self._by_org, self._by_file, self._turns = by_org, by_file, turns
        self._files: dict[str, list[tuple[int, int, str]]] = {}
        for file in waiting:
            self._files.setdefault(file.org_id, []).append(self._key(by_file, file.file_id))
        for files in self._files.values():
            heapify(files)
        self._orgs = [self._key(by_org, org) for org in self._files]
        heapify(self._orgs)

    def _key(self, in_flight: Counter[str], name: str) -> tuple[int, int, str]:
        return in_flight[name], self._turns.last.get(name, 0), name

    def front(self) -> Waiting | None:
        if not self._orgs:
            return None
        org = self._orgs[0][2]
        return Waiting(self._files[org][0][2], org)

    def sent(self, file: Waiting) -> None:
        """One more batch of the file in front is in flight."""
        files = self._step_out(file)
        self._turns.last[file.org_id] = self._turns.last[file.file_id] = next(self._turns.tick)
        self._by_org[file.org_id] += 1
        self._by_file[file.file_id] += 1
        heappush(files, self._key(self._by_file, file.file_id))
        heappush(self._orgs, self._key(self._by_org, file.org_id))

    def leave(self, file: Waiting) -> None:
        """The file in front has nothing due, or is full."""
        if self._step_out(file):
            heappush(self._orgs, self._key(self._by_org, file.org_id))

    def _step_out(self, file: Waiting) -> list[tuple[int, int, str]]:
        heappop(self._orgs)
        files = self._files[file.org_id]
        heappop(files)
        return files
