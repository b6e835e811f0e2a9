"""What is told to webhooks: the types, and bodies of ids and counts. No address is ever in a body. Pure."""

from __future__ import annotations

from typing import Any, Literal, get_args

import orjson

from gateway.results.summary import STATUSES
from gateway.results.verdicts import rfc3339
from gateway.sandbox.mark import is_test
from shared.documents import Document

EventType = Literal["bulk_job.finished", "bulk_job.failed", "verification.completed", "credits.low"]
EVENT_TYPES: tuple[EventType, ...] = get_args(EventType)
TEST_TYPE = "webhook.test"

_COUNTS = ("totalEmails", "uniqueEmails", "duplicates", "malformed", "processed", *STATUSES, "creditsCharged")


def type_of_file(file: Document) -> EventType:
    """The type of the event that the end of a file is."""
    if file["kind"] == "single":
        return "verification.completed"
    return "bulk_job.failed" if file["status"] == "failed" else "bulk_job.finished"


def body_of_file(file: Document) -> str:
    """`data.status` is completed, cancelled or failed; of a single validation, its verdict."""
    id_ = file["_id"]
    if file["kind"] == "single":
        verdict = next((status for status in STATUSES if file[status]), file["status"])
        reason = next(iter(file["reasons"]), None)
        data: dict[str, Any] = {"validationId": id_, "status": verdict, "reason": reason}
    else:
        names = {"fileId": id_, "batchId": id_} if file["kind"] == "batch" else {"fileId": id_}
        data = {**names, "status": file["status"], **{name: file.get(name, 0) for name in _COUNTS}}
    return body(type_of_file(file), file["event"]["at"], data, test=is_test(file))


def body(type_: str, at: float, data: dict[str, Any], *, test: bool = False) -> str:
    """The exact text that is signed and sent, the same at every try. `test`: it is about the sandbox."""
    mark = {"test": True} if test else {}
    return orjson.dumps({"type": type_, "timestamp": rfc3339(at), **mark, "data": data}).decode()
