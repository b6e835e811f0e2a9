"""/api/v1/webhooks: endpoints, their secrets, their deliveries."""

from __future__ import annotations

import secrets
import time
from datetime import UTC, datetime
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Path, Response
from pydantic import BaseModel, ConfigDict, Field

from gateway.accounts.caller import Caller, need_scope
from gateway.audit.record import record
from gateway.collections import WEBHOOK_DELIVERIES
from gateway.cursor import DEFAULT_LIMIT, Cursor, Limit, read_page
from gateway.idempotency.once import OnceDep
from gateway.parts import Parts, PartsDep
from gateway.problem import not_found
from gateway.sandbox.mark import is_test
from gateway.webhooks.endpoints import (
    add_endpoint,
    callback_endpoint,
    change_endpoint,
    delete_endpoint,
    endpoints,
    find_endpoint,
    new_endpoint,
    rotate_secret,
)
from gateway.webhooks.events import EVENT_TYPES, TEST_TYPE, EventType, body
from gateway.webhooks.expand import new_delivery
from gateway.webhooks.judge_url import require_url
from shared.address_guard import allowed_networks
from shared.documents import Change, Document

router = APIRouter(prefix="/api/v1/webhooks", tags=["webhooks"])

Reader = Annotated[Caller, Depends(need_scope("webhooks:read"))]
Writer = Annotated[Caller, Depends(need_scope("webhooks:write"))]


async def _readable(endpoint_id: Annotated[str, Path(max_length=64)], parts: PartsDep, caller: Reader) -> Document:
    return await find_endpoint(parts.documents, caller, endpoint_id)


async def _writable(endpoint_id: Annotated[str, Path(max_length=64)], parts: PartsDep, caller: Writer) -> Document:
    return await find_endpoint(parts.documents, caller, endpoint_id)


ReadableEndpoint = Annotated[Document, Depends(_readable)]
WritableEndpoint = Annotated[Document, Depends(_writable)]
Events = Annotated[list[EventType], Field(min_length=1, max_length=len(EVENT_TYPES))]
Description = Annotated[str, Field(max_length=200)]


class NewEndpoint(BaseModel):
    model_config = ConfigDict(extra="forbid")

    url: str = Field(min_length=1, max_length=2_000)
    events: Events = list(EVENT_TYPES)
    description: Description = ""


class EndpointChange(BaseModel):
    """What is left out stays as it is. `enabled: true` gives a disabled endpoint another chance."""

    model_config = ConfigDict(extra="forbid")

    url: str | None = Field(default=None, min_length=1, max_length=2_000)
    events: Events | None = None
    description: Description | None = None
    enabled: bool | None = None


class Endpoint(BaseModel):
    """`disabledWhy`: `gone` (it answered 410), `failing` (for five days), `owner`."""

    id: str
    url: str
    events: list[EventType]
    description: str
    enabled: bool
    disabledWhy: str | None  # noqa: N815 - the wire's spelling
    failingSince: datetime | None  # noqa: N815
    createdAt: datetime  # noqa: N815


class NewEndpointShown(Endpoint):
    secret: str  # shown this once


class Endpoints(BaseModel):
    items: list[Endpoint]


class Secret(BaseModel):
    secret: str  # shown this once; the one before signs as well for 24 hours


class Try(BaseModel):
    """`status`: the HTTP status that came back, null where none did; `why`: what went wrong, or how the body begins."""

    at: datetime
    status: int | None
    ms: int
    why: str


class Delivery(BaseModel):
    id: str
    eventId: str  # noqa: N815 - the wire's spelling; `webhook-id` of every try
    type: str
    state: Literal["pending", "delivered", "exhausted", "dropped"]
    tries: int
    nextTryAt: datetime | None  # noqa: N815
    createdAt: datetime  # noqa: N815
    log: list[Try]


class Deliveries(BaseModel):
    items: list[Delivery]
    nextCursor: str | None  # noqa: N815 - the wire's spelling


@router.get("")
async def list_endpoints(parts: PartsDep, caller: Reader) -> Endpoints:
    """Every endpoint; secrets are shown only when they are made."""
    return Endpoints(items=[_show(one) async for one in endpoints(parts.documents, caller.org_id, test=caller.test)])


@router.post("", status_code=201, response_model=NewEndpointShown)
async def create_endpoint(new: NewEndpoint, parts: PartsDep, caller: Writer, once: OnceDep) -> Response:
    """Be told of events by signed requests (Standard Webhooks)."""
    url = require_url(new.url, _allowed(parts), "body.url")

    async def produce(id_: str) -> Response:
        now, test = time.time(), caller.test
        endpoint = new_endpoint(caller.org_id, url, new.events, new.description, now, test=test) | {"_id": f"we_{id_}"}
        await add_endpoint(parts.documents, endpoint)
        # Where an earlier run made it, that one's secret counts.
        endpoint = await find_endpoint(parts.documents, caller, endpoint["_id"])
        await record(parts, caller, "webhook.created", endpoint["_id"], {"events": endpoint["events"]})
        shown = NewEndpointShown(**_show(endpoint).model_dump(), secret=endpoint["secret"])
        location = {"Location": f"/api/v1/webhooks/{endpoint['_id']}"}
        return Response(shown.model_dump_json(), 201, location, media_type="application/json")

    return await once(produce, new)


@router.post("/callback-secret", status_code=201, response_model=Secret)
async def make_callback_secret(parts: PartsDep, caller: Writer, once: OnceDep) -> Response:
    """The secret that signs deliveries to `callbackUrl`s; a new one with every call."""

    async def produce(_: str) -> Response:
        endpoint = await callback_endpoint(parts.documents, caller.org_id, test=caller.test)
        secret = await rotate_secret(parts.documents, endpoint, time.time())
        await record(parts, caller, "webhook.secret_rotated", "callback")
        return Response(Secret(secret=secret).model_dump_json(), 201, media_type="application/json")

    return await once(produce)


