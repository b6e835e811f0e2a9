"""What a batch's results add up to. Pure.

A summary is `{valid, invalid, risky, unknown, billable, reasons: {reason: n}, domains: [domain, valid, invalid, risky,
unknown, domain, ...]}`. Domains are one flat list because some MongoDB-wire servers refuse keys with dots and lists in
lists. Counts of a file are sums of its batches' summaries, never increments.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from shared.verdict import is_billable

STATUSES = ("valid", "invalid", "risky", "unknown")
_AT = {status: position for position, status in enumerate(STATUSES)}
TOP_DOMAINS = 100  # shown to users
MAX_DOMAINS = 20_000  # kept while adding up; beyond it the smallest are forgotten

Summary = dict[str, Any]


def empty_summary() -> Summary:
    return {"valid": 0, "invalid": 0, "risky": 0, "unknown": 0, "billable": 0, "reasons": {}, "domains": []}


def summarise(results: Iterable[Mapping[str, Any]]) -> Summary:
    """Counts of these results (JSON objects as stored). Raises KeyError where one has no status we know.

    Runs once for every address there is: a dict look-up or two each, the rest per distinct outcome.
    """
    outcomes: dict[tuple[str, str], int] = {}
    domains: dict[str, list[int]] = {}
    for result in results:
        outcome = status, reason = result["status"], result["reason"]
        outcomes[outcome] = outcomes.get(outcome, 0) + 1
        domain = (result["normalized"] or result["email"]).rpartition("@")[2]
        counts = domains.get(domain)
        if counts is None:
            if reason == "invalid_syntax":  # there is no domain
                continue
            counts = domains[domain] = [0, 0, 0, 0]
        counts[_AT[status]] += 1
    summary = empty_summary()
    for (status, reason), count in outcomes.items():
        summary[STATUSES[_AT[status]]] += count
        summary["billable"] += count * is_billable(status, reason)
        summary["reasons"][reason] = summary["reasons"].get(reason, 0) + count
    summary["domains"] = _flat(domains.items())
    return summary


def _flat(domains: Iterable[tuple[str, list[int]]]) -> list[Any]:
    return [value for domain, counts in domains for value in (domain, *counts)]


def by_domain(flat: Sequence[Any]) -> Iterator[tuple[str, list[int]]]:
    """(domain, [valid, invalid, risky, unknown]) of a summary's or a file's `domains`."""
    for at in range(0, len(flat), 5):
        yield flat[at], list(flat[at + 1 : at + 5])


@dataclass(slots=True)
class Totals:
    """Sums of summaries, with a way back out: a batch that got more results is taken out and put in again."""

    valid: int = 0
    invalid: int = 0
    risky: int = 0
    unknown: int = 0
    billable: int = 0
    reasons: dict[str, int] = field(default_factory=dict)
    domains: dict[str, list[int]] = field(default_factory=dict)

    @property
    def processed(self) -> int:
        return self.valid + self.invalid + self.risky + self.unknown

    def add(self, summary: Mapping[str, Any], sign: int = 1) -> None:
        """Add a summary, or with `sign` -1 take it out again."""
        self.valid += sign * summary["valid"]
        self.invalid += sign * summary["invalid"]
        self.risky += sign * summary["risky"]
        self.unknown += sign * summary["unknown"]
        self.billable += sign * summary["billable"]
        for reason, count in summary["reasons"].items():
            self.reasons[reason] = self.reasons.get(reason, 0) + sign * count
        for domain, counts in by_domain(summary["domains"]):
            known = self.domains.setdefault(domain, [0, 0, 0, 0])
            for position, count in enumerate(counts):
                known[position] += sign * count
        if len(self.domains) > 2 * MAX_DOMAINS:
            self.domains = {domain: self.domains[domain] for domain in self._largest(MAX_DOMAINS)}

    def _largest(self, count: int) -> list[str]:
        return sorted(self.domains, key=lambda domain: (-sum(self.domains[domain]), domain))[:count]

    def fields(self) -> dict[str, Any]:
        """The count fields of a FILES document."""
        return {
            "processed": self.processed,
            "valid": self.valid,
            "invalid": self.invalid,
            "risky": self.risky,
            "unknown": self.unknown,
            "billable": self.billable,
            "reasons": {reason: count for reason, count in sorted(self.reasons.items()) if count},
            "domains": _flat((domain, self.domains[domain]) for domain in self._largest(TOP_DOMAINS)),
        }

    def summary(self) -> Summary:
        """What a batch's document keeps: everything, domains included."""
        return {
            **{status: getattr(self, status) for status in STATUSES},
            "billable": self.billable,
            "reasons": self.reasons,
            "domains": _flat(self.domains.items()),
        }


def add_up(before: Summary, more: Summary) -> Summary:
    """The summary of a batch that got more results."""
    if not any(before[status] for status in STATUSES):
        return more
    totals = Totals()
    totals.add(before)
    totals.add(more)
    return totals.summary()
