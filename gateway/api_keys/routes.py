"""GET, POST and DELETE /api/v1/api-keys."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from ipaddress import ip_network
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Path, Response
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, field_validator

from gateway.accounts.caller import EVERYTHING, SCOPES, Caller, Scope, need_scope
from gateway.api_keys.keys import key_document, make_key
from gateway.audit.record import record
from gateway.collections import API_KEYS
from gateway.cursor import DEFAULT_LIMIT, Cursor, Limit, read_page
from gateway.idempotency.once import OnceDep
from gateway.parts import Parts, PartsDep
from gateway.problem import Problem, not_found
from shared.documents import Change, Document

router = APIRouter(tags=["api keys"])

MOST = 500  # keys of one organisation, revoked ones included
LONGEST = 10 * 365 * 86_400.0  # seconds a key that expires may live
USUAL_SCOPES: tuple[Scope, ...] = ("files:read", "files:write", "validate:write", "credits:read")


class NewKey(BaseModel):
    """What to make. `scopes` says what it may do; `*` is everything that its maker may."""

    model_config = ConfigDict(extra="forbid")

    name: str = Field(min_length=1, max_length=100)
    scopes: list[Scope | Literal["*"]] = Field(default=list(USUAL_SCOPES), min_length=1, max_length=len(SCOPES) + 1)
    expiresAt: AwareDatetime | None = None  # noqa: N815 - the wire's spelling
    allowedNetworks: list[str] = Field(default=[], max_length=50)  # noqa: N815 - the wire's spelling
    test: bool = False

    @field_validator("allowedNetworks")
    @classmethod
    def _networks(cls, value: list[str]) -> list[str]:
        return [str(ip_network(network, strict=False)) for network in value]


class ShownKey(BaseModel):
    """A key without its secret. `prefix` is how it begins."""

    id: str
    name: str
    prefix: str
    scopes: list[str]
    test: bool
    createdAt: datetime  # noqa: N815 - the wire's spelling
    createdBy: str  # noqa: N815 - the wire's spelling
    expiresAt: datetime | None  # noqa: N815 - the wire's spelling
    revokedAt: datetime | None  # noqa: N815 - the wire's spelling
    lastUsedAt: datetime | None  # noqa: N815 - the wire's spelling
    allowedNetworks: list[str]  # noqa: N815 - the wire's spelling


class MadeKey(ShownKey):
    key: str  # shown this once


class KeyPage(BaseModel):
    items: list[ShownKey]
    nextCursor: str | None  # noqa: N815 - the wire's spelling


@router.get("/api/v1/api-keys", response_model=KeyPage)
async def list_keys(
    parts: PartsDep,
    caller: Annotated[Caller, Depends(need_scope("keys:read"))],
    cursor: Cursor = None,
    limit: Limit = DEFAULT_LIMIT,
) -> dict[str, Any]:
    """The organisation's keys, newest first, revoked ones too."""
    where = {"orgId": caller.org_id}
    return await read_page(
        parts.documents,
        API_KEYS,
        where,
        lambda key: _show(key).model_dump(),
        sort="createdAt",
        cursor=cursor,
        limit=limit,
    )


@router.post("/api/v1/api-keys", status_code=201, response_model=MadeKey)
async def create_key(
    new: NewKey,
    parts: PartsDep,
    caller: Annotated[Caller, Depends(need_scope("keys:write"))],
    once: OnceDep,
) -> Response:
    """Make a key. Its secret is in this answer and nowhere else."""
    wanted = set(new.scopes)
    if EVERYTHING not in caller.scopes and not wanted <= caller.scopes:
        raise Problem(403, "scope_missing", "A key cannot be given more than its maker may do.")
    if new.expiresAt is not None and not 0 < new.expiresAt.timestamp() - time.time() < LONGEST:
        raise Problem(422, "invalid_request", "expiresAt is not within the next ten years.", field="expiresAt")

    async def produce(resource_id: str) -> Response:
        made = await _make(parts, caller, new, f"key_{resource_id[:24]}")
        location = {"Location": f"/api/v1/api-keys/{made.id}"}
        return Response(made.model_dump_json(), 201, location, media_type="application/json")

    return await once(produce, new)


@router.delete("/api/v1/api-keys/{key_id}", status_code=204)
async def revoke_key(
    key_id: Annotated[str, Path(max_length=64)],
    parts: PartsDep,
    caller: Annotated[Caller, Depends(need_scope("keys:write"))],
) -> None:
    """Revoke a key: refused everywhere within 5 seconds, for ever. It stays listed."""
    document = await _find(parts, caller, key_id)
    if document is None:
        raise not_found("key")
    change = Change(set={"revokedAt": time.time(), "revokedBy": caller.actor})
    revoked = await parts.documents.update(API_KEYS, document["_id"], change, {"revokedAt": None})
    await parts.callers.changed()
    if revoked is not None:
        await record(parts, caller, "api_key.revoked", key_id)


async def _make(parts: Parts, caller: Caller, new: NewKey, key_id: str) -> MadeKey:
    """Repeatable: a key that a run before this one left was never shown to anyone and is replaced."""
    left = await _find(parts, caller, key_id)
    if left is not None:
        await parts.documents.delete(API_KEYS, left["_id"])
    if await parts.documents.count(API_KEYS, {"orgId": caller.org_id}) >= MOST:
        raise Problem(409, "too_many_keys", f"An organisation has at most {MOST} keys.")
    key = make_key(test=new.test)
    document = key_document(
        key,
        caller.org_id,
        new.name,
        sorted(set(new.scopes)),
        created_by=caller.actor,
        now=time.time(),
        expires_at=None if new.expiresAt is None else new.expiresAt.timestamp(),
        networks=new.allowedNetworks,
        key_id=key_id,
    )
    await parts.documents.insert(API_KEYS, document)
    await parts.callers.changed()
    await record(parts, caller, "api_key.created", key_id, {"scopes": document["scopes"], "test": new.test})
    return MadeKey(key=key, **_show(document).model_dump())


async def _find(parts: Parts, caller: Caller, key_id: str) -> Document | None:
    async for document in parts.documents.scan(API_KEYS, {"orgId": caller.org_id, "keyId": key_id}, limit=1):
        return document
    return None


def _show(document: Document) -> ShownKey:
    def when(name: str) -> datetime | None:
        return datetime.fromtimestamp(document[name], UTC) if document[name] else None

    return ShownKey(
        id=document["keyId"],
        name=document["name"],
        prefix=document["prefix"],
        scopes=document["scopes"],
        test=document["test"],
        createdAt=datetime.fromtimestamp(document["createdAt"], UTC),
        createdBy=document["createdBy"],
        expiresAt=when("expiresAt"),
        revokedAt=when("revokedAt"),
        lastUsedAt=when("lastUsedAt"),
        allowedNetworks=document["allowedNetworks"],
    )
