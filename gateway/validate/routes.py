"""POST and GET /api/v1/validate-batch and /api/v1/validate."""

from __future__ import annotations

import time
from typing import Annotated, Any

import msgspec
from fastapi import APIRouter, Depends, Response
from pydantic import BaseModel, ConfigDict, Field, StrictBool, StrictStr

from gateway.accounts.caller import Caller, need_scope
from gateway.batches.state import TERMINAL_FILE, FileStatus, shown
from gateway.collections import BATCHES, FILES
from gateway.files.find import Reader, find_file
from gateway.files.present import eta_seconds, total_results
from gateway.idempotency.once import OnceDep
from gateway.parts import Parts, PartsDep
from gateway.problem import Problem, not_found
from gateway.results.verdicts import malformed_result, undecided_result
from gateway.retention.suppress import is_suppressed
from gateway.sandbox.mark import is_test, own_id
from gateway.sandbox.simulate import refuse_if_asked, simulate
from gateway.uploads.plan import MalformedRow, read_cell
from gateway.validate.ask import ask_validator
from gateway.validate.submit import submit_list, submit_single
from gateway.webhooks.judge_url import require_url
from shared.address_guard import allowed_networks
from shared.documents import Document
from shared.errors import ValidatorUnavailable
from shared.verdict import Reason, is_billable

router = APIRouter(prefix="/api/v1", tags=["validate"])

MOST_EMAILS = 10_000
LONGEST_EMAIL = 2_000  # characters; what is longer than an address is malformed, what is longer than this is refused
MOST_LIST = 24_000_000  # bytes of a request: MOST_EMAILS of the longest, and their frame
DEFAULT_TIMEOUT = 30.0  # seconds

Spender = Annotated[Caller, Depends(need_scope("validate:write"))]


class NewBatch(BaseModel):
    model_config = ConfigDict(extra="forbid")

    emails: list[Annotated[StrictStr, Field(max_length=LONGEST_EMAIL)]] = Field(min_length=1, max_length=MOST_EMAILS)
    callback_url: str | None = Field(default=None, alias="callbackUrl", max_length=2_000)
    trace: StrictBool = False  # True: each result tells every step of its conversations


class NewSingle(BaseModel):
    model_config = ConfigDict(extra="forbid")

    email: Annotated[StrictStr, Field(max_length=LONGEST_EMAIL)]
    timeout: float = Field(default=DEFAULT_TIMEOUT, ge=1, le=60)


