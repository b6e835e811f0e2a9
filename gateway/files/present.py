"""A file's document as callers see it. Pure."""

from __future__ import annotations

from typing import Any

from gateway.batches.state import RUNNING_FILE, FileStatus, shown
from gateway.results.summary import STATUSES, by_domain
from gateway.results.verdicts import rfc3339
from gateway.sandbox.mark import is_test
from shared.documents import Document


def _time(at: float | None) -> str | None:
    return None if at is None else rfc3339(at)


def total_results(file: Document) -> int:
    """How many results the file will have: one per unique address and one per malformed row."""
    total: int = file["uniqueEmails"] + file["malformed"]
    return total


def eta_seconds(file: Document, now: float) -> int | None:
    """Whole seconds until done; 0 when finished, None while nothing is known or the file is paused."""
    if file["status"] not in RUNNING_FILE:
        return 0
    eta = file.get("eta")
    if eta is None or file["status"] == FileStatus.PAUSED:
        return None
    left: float = eta["seconds"] - (now - eta["at"])
    return max(0, round(left))


def progress_of(file: Document) -> float:
    """0.0 to 1.0, by results."""
    total = total_results(file)
    return round(min(1.0, file.get("processed", 0) / total), 4) if total else 1.0


def present_file(file: Document, now: float) -> dict[str, Any]:
    """The body of `GET /files/{fileId}`."""
    return {
        "fileId": file["_id"],
        "kind": file["kind"],
        "filename": file["filename"],
        "status": shown(file["status"]),
        "test": is_test(file),
        "createdAt": _time(file["createdAt"]),
        "startedAt": _time(file.get("startedAt")),
        "finishedAt": _time(file.get("finishedAt")),
        "expiresAt": _time(file.get("expiresAt")),
        "erasedAt": _time(file.get("erasedAt")),
        "totalEmails": file["totalEmails"],
        "uniqueEmails": file["uniqueEmails"],
        "duplicates": file["duplicates"],
        "malformed": file["malformed"],
        "creditsReserved": file["creditsReserved"],
        "creditsCharged": file.get("creditsCharged", 0),
        "totalBatches": file["totalBatches"],
        "completedBatches": file.get("completedBatches", 0),
        "processed": file.get("processed", 0),
        **{status: file.get(status, 0) for status in STATUSES},
        "progress": progress_of(file),
        "etaSeconds": eta_seconds(file, now),
        "failure": file.get("failure"),
    }


def present_progress(file: Document, now: float) -> dict[str, Any]:
    """The data of a `progress`, `done` or `failed` event."""
    return {
        "fileId": file["_id"],
        "status": shown(file["status"]),
        "total": total_results(file),
        "processed": file.get("processed", 0),
        **{status: file.get(status, 0) for status in STATUSES},
        "progress": progress_of(file),
        "etaSeconds": eta_seconds(file, now),
        "totalBatches": file["totalBatches"],
        "completedBatches": file.get("completedBatches", 0),
        "failure": file.get("failure"),
    }


def present_stats(file: Document) -> dict[str, Any]:
    """The body of `GET /files/{fileId}/stats`, and the data of a `stats` event. Domains: the largest, at most 100."""
    return {
        "fileId": file["_id"],
        "total": total_results(file),
        "processed": file.get("processed", 0),
        **{status: file.get(status, 0) for status in STATUSES},
        "reasons": file.get("reasons") or {},
        "domains": [
            {"domain": domain, "total": sum(counts), **dict(zip(STATUSES, counts, strict=True))}
            for domain, counts in by_domain(file.get("domains") or [])
        ],
    }
