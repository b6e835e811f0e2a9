"""The audit log: who did what to what, appended and never changed. No address, key or token in any field."""

from __future__ import annotations

import secrets
import time
from collections.abc import Mapping

from gateway.accounts.caller import Caller
from gateway.collections import AUDIT
from gateway.parts import Parts
from shared.documents import Document, Documents

Detail = Mapping[str, str | int | float | bool | list[str] | None]


async def record(parts: Parts, caller: Caller, action: str, target: str, detail: Detail | None = None) -> None:
    """Append. `action`: such as `api_key.created`; `target`: the id of what it was done to; `detail`: ids, counts."""
    await append(parts.documents, caller.org_id, caller.actor, action, target, detail=detail or {})


async def append(
    documents: Documents,
    org_id: str,
    actor: str,
    action: str,
    target: str,
    *,
    detail: Detail,
    id_: str | None = None,
) -> bool:
    """What has no caller, or is known by an `id_` and happens once. False when `id_` is there already."""
    document: Document = {
        "_id": id_ or f"audit_{secrets.token_hex(12)}",
        "orgId": org_id,
        "at": time.time(),
        "actor": actor,
        "action": action,
        "target": target,
        "detail": dict(detail),
    }
    return await documents.insert(AUDIT, document)
