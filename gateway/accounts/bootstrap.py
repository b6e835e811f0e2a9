"""The first organisation, made by the lifespan before the first request. Everything here may be repeated."""

from __future__ import annotations

import time

from gateway.accounts.caller import DEFAULT_ORG, EVERYTHING
from gateway.accounts.organisations import ensure_organisation
from gateway.api_keys.keys import hash_key, key_document
from gateway.collections import API_KEYS
from gateway.parts import Parts
from shared.documents import Change
from shared.logs import get_log

log = get_log("gateway.accounts")

_SETTINGS = "settings"  # who makes and revokes bootstrap keys


async def bootstrap(parts: Parts) -> None:
    """The first organisation, its key (MAILVET_API_KEY, stored hashed) and its credits (BOOTSTRAP_CREDITS, once).

    Also finishes what a crash left in the ledger. Raises DocumentsUnavailable.
    """
    now = time.time()
    await ensure_organisation(parts.documents, DEFAULT_ORG, now)
    if parts.settings.api_key is not None:
        await _install_key(parts, parts.settings.api_key, now)
    await parts.ledger.sweep()
    if parts.settings.bootstrap_credits:
        await parts.ledger.grant(DEFAULT_ORG, parts.settings.bootstrap_credits, "bootstrap")


async def _install_key(parts: Parts, key: str, now: float) -> None:
    """The key of the settings is the only bootstrap key: another value there revokes the one before.

    A bootstrap key that somebody revoked by hand stays so, although the setting still names it.
    """
    documents, wanted = parts.documents, hash_key(key)
    document = key_document(key, DEFAULT_ORG, "bootstrap", (EVERYTHING,), created_by=_SETTINGS, now=now, bootstrap=True)
    if not await documents.insert(API_KEYS, document):
        back = Change(set={"revokedAt": None, "revokedBy": None})
        await documents.update(API_KEYS, wanted, back, {"revokedBy": _SETTINGS})
    async for other in documents.scan(API_KEYS, {"orgId": DEFAULT_ORG}):
        if other["bootstrap"] and other["_id"] != wanted and other["revokedAt"] is None:
            await documents.update(API_KEYS, other["_id"], Change(set={"revokedAt": now, "revokedBy": _SETTINGS}))
            log.info("bootstrap_key_replaced", key_id=other["keyId"])
    await parts.callers.changed()
