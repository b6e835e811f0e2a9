"""GET /api/v1/audit-log, for admins."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any

from fastapi import APIRouter, Depends
from pydantic import BaseModel

from gateway.accounts.caller import Caller, need_scope
from gateway.audit.record import digest_of
from gateway.collections import AUDIT
from gateway.cursor import DEFAULT_LIMIT, Cursor, Limit, read_page
from gateway.parts import PartsDep
from shared.documents import Document

router = APIRouter(tags=["audit"])


class Record(BaseModel):
    """`digest`: of the entry as it is stored now; the log of the process that wrote it has what it was then."""

    id: str
    at: datetime
    actor: str
    action: str
    target: str
    detail: dict[str, Any]
    digest: str


class AuditPage(BaseModel):
    items: list[Record]
    nextCursor: str | None  # noqa: N815 - the wire's spelling


@router.get("/api/v1/audit-log", response_model=AuditPage)
async def audit_log(
    parts: PartsDep,
    caller: Annotated[Caller, Depends(need_scope("audit:read"))],
    cursor: Cursor = None,
    limit: Limit = DEFAULT_LIMIT,
) -> dict[str, Any]:
    """Who did what to what, newest first."""
    where = {"orgId": caller.org_id}
    return await read_page(parts.documents, AUDIT, where, _show, sort="at", cursor=cursor, limit=limit)


def _show(entry: Document) -> dict[str, Any]:
    shown = {name: entry[name] for name in ("actor", "action", "target", "detail")}
    return {"id": entry["_id"], "at": datetime.fromtimestamp(entry["at"], UTC), **shown, "digest": digest_of(entry)}
