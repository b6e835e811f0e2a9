"""Organisations: what everything belongs to."""

from __future__ import annotations

from gateway.collections import ORGANISATIONS
from shared.documents import Documents


async def ensure_organisation(documents: Documents, org_id: str, now: float) -> None:
    """Write it down where it is new; its name is its id until somebody gives it one."""
    await documents.insert(
        ORGANISATIONS, {"_id": org_id, "name": org_id, "createdAt": now, "plan": "default", "retentionDays": None}
    )