def _json(body: Any, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    return Response(msgspec.json.encode(body), status, headers, media_type="application/json")


# --- lists ---
@router.post("/validate-batch", status_code=202)
async def validate_batch(body: NewBatch, caller: Spender, parts: PartsDep, once: OnceDep) -> Response:
    """Up to 10,000 addresses. Every string is a row: equal addresses get one result, malformed ones a free one."""
    callback_url = body.callback_url
    if callback_url is not None:
        callback_url = require_url(
            callback_url, allowed_networks(parts.settings.webhook_allow_networks), "body.callbackUrl"
        )

    async def produce(id_: str) -> Response:
        if caller.test:
            refuse_if_asked(body.emails)
        file_id = own_id(caller, id_)
        file = await submit_list(parts, caller, file_id, body.emails, callback_url, trace=body.trace)
        accepted = {
            "batchId": file["_id"],
            "fileId": file["_id"],
            "status": shown(file["status"]),
            "test": is_test(file),
            "totalEmails": file["totalEmails"],
            "uniqueEmails": file["uniqueEmails"],
            "duplicates": file["duplicates"],
            "malformed": file["malformed"],
            "creditsReserved": file["creditsReserved"],
            "totalBatches": file["totalBatches"],
        }
        return _json(accepted, 202, {"Location": f"/api/v1/validate-batch/{file['_id']}"})

    return await once(produce, body)


@router.get("/validate-batch/{batch_id}")
async def get_batch(batch_id: str, caller: Reader, parts: PartsDep) -> Response:
    """The results so far, one per unique address and malformed row, in the order of the list that was sent."""
    file = await _find(parts, caller, batch_id, "batch")
    results = [] if file.get("eraseState") else await _results(parts, batch_id)
    body = {
        "batchId": batch_id,
        "fileId": batch_id,
        "status": shown(file["status"]),
        "test": is_test(file),
        "processedEmails": len(results) if not file.get("eraseState") else file["processed"],
        "totalEmails": file["totalEmails"],
        "totalResults": total_results(file),
        "etaSeconds": eta_seconds(file, time.time()),
        "results": results,
    }
    return _json(body)


async def _find(parts: Parts, caller: Caller, file_id: str, kind: str) -> Document:
    file = await find_file(parts.documents, caller, file_id)
    if file["kind"] != kind:
        raise not_found(kind)
    return file


async def _results(parts: Parts, file_id: str) -> list[dict[str, Any]]:
    """In the order of the rows. Bounded by MOST_EMAILS."""
    results: list[dict[str, Any]] = []
    async for batch in parts.documents.scan(BATCHES, {"fileId": file_id}, sort="no"):
        results += batch["results"]
    results.sort(key=lambda result: result["row"])
    return results


# --- single addresses ---
@router.post("/validate")
async def validate(body: NewSingle, caller: Spender, parts: PartsDep, once: OnceDep) -> Response:
    """200 with the result. Where it needs longer: 202 with `Location`, polled free of charge."""

    async def produce(id_: str) -> Response:
        return await (_simulate if caller.test else _validate)(parts, caller, own_id(caller, id_), body)

    return await once(produce, body)


async def _validate(parts: Parts, caller: Caller, id_: str, body: NewSingle) -> Response:
    cell = read_cell(1, body.email)
    if isinstance(cell, MalformedRow):
        return _json(malformed_result(cell.email, cell.why, time.time()))
    if await is_suppressed(parts, caller.org_id, cell):
        return _json(undecided_result(cell.given, Reason.SUPPRESSED, time.time()))
    charge = f"validate:{id_}"
    available = (await parts.ledger.balance(caller.org_id)).available
    if available < 1 and not await parts.ledger.is_charged(caller.org_id, charge):  # by a run that was cut off
        raise Problem(402, "insufficient_credits", "A validation costs one credit.", required=1, available=0)
    found = await parts.documents.get(FILES, id_)
    if found is not None:  # an earlier run with the same Idempotency-Key began it
        return _running(found)
    put_off: float | None = None
    try:
        urls = parts.settings.validator_urls
        answer = await ask_validator(parts.validators, urls, cell.given, body.timeout, caller.org_id)
        if answer.result is not None:
            if is_billable(answer.result["status"], answer.result["reason"]):
                await parts.ledger.charge(caller.org_id, 1, charge)
            return _json(answer.result)
        if answer.put_off is not None:
            put_off = max([*parts.settings.retry_delays[:1], answer.put_off.after or 0.0])
    except ValidatorUnavailable:
        put_off = None  # the pipeline asks whoever comes back first
    file = await submit_single(parts, caller, id_, cell.given, put_off=put_off)
    return _running(file)


async def _simulate(parts: Parts, caller: Caller, id_: str, body: NewSingle) -> Response:
    """As `_validate`, for a test key: nobody is asked and nothing is charged."""
    cell, now = read_cell(1, body.email), time.time()
    if isinstance(cell, MalformedRow):
        return _json(malformed_result(cell.email, cell.why, now) | {"test": True})
    refuse_if_asked([cell.given])
    delays = parts.settings.retry_delays
    verdict = simulate(cell.given, look=0, last_look=not delays, now=now)
    if verdict is not None:
        return _json(msgspec.to_builtins(verdict.result()) | {"test": True})
    return _running(await submit_single(parts, caller, id_, cell.given, put_off=delays[0]))


def _running(file: Document) -> Response:
    where = f"/api/v1/validate/{file['_id']}"
    eta = eta_seconds(file, time.time())
    status = shown(file["status"])
    body = {"id": file["_id"], "status": status, "test": is_test(file), "etaSeconds": eta, "location": where}
    return _json(body, 202, {"Location": where, "Retry-After": "2"})


@router.get("/validate/{validation_id}")
async def get_validation(validation_id: str, caller: Reader, parts: PartsDep) -> Response:
    """202 while it runs, then 200 with the result."""
    file = await _find(parts, caller, validation_id, "single")
    if file["status"] not in TERMINAL_FILE:
        return _running(file)
    results = await _results(parts, validation_id)
    if results:
        return _json(results[0] | {"test": True} if is_test(file) else results[0])
    if file["status"] == FileStatus.CANCELLED or file.get("eraseState"):
        raise Problem(410, "cancelled", "This validation was cancelled or erased.")
    raise Problem(500, "failed", "This validation failed.")
