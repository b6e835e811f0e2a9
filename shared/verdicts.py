"""Verdicts about many addresses, column by column.

A validator holds hundreds of thousands at a time: an object for each would be most of its memory, and most of what it
costs to write them down.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Self

from shared.verdict import Finding, Verdict


class Verdicts:
    """By the position of their addresses in `emails`; None where there is none."""

    __slots__ = ("checked_at", "emails", "findings", "normalized", "traces")

    def __init__(self, emails: Sequence[str]) -> None:
        self.emails = emails
        self.findings: list[Finding | None] = [None] * len(emails)
        self.checked_at: list[str] = [""] * len(emails)  # RFC 3339; empty where there is none
        self.normalized: dict[int, str | None] = {}  # where that is not the address as it was given
        self.traces: dict[int, tuple[dict[str, Any], ...]] = {}  # where there is one

    @classmethod
    def of(cls, emails: Sequence[str], verdicts: Sequence[Verdict | None]) -> Self:
        self = cls(emails)
        for index, verdict in enumerate(verdicts):
            if verdict is not None:
                self[index] = verdict
        return self

    def put(
        self,
        index: int,
        finding: Finding,
        normalized: str | None,
        checked_at: str,
        trace: tuple[dict[str, Any], ...] = (),
    ) -> None:
        """The verdict about the address at `index`, of which there was none."""
        self.findings[index] = finding
        self.checked_at[index] = checked_at
        if normalized != self.emails[index]:
            self.normalized[index] = normalized
        if trace:
            self.traces[index] = trace

    def __setitem__(self, index: int, verdict: Verdict) -> None:
        self.put(index, verdict.finding, verdict.normalized, verdict.checked_at, verdict.trace)

    def __getitem__(self, index: int) -> Verdict | None:
        finding = self.findings[index]
        if finding is None:
            return None
        email = self.emails[index]
        return Verdict(
            email=email,
            normalized=self.normalized.get(index, email),
            finding=finding,
            checked_at=self.checked_at[index],
            trace=self.traces.get(index, ()),
        )

    def __len__(self) -> int:
        return len(self.emails)

    def __iter__(self) -> Iterator[Verdict | None]:
        return map(self.__getitem__, range(len(self.emails)))
