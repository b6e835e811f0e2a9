"""Privacy: an organisation's retention, the suppression list, and the erasure of one address."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Path, Response
from pydantic import BaseModel, ConfigDict, Field, field_validator

from gateway.accounts.caller import Caller, need_scope
from gateway.accounts.routes import Organisation, show_organisation
from gateway.audit.record import record
from gateway.collections import ERASURES, ORGANISATIONS, SUPPRESSED
from gateway.cursor import DEFAULT_LIMIT, Cursor, Limit, read_page
from gateway.idempotency.once import OnceDep
from gateway.parts import PartsDep
from gateway.problem import Problem, not_found
from gateway.retention.erase_address import carry_out, new_erasure
from gateway.retention.suppress import suppress
from gateway.retention.sweep import apply_days
from shared.address import Address, Malformed, parse_address
from shared.documents import Change, Document

router = APIRouter(prefix="/api/v1", tags=["privacy"])

WAIT = 2.0  # seconds a caller waits to see an erasure done; it goes on without them

Keeper = Annotated[Caller, Depends(need_scope("privacy:write"))]


class OrganisationChange(BaseModel):
    """What is left out stays as it is; `retentionDays: null` is the installation's own."""

    model_config = ConfigDict(extra="forbid")

    name: str | None = Field(default=None, min_length=1, max_length=100)
    retentionDays: int | None = Field(default=None, ge=1, strict=True)  # noqa: N815 - the wire's spelling
    lowCreditsBelow: int | None = Field(default=None, ge=1, le=10**9, strict=True)  # noqa: N815

    @field_validator("name")
    @classmethod
    def _printable(cls, value: str | None) -> str | None:
        if value is not None and not value.isprintable():
            raise ValueError("no control characters")
        return value


class OneAddress(BaseModel):
    model_config = ConfigDict(extra="forbid")

    email: str = Field(min_length=1, max_length=320)

    def address(self) -> Address:
        """Raises Problem 422."""
        parsed = parse_address(self.email.strip())
        if isinstance(parsed, Malformed):
            raise Problem(422, "invalid_address", parsed.why, field="body.email")
        return parsed


class Suppression(BaseModel):
    """`id` is a keyed hash; the address itself is not kept."""

    id: str
    at: datetime


class Suppressions(BaseModel):
    items: list[Suppression]
    nextCursor: str | None  # noqa: N815 - the wire's spelling


class Erasure(BaseModel):
    """`files` and `results`: in how many it stood; known when it is done."""

    id: str
    state: Literal["running", "done"]
    files: int
    results: int
    createdAt: datetime  # noqa: N815 - the wire's spelling
    finishedAt: datetime | None  # noqa: N815


@router.patch("/organisation")
async def change_organisation(body: OrganisationChange, parts: PartsDep, caller: Keeper) -> Organisation:
    """Name, retention and the mark for `credits.low`. Files that are there already follow a new retention."""
    change: dict[str, Any] = body.model_dump(exclude_unset=True)
    if change.get("name", "") is None:
        raise Problem(422, "invalid_request", "An organisation has a name.", field="body.name")
    most = parts.settings.retention_days
    if (change.get("retentionDays") or 1) > most:
        raise Problem(422, "invalid_request", f"retentionDays is at most {most} here.", field="body.retentionDays")
    found = await parts.documents.update(ORGANISATIONS, caller.org_id, Change(set=change))
    if found is None:
        raise not_found("organisation")
    if "retentionDays" in change:
        await apply_days(parts.documents, caller.org_id, change["retentionDays"] or most)
    await record(parts, caller, "organisation.changed", caller.org_id, change)
    return show_organisation(found, caller)


@router.get("/suppressions", response_model=Suppressions)
async def list_suppressions(
    parts: PartsDep, caller: Keeper, cursor: Cursor = None, limit: Limit = DEFAULT_LIMIT
) -> dict[str, Any]:
    """Who is never asked about, newest first, as keyed hashes."""
    where = {"orgId": caller.org_id}
    return await read_page(parts.documents, SUPPRESSED, where, _show_suppression, sort="at", cursor=cursor, limit=limit)


@router.post("/suppressions", status_code=201, response_model=Suppression)
async def add_suppression(body: OneAddress, parts: PartsDep, caller: Keeper, once: OnceDep) -> Response:
    """Never ask about this address again: its result is `unknown`, `suppressed`, free of charge. Repeatable."""
    address = body.address()

    async def produce(_: str) -> Response:
        id_ = await suppress(parts, caller.org_id, address)
        found = await parts.documents.get(SUPPRESSED, f"{caller.org_id}:{id_}")
        if found is None:
            raise Problem(503, "unavailable", "It was taken off the list meanwhile; try again.", retry_after=1)
        await record(parts, caller, "suppression.added", id_)
        shown = Suppression(**_show_suppression(found))
        return Response(shown.model_dump_json(), 201, media_type="application/json")

    return await once(produce, address.key.encode())


@router.delete("/suppressions/{suppression_id}", status_code=204)
async def remove_suppression(
    suppression_id: Annotated[str, Path(max_length=64)], parts: PartsDep, caller: Keeper
) -> None:
    """The address may be asked about again."""
    if not await parts.documents.delete(SUPPRESSED, f"{caller.org_id}:{suppression_id}"):
        raise not_found("suppression")
    await record(parts, caller, "suppression.removed", suppression_id)


@router.post("/erasures", status_code=202, response_model=Erasure)
async def erase_address(body: OneAddress, parts: PartsDep, caller: Keeper, once: OnceDep) -> Response:
    """Erase one address from every list, result and cache of the organisation, and never ask about it again."""
    address = body.address()

    async def produce(id_: str) -> Response:
        erasure = await new_erasure(parts, caller.org_id, f"er_{id_}", address)
        working = parts.machine.begin("erase-address", carry_out(parts, erasure))
        await asyncio.wait([working], timeout=WAIT)
        await record(parts, caller, "address.erased", erasure["_id"])
        shown = Erasure(**_show_erasure(await parts.documents.get(ERASURES, erasure["_id"]) or erasure))
        location = {"Location": f"/api/v1/erasures/{shown.id}"}
        return Response(shown.model_dump_json(), 202, location, media_type="application/json")

    return await once(produce, address.key.encode())


@router.get("/erasures/{erasure_id}", response_model=Erasure)
async def get_erasure(
    erasure_id: Annotated[str, Path(max_length=64)], parts: PartsDep, caller: Keeper
) -> dict[str, Any]:
    """Whether it is done."""
    found = await parts.documents.get(ERASURES, erasure_id)
    if found is None or found["orgId"] != caller.org_id:
        raise not_found("erasure")
    return _show_erasure(found)


def _show_suppression(found: Document) -> dict[str, Any]:
    return {"id": found["_id"].removeprefix(f"{found['orgId']}:"), "at": datetime.fromtimestamp(found["at"], UTC)}


def _show_erasure(found: Document) -> dict[str, Any]:
    times = {
        name: None if found[name] is None else datetime.fromtimestamp(found[name], UTC)
        for name in ("createdAt", "finishedAt")
    }
    return {"id": found["_id"], **{name: found[name] for name in ("state", "files", "results")}, **times}
