"""Sending somebody to Stripe: to pay for a pack or plan, or to their own page there."""

from __future__ import annotations

import time
from typing import Any

from gateway.billing.desk import Desk
from gateway.billing.packs import Pack
from gateway.billing.prices import Price, price_of
from gateway.billing.stripe_api import StripeRefused
from gateway.collections import ORGANISATIONS, STRIPE_CHECKOUTS
from gateway.parts import Parts
from gateway.problem import Problem
from shared.logs import get_log
from shared.settings import Settings

log = get_log("gateway.billing.sell")


async def sell(parts: Parts, desk: Desk, org_id: str, pack: Pack, *, quantity: int, save_card: bool, key: str) -> Any:
    """The checkout session to send the buyer to; what is sold for which price is written down first of all uses.

    Raises Problem, StripeUnavailable. The same `key` makes the same session.
    """
    try:
        price = await price_of(desk.api, pack)
        params = _session(parts.settings, org_id, pack, price, quantity, save_card=save_card)
        params |= await _customer(parts, org_id, pack)
        session = await desk.api.create_checkout(params, f"checkout:{key}")
    except StripeRefused as error:
        raise _refused(error) from error
    sold = {
        "_id": session["id"],
        "orgId": org_id,
        "pack": pack.id,
        "credits": pack.credits * quantity,
        "quantity": quantity,
        "amount": price.amount * quantity,
        "currency": price.currency,
        "priceId": price.id,
        "createdAt": time.time(),
    }
    await parts.documents.insert(STRIPE_CHECKOUTS, sold)
    return session


async def open_portal(parts: Parts, desk: Desk, org_id: str, key: str) -> Any:
    """Stripe's page for cards, invoices and plans. Raises Problem 409 before the first purchase."""
    customer = await customer_of(parts, org_id)
    if customer is None:
        raise Problem(409, "no_customer", "Nothing was bought yet, so there is nothing to manage.")
    try:
        return await desk.api.create_portal(
            {"customer": customer, "return_url": _page(parts.settings, "")}, f"portal:{key}"
        )
    except StripeRefused as error:
        raise _refused(error) from error


async def customer_of(parts: Parts, org_id: str) -> str | None:
    """The organisation's customer at Stripe, known since its first purchase."""
    organisation = await parts.documents.get(ORGANISATIONS, org_id)
    return None if organisation is None else organisation.get("stripeCustomer")


async def _customer(parts: Parts, org_id: str, pack: Pack) -> dict[str, Any]:
    customer = await customer_of(parts, org_id)
    if customer is not None:
        return {"customer": customer}
    return {} if pack.interval else {"customer_creation": "always"}  # a subscription always makes one


def _session(
    settings: Settings, org_id: str, pack: Pack, price: Price, quantity: int, *, save_card: bool
) -> dict[str, Any]:
    metadata = {"orgId": org_id, "pack": pack.id}
    session: dict[str, Any] = {
        "mode": "subscription" if pack.interval else "payment",
        "line_items": [price.line(pack, quantity)],
        "client_reference_id": org_id,
        "metadata": metadata,
        "success_url": _page(settings, "?checkout=paid"),
        "cancel_url": _page(settings, "?checkout=cancelled"),
    }
    if pack.interval:
        return session | {"subscription_data": {"metadata": metadata}}
    intent: dict[str, Any] = {"metadata": metadata}
    if save_card:
        intent["setup_future_usage"] = "off_session"
    return session | {"payment_intent_data": intent, "invoice_creation": {"enabled": True}}


def _page(settings: Settings, query: str) -> str:
    base = settings.public_url or f"http://{settings.host}:{settings.port}"
    return f"{base.rstrip('/')}/{query}"


def _refused(error: StripeRefused) -> Problem:
    log.error("stripe_refused", code=error.code)
    return Problem(503, "stripe_refused", "Stripe refused this; whoever runs this service has to look.")
