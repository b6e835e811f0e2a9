"""POST /api/v1/billing/checkout and /portal, GET /packs, GET and PUT /auto-recharge, and POST /webhooks/stripe."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from gateway.accounts.caller import Caller, need_scope
from gateway.audit.record import record
from gateway.billing.desk import Desk
from gateway.billing.packs import Pack
from gateway.billing.sell import customer_of, open_portal, sell
from gateway.collections import AUTO_RECHARGES
from gateway.idempotency.once import OnceDep
from gateway.parts import PartsDep
from gateway.problem import Problem
from shared.documents import Change, Document

router = APIRouter(tags=["billing"])

PackId = Annotated[str, Field(max_length=40)]


async def _desk(parts: PartsDep) -> Desk:
    if parts.desk is None:
        raise Problem(
            503, "billing_not_configured", "This installation sells nothing: MAILVET_STRIPE_SECRET_KEY is not set."
        )
    return parts.desk


# The caller first: who may not ask is told so whether or not anything is sold here.
Buyer = Annotated[Caller, Depends(need_scope("billing:write"))]
Reader = Annotated[Caller, Depends(need_scope("credits:read"))]
OpenDesk = Annotated[Desk, Depends(_desk)]


class ShownPack(BaseModel):
    """`amount` in the currency's smallest unit; `interval` of a plan, null for what is bought once."""

    id: str
    name: str
    credits: int
    amount: int
    currency: str
    interval: Literal["month", "year"] | None


class PackList(BaseModel):
    items: list[ShownPack]


class NewCheckout(BaseModel):
    model_config = ConfigDict(extra="forbid")

    pack: PackId
    quantity: int = Field(default=1, ge=1, le=100, strict=True)
    saveCard: bool = False  # noqa: N815 - the wire's spelling


class Checkout(BaseModel):
    sessionId: str  # noqa: N815 - the wire's spelling
    url: str


class Portal(BaseModel):
    url: str


class AutoRecharge(BaseModel):
    """Below `threshold` available credits `pack` is bought by the saved card, at most `dailyCap` times a (UTC) day."""

    model_config = ConfigDict(extra="forbid")

    enabled: bool
    threshold: int = Field(ge=1, le=10**9, strict=True)
    pack: PackId
    dailyCap: int = Field(default=1, ge=1, le=20, strict=True)  # noqa: N815 - the wire's spelling


class ShownAutoRecharge(BaseModel):
    """`stopped`: why it switched itself off, such as Stripe's word for a declined card."""

    enabled: bool
    threshold: int | None
    pack: str | None
    dailyCap: int | None  # noqa: N815 - the wire's spelling
    stopped: str | None


def _find_pack(desk: Desk, pack_id: str) -> Pack:
    pack = desk.packs.get(pack_id)
    if pack is None:
        raise Problem(
            422, "no_such_pack", "There is no such pack.", field="body.pack", packs=[one.id for one in desk.packs]
        )
    return pack


@router.get("/api/v1/billing/packs", dependencies=[Depends(need_scope("credits:read"))])
async def list_packs(desk: OpenDesk) -> PackList:
    """What can be bought."""
    return PackList(items=[ShownPack.model_validate(pack.model_dump(), extra="ignore") for pack in desk.packs])


@router.post("/api/v1/billing/checkout", status_code=201, response_model=Checkout)
async def create_checkout(body: NewCheckout, caller: Buyer, desk: OpenDesk, parts: PartsDep, once: OnceDep) -> Response:
    """A page of Stripe's where a pack or plan is paid. Credits come when Stripe says that it was."""
    pack = _find_pack(desk, body.pack)
    if pack.interval and body.quantity != 1:
        raise Problem(422, "invalid_request", "A plan is bought once.", field="body.quantity")

    async def produce(id_: str) -> Response:
        session = await sell(parts, desk, caller.org_id, pack, quantity=body.quantity, save_card=body.saveCard, key=id_)
        await record(parts, caller, "checkout.created", session["id"], {"pack": pack.id, "quantity": body.quantity})
        made = Checkout(sessionId=session["id"], url=session["url"])
        return Response(made.model_dump_json(), 201, media_type="application/json")

    return await once(produce, body)


@router.post("/api/v1/billing/portal", status_code=201, response_model=Portal)
async def create_portal(caller: Buyer, desk: OpenDesk, parts: PartsDep, once: OnceDep) -> Response:
    """A page of Stripe's for cards, invoices and plans. 409 before the first purchase."""

    async def produce(id_: str) -> Response:
        session = await open_portal(parts, desk, caller.org_id, id_)
        return Response(Portal(url=session["url"]).model_dump_json(), 201, media_type="application/json")

    return await once(produce)


@router.get("/api/v1/billing/auto-recharge", dependencies=[Depends(_desk)])
async def get_auto_recharge(caller: Reader, parts: PartsDep) -> ShownAutoRecharge:
    """Whether credits are bought by themselves, and why that stopped."""
    found = await parts.documents.get(AUTO_RECHARGES, caller.org_id)
    return _show(found or {"enabled": False})


@router.put("/api/v1/billing/auto-recharge")
async def put_auto_recharge(body: AutoRecharge, caller: Buyer, desk: OpenDesk, parts: PartsDep) -> ShownAutoRecharge:
    """Switch it on or off. 409 where no card was saved: buy a pack with `saveCard` first."""
    pack = _find_pack(desk, body.pack)
    if pack.interval:
        raise Problem(422, "no_such_pack", "A plan cannot be bought this way.", field="body.pack")
    if body.enabled:
        customer = await customer_of(parts, caller.org_id)
        if customer is None or await desk.api.saved_card(customer) is None:
            raise Problem(409, "no_card", "No card was saved: buy a pack with saveCard first.")
    wanted: dict[str, Any] = {
        "enabled": body.enabled,
        "threshold": body.threshold,
        "pack": body.pack,
        "dailyCap": body.dailyCap,
        "stopped": None,
    }
    fresh = {"_id": caller.org_id, "openId": None, "day": "", "today": 0, **wanted}
    if not await parts.documents.insert(AUTO_RECHARGES, fresh):
        await parts.documents.update(AUTO_RECHARGES, caller.org_id, Change(set=wanted))
    await record(parts, caller, "auto_recharge.changed", caller.org_id, wanted)
    return _show(wanted)


def _show(found: Document) -> ShownAutoRecharge:
    return ShownAutoRecharge(**{name: found.get(name) for name in ShownAutoRecharge.model_fields})


@router.post("/webhooks/stripe")
async def take_event(request: Request, desk: OpenDesk) -> dict[str, bool]:
    """For Stripe alone: signed events. 200 when the event is stored; a repeat changes nothing."""
    if not desk.takes_events:
        raise Problem(503, "billing_not_configured", "MAILVET_STRIPE_WEBHOOK_SECRET is not set.")
    await desk.inbox.take(await request.body(), request.headers.get("stripe-signature"))
    return {"received": True}
