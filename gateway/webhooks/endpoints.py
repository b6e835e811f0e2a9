"""Endpoints: where an organisation wants to be told of what.

The one of kind `callback` holds the secret for an organisation's `callbackUrl`s; each delivery to it carries its own
URL.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import AsyncIterator, Iterable

from gateway.accounts.caller import Caller
from gateway.collections import WEBHOOK_DELIVERIES, WEBHOOK_ENDPOINTS
from gateway.problem import Problem, not_found
from gateway.sandbox.mark import is_test
from gateway.webhooks.sign import OLD_SECRET_LASTS, new_secret
from shared.documents import Change, Document, Documents

MOST = 20  # endpoints of one organisation


def new_endpoint(
    org_id: str, url: str, events: Iterable[str], description: str, now: float, *, test: bool = False
) -> Document:
    """`test`: it is told of what test keys do, and of nothing else."""
    return {
        **({"test": True} if test else {}),
        "_id": f"we_{secrets.token_hex(12)}",
        "orgId": org_id,
        "kind": "endpoint",
        "url": url,
        "description": description,
        "events": sorted(set(events)),
        "secret": new_secret(),
        "oldSecret": None,
        "oldSecretUntil": 0.0,
        "createdAt": now,
        "disabledAt": None,
        "disabledWhy": None,
        "failingSince": None,
    }


def callback_id(org_id: str, *, test: bool = False) -> str:
    return f"callback:test:{org_id}" if test else f"callback:{org_id}"


async def callback_endpoint(documents: Documents, org_id: str, *, test: bool = False) -> Document:
    """Made when it is first needed."""
    id_ = callback_id(org_id, test=test)
    found = await documents.get(WEBHOOK_ENDPOINTS, id_)
    while found is None:
        fresh = new_endpoint(org_id, "", (), "", time.time(), test=test)
        await documents.insert(WEBHOOK_ENDPOINTS, fresh | {"_id": id_, "kind": "callback"})
        found = await documents.get(WEBHOOK_ENDPOINTS, id_)
    return found


async def endpoints(documents: Documents, org_id: str, *, test: bool = False) -> AsyncIterator[Document]:
    """An organisation's endpoints, the oldest first: those of its sandbox (`test`), or all others."""
    async for endpoint in documents.scan(WEBHOOK_ENDPOINTS, {"orgId": org_id}, sort="createdAt"):
        if endpoint["kind"] == "endpoint" and is_test(endpoint) == test:
            yield endpoint


async def add_endpoint(documents: Documents, endpoint: Document) -> None:
    """Raises Problem 409 beyond MOST. Repeatable for the same id."""
    there = [one["_id"] async for one in endpoints(documents, endpoint["orgId"], test=is_test(endpoint))]
    if endpoint["_id"] not in there and len(there) >= MOST:
        raise Problem(409, "too_many_endpoints", f"An organisation has at most {MOST} webhooks.")
    await documents.insert(WEBHOOK_ENDPOINTS, endpoint)


async def find_endpoint(documents: Documents, caller: Caller, endpoint_id: str) -> Document:
    """Raises Problem 404 alike for what does not exist and what is somebody else's, or another kind of key's."""
    endpoint = await documents.get(WEBHOOK_ENDPOINTS, endpoint_id)
    if endpoint is None or endpoint["orgId"] != caller.org_id or endpoint["kind"] != "endpoint":
        raise not_found("webhook")
    if is_test(endpoint) != caller.test:
        raise not_found("webhook")
    return endpoint


async def change_endpoint(documents: Documents, endpoint_id: str, change: dict[str, object]) -> Document:
    """Raises Problem 404 where it was deleted meanwhile."""
    changed = await documents.update(WEBHOOK_ENDPOINTS, endpoint_id, Change(set=change))
    if changed is None:
        raise not_found("webhook")
    return changed


async def rotate_secret(documents: Documents, endpoint: Document, now: float) -> str:
    """A new secret; the old one signs as well for OLD_SECRET_LASTS."""
    secret = new_secret()
    old = {"oldSecret": endpoint["secret"], "oldSecretUntil": now + OLD_SECRET_LASTS}
    await change_endpoint(documents, endpoint["_id"], {"secret": secret, **old})
    return secret


def valid_secrets(endpoint: Document, now: float) -> list[str]:
    """What signs now, the newest first."""
    old = endpoint["oldSecret"]
    return [endpoint["secret"], *([old] if old and now < endpoint["oldSecretUntil"] else [])]


async def delete_endpoint(documents: Documents, endpoint_id: str) -> None:
    """With its deliveries; one that is under way may still arrive."""
    await documents.delete(WEBHOOK_ENDPOINTS, endpoint_id)
    await documents.delete_many(WEBHOOK_DELIVERIES, {"endpointId": endpoint_id})


def wants(endpoint: Document, type_: str) -> bool:
    return endpoint["disabledAt"] is None and type_ in endpoint["events"]