@router.get("/{endpoint_id}")
async def get_endpoint(endpoint: ReadableEndpoint) -> Endpoint:
    return _show(endpoint)


@router.patch("/{endpoint_id}")
async def patch_endpoint(body: EndpointChange, endpoint: WritableEndpoint, parts: PartsDep, caller: Writer) -> Endpoint:
    change: dict[str, Any] = body.model_dump(include={"events", "description"}, exclude_none=True)
    if body.url is not None:
        change["url"] = require_url(body.url, _allowed(parts), "body.url")
    if body.enabled is True:
        change |= {"disabledAt": None, "disabledWhy": None, "failingSince": None}
    elif body.enabled is False:
        change |= {"disabledAt": time.time(), "disabledWhy": "owner"}
    if change:
        endpoint = await change_endpoint(parts.documents, endpoint["_id"], change)
        await record(parts, caller, "webhook.changed", endpoint["_id"], {"fields": sorted(change)})
    return _show(endpoint)


@router.delete("/{endpoint_id}", status_code=204)
async def remove_endpoint(endpoint: WritableEndpoint, parts: PartsDep, caller: Writer) -> None:
    """With its deliveries, those that wait included."""
    await delete_endpoint(parts.documents, endpoint["_id"])
    await record(parts, caller, "webhook.deleted", endpoint["_id"])


@router.post("/{endpoint_id}/rotate-secret", status_code=201, response_model=Secret)
async def rotate(endpoint: WritableEndpoint, parts: PartsDep, caller: Writer, once: OnceDep) -> Response:
    """A new secret. For 24 hours every delivery carries both signatures."""

    async def produce(_: str) -> Response:
        secret = await rotate_secret(parts.documents, endpoint, time.time())
        await record(parts, caller, "webhook.secret_rotated", endpoint["_id"])
        return Response(Secret(secret=secret).model_dump_json(), 201, media_type="application/json")

    return await once(produce)


@router.post("/{endpoint_id}/test", status_code=202, response_model=Delivery)
async def send_test(endpoint: WritableEndpoint, parts: PartsDep, once: OnceDep) -> Response:
    """Send an event of type `webhook.test`, like any other; the delivery log says what came of it."""

    async def produce(id_: str) -> Response:
        now = time.time()
        text = body(TEST_TYPE, now, {"webhookId": endpoint["_id"]}, test=is_test(endpoint))
        delivery = new_delivery(endpoint, f"evt_test_{id_}", TEST_TYPE, text, now)
        await parts.documents.insert(WEBHOOK_DELIVERIES, delivery)
        return Response(_show_delivery(delivery).model_dump_json(), 202, media_type="application/json")

    return await once(produce)


@router.get("/{endpoint_id}/deliveries", response_model=Deliveries)
async def list_deliveries(
    endpoint: ReadableEndpoint, parts: PartsDep, cursor: Cursor = None, limit: Limit = DEFAULT_LIMIT
) -> dict[str, Any]:
    """What was sent, newest first, with every try. Kept for 30 days."""
    where = {"endpointId": endpoint["_id"]}
    return await read_page(
        parts.documents, WEBHOOK_DELIVERIES, where, _shown_delivery, sort="createdAt", cursor=cursor, limit=limit
    )


@router.post("/{endpoint_id}/deliveries/{delivery_id}/replay", status_code=202, response_model=Delivery)
async def replay(
    endpoint: WritableEndpoint,
    delivery_id: Annotated[str, Path(max_length=200)],
    parts: PartsDep,
    caller: Writer,
    once: OnceDep,
) -> Response:
    """Send it once more, now, with all its tries before it; the event's id stays the same."""
    found = await parts.documents.get(WEBHOOK_DELIVERIES, delivery_id)
    if found is None or found["endpointId"] != endpoint["_id"]:
        raise not_found("delivery")

    async def produce(_: str) -> Response:
        again = Change(set={"state": "pending", "tries": 0, "dueAt": time.time(), "claim": secrets.token_hex(8)})
        delivery = await parts.documents.update(WEBHOOK_DELIVERIES, delivery_id, again) or found
        await record(parts, caller, "webhook.replayed", delivery_id)
        return Response(_show_delivery(delivery).model_dump_json(), 202, media_type="application/json")

    return await once(produce)


def _allowed(parts: Parts) -> Any:
    return allowed_networks(parts.settings.webhook_allow_networks)


def _time(at: float | None) -> datetime | None:
    return None if at is None else datetime.fromtimestamp(at, UTC)


def _show(endpoint: Document) -> Endpoint:
    shown = {name: endpoint[name] for name in ("url", "events", "description", "disabledWhy")}
    return Endpoint(
        id=endpoint["_id"],
        **shown,
        enabled=endpoint["disabledAt"] is None,
        failingSince=_time(endpoint["failingSince"]),
        createdAt=datetime.fromtimestamp(endpoint["createdAt"], UTC),
    )


def _show_delivery(delivery: Document) -> Delivery:
    return Delivery(
        id=delivery["_id"],
        **{name: delivery[name] for name in ("eventId", "type", "state", "tries")},
        nextTryAt=_time(delivery["dueAt"]) if delivery["state"] == "pending" else None,
        createdAt=datetime.fromtimestamp(delivery["createdAt"], UTC),
        log=[Try(**one | {"at": datetime.fromtimestamp(one["at"], UTC)}) for one in delivery["log"]],
    )


def _shown_delivery(delivery: Document) -> dict[str, Any]:
    return _show_delivery(delivery).model_dump()
