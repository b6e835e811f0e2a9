"""What an event of Stripe means for us. An event is a hint only: what it names is fetched from Stripe as it is now.

    checkout.session.completed, .async_payment_succeeded   a pack was paid (or will be: `payment_status` decides)
    invoice.paid                                           a plan's month was paid
    payment_intent.succeeded, .payment_failed, .canceled   of our own recharges only
    charge.refunded, charge.dispute.*                      credits go back, or return

Credits come from the price: the session is one that we made, for the price and amount noted then, or its price is one
that packs.toml names. Metadata decides nothing. What was paid for a price that we do not know brings no credits, an
error in the log and an entry in the audit log.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gateway.accounts.caller import DEFAULT_ORG
from gateway.audit.record import append
from gateway.billing.packs import Packs
from gateway.billing.payments import Payments
from gateway.billing.recharge import Recharger
from gateway.billing.stripe_api import Answer, StripeApi
from gateway.collections import ORGANISATIONS, STRIPE_CHECKOUTS
from gateway.health import metrics
from shared.documents import Change, Document, Documents, Missing
from shared.logs import get_log

log = get_log("gateway.billing")

_CHECKOUT = ("checkout.session.completed", "checkout.session.async_payment_succeeded")
_DISPUTE = (
    "charge.dispute.created",
    "charge.dispute.updated",
    "charge.dispute.closed",
    "charge.dispute.funds_withdrawn",
    "charge.dispute.funds_reinstated",
)
_INTENT = ("payment_intent.succeeded", "payment_intent.payment_failed", "payment_intent.canceled")
HANDLED_TYPES = (*_CHECKOUT, "invoice.paid", "charge.refunded", *_DISPUTE, *_INTENT)


class Effects:
    """Raises StripeUnavailable, StripeRefused, DocumentsUnavailable. Everything may be repeated."""

    def __init__(
        self, *, api: StripeApi, documents: Documents, payments: Payments, packs: Packs, recharger: Recharger
    ) -> None:
        self._api = api
        self._documents = documents
        self._payments = payments
        self._packs = packs
        self._recharger = recharger

    async def apply(self, type_: str, object_id: str) -> None:
        if type_ in _CHECKOUT:
            await self.fulfil(object_id)
        elif type_ == "invoice.paid":
            await self._invoice(object_id)
        elif type_ == "charge.refunded":
            charge = await self._api.charge(object_id)
            await self._payments.refunded(_payment_of(charge), charge["amount_refunded"])
        elif type_ in _DISPUTE:
            dispute = await self._api.dispute(object_id)
            await self._payments.disputed(_payment_of(dispute), dispute["id"], dispute["status"])
        elif type_ in _INTENT:
            await self._recharger.conclude(await self._api.payment_intent(object_id))

    async def fulfil(self, session_id: str) -> bool:
        """Credit a paid checkout session; whether it is paid and known."""
        session = await self._api.checkout(session_id)
        sold = await self._documents.get(STRIPE_CHECKOUTS, session_id)
        org_id = sold["orgId"] if sold else session.get("client_reference_id")
        if org_id and session.get("customer"):
            customer = Change(set={"stripeCustomer": _id(session["customer"])})
            await self._documents.update(ORGANISATIONS, org_id, customer, {"stripeCustomer": Missing()})
        if session["mode"] != "payment" or session["payment_status"] != "paid":
            return False
        credits_ = self._credits_of_session(session, sold)
        if credits_ is None or not await self._exists(org_id):
            await self._alert("billing.unknown_price", org_id, session_id)
            return False
        await self._payments.paid(
            _id(session.get("payment_intent")) or session_id,
            org_id=str(org_id),
            credits_=credits_,
            amount=session["amount_total"],
            cause=f"stripe:{session_id}",
        )
        return True

    def _credits_of_session(self, session: Answer, sold: Document | None) -> int | None:
        lines: list[Answer] = (session.get("line_items") or {}).get("data", [])
        if sold is not None and _as_sold(session, lines, sold):
            return int(sold["credits"])
        if not lines:
            return None
        total = 0
        for line in lines:
            pack = self._packs.of_price(line["price"]["id"], line["price"].get("lookup_key"))
            if pack is None or pack.interval is not None:
                return None
            total += pack.credits * int(line["quantity"])
        return total

    async def _invoice(self, invoice_id: str) -> None:
        invoice = await self._api.invoice(invoice_id)
        subscription = (invoice.get("parent") or {}).get("subscription_details")
        if subscription is None or invoice["status"] != "paid" or invoice["amount_paid"] <= 0:
            return  # the receipt of a pack, or nothing was paid
        org_id = (subscription.get("metadata") or {}).get("orgId")
        credits_ = await self._credits_of_invoice(invoice)
        if not credits_ or not await self._exists(org_id):
            await self._alert("billing.unknown_price", org_id, invoice_id)
            return
        payments: list[Answer] = (invoice.get("payments") or {}).get("data", [])
        intents = [_id(one["payment"].get("payment_intent")) for one in payments]
        await self._payments.paid(
            next((intent for intent in intents if intent), invoice_id),
            org_id=str(org_id),
            credits_=credits_,
            amount=invoice["amount_paid"],
            cause=f"stripe:{invoice_id}",
        )

    async def _credits_of_invoice(self, invoice: Answer) -> int:
        """Of its lines for plans; what is prorated or taken back brings none."""
        total = 0
        for line in invoice["lines"]["data"]:
            price_id = ((line.get("pricing") or {}).get("price_details") or {}).get("price")
            if not price_id or line["amount"] <= 0:
                continue
            price = await self._api.price(_id(price_id))
            pack = self._packs.of_price(price["id"], price.get("lookup_key"))
            if pack is not None and pack.interval is not None and line["amount"] >= price["unit_amount"]:
                total += pack.credits * int(line["quantity"])
        return total

    async def _exists(self, org_id: str | None) -> bool:
        return bool(org_id) and await self._documents.get(ORGANISATIONS, str(org_id)) is not None

    async def _alert(self, action: str, org_id: str | None, object_id: str) -> None:
        """Once per object in the audit log; somebody has to look."""
        metrics.BILLING_ALERTS.labels(action).inc()
        log.error("stripe_price_unknown", object_id=object_id)
        known = org_id if await self._exists(org_id) else DEFAULT_ORG
        await append(
            self._documents, str(known), "stripe", action, object_id, detail={}, id_=f"audit_{action}_{object_id}"
        )


def _as_sold(session: Answer, lines: list[Answer], sold: Document) -> bool:
    """Whether it is still what we sold: amount and currency, and the price where Stripe tells it."""
    if session["amount_subtotal"] != sold["amount"] or session["currency"] != sold["currency"]:
        return False
    if sold["priceId"] is None:  # made for this session alone
        return True
    return all(line["price"]["id"] == sold["priceId"] for line in lines)


def _payment_of(about: Mapping[str, Any]) -> str:
    """The payment that a charge or dispute is about."""
    return _id(about.get("payment_intent")) or _id(about.get("charge")) or str(about["id"])


def _id(reference: Any) -> str:
    """Stripe refers by id, or by the whole object where it was asked to expand it; empty for nothing."""
    return str(reference["id"] if isinstance(reference, dict) else reference or "")
