"""GET /api/v1/credits and its ledger."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any

from fastapi import APIRouter, Depends
from pydantic import BaseModel

from gateway.accounts.caller import Caller, need_scope
from gateway.collections import CREDIT_ENTRIES
from gateway.credits.ledger import Balance, Kind
from gateway.cursor import DEFAULT_LIMIT, Cursor, Limit, read_page
from gateway.parts import PartsDep
from shared.documents import Document

router = APIRouter(tags=["credits"])

Reader = Annotated[Caller, Depends(need_scope("credits:read"))]


class Entry(BaseModel):
    """One movement. The sum of all `amount` is the balance, the sum of all `reserved` is what is reserved."""

    id: str
    kind: Kind
    credits: int  # how many were moved
    amount: int  # by how much the balance changed
    reserved: int  # by how much what is set aside changed
    fileId: str | None  # noqa: N815 - the wire's spelling
    cause: str
    at: datetime


class LedgerPage(BaseModel):
    items: list[Entry]
    nextCursor: str | None  # noqa: N815 - the wire's spelling


@router.get("/api/v1/credits")
async def credits_of(parts: PartsDep, caller: Reader) -> Balance:
    """`balance` is what is owned, holds included; `available` may be spent."""
    return await parts.ledger.balance(caller.org_id)


@router.get("/api/v1/credits/ledger", response_model=LedgerPage)
async def ledger_of(
    parts: PartsDep, caller: Reader, cursor: Cursor = None, limit: Limit = DEFAULT_LIMIT
) -> dict[str, Any]:
    """Every movement of credits, newest first."""
    await parts.ledger.post(caller.org_id)  # what a crash kept from being copied belongs on the page
    where = {"orgId": caller.org_id}
    return await read_page(parts.documents, CREDIT_ENTRIES, where, _show, sort="at", cursor=cursor, limit=limit)


def _show(entry: Document) -> dict[str, Any]:
    shown = {name: entry[name] for name in ("kind", "credits", "amount", "reserved", "fileId", "cause")}
    return {"id": entry["_id"], **shown, "at": datetime.fromtimestamp(entry["at"], UTC)}
