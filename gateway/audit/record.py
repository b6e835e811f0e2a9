"""The audit log: who did what to what, appended and never changed. No address, key or token in any field.

Who may write to the document store may change it there. So that this shows, the digest of every entry also goes into
the process's log (`audit_recorded`), which operators send elsewhere; the API tells the digest of what is stored now. A
chain of hashes in the store itself would add nothing: who rewrites an entry rewrites the chain.
"""

from __future__ import annotations

import hashlib
import secrets
import time
from collections.abc import Mapping

import orjson

from gateway.accounts.caller import Caller
from gateway.collections import AUDIT
from gateway.parts import Parts
from shared.documents import Document, Documents
from shared.logs import get_log

log = get_log("gateway.audit")

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
    added = await documents.insert(AUDIT, document)
    if added:
        log.info("audit_recorded", org_id=org_id, action=action, digest=digest_of(document))
    return added


def digest_of(entry: Document) -> str:
    """SHA-256 over the whole entry, in hex: its keys in order, as JSON."""
    return hashlib.sha256(orjson.dumps(entry, option=orjson.OPT_SORT_KEYS)).hexdigest()
