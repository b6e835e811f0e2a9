"""Auto-recharge: when an organisation's available credits fall below its threshold, its card is charged for a pack.

One recharge at a time: it is written down whole (pack, price, card), then the organisation's settings are made to name
it, by one conditional update that also counts it against the day's cap; then Stripe is asked, under the recharge's own
idempotency key, so a crash anywhere leads to the same one payment. The settings name it until its outcome is known:

    succeeded                    credited (keyed on the payment intent), then closed
    processing                   stays open; an event or the next look concludes it
    declined, owner needed       auto-recharge stops until somebody switches it on again

Credits are in the ledger before a recharge is closed, so the next look sees them and does not buy again.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable
from datetime import UTC, datetime

from gateway.audit.record import append
from gateway.billing.packs import Packs
from gateway.billing.payments import Payments
from gateway.billing.prices import price_of
from gateway.billing.stripe_api import Answer, StripeApi, StripeRefused
from gateway.collections import AUTO_RECHARGES, ORGANISATIONS, RECHARGES
from gateway.credits.ledger import Ledger
from gateway.health import metrics
from gateway.loops import wait_for_any
from shared.documents import Change, Document, Documents
from shared.logs import get_log

log = get_log("gateway.billing.recharge")

EVERY = 15.0  # seconds between looks at all organisations
KEY_LASTS = 20 * 3600.0  # seconds; Stripe remembers an idempotency key for at least 24 hours
_REFUSED = frozenset({"requires_payment_method", "requires_action", "requires_confirmation", "canceled"})

Clock = Callable[[], float]


class Recharger:
    """Raises StripeUnavailable and DocumentsUnavailable; looking again is right."""

    def __init__(
        self,
        *,
        api: StripeApi,
        documents: Documents,
        ledger: Ledger,
        payments: Payments,
        packs: Packs,
        clock: Clock,
    ) -> None:
        self._api = api
        self._documents = documents
        self._ledger = ledger
        self._payments = payments
        self._packs = packs
        self._clock = clock

    async def run(self, stop: asyncio.Event) -> None:
        while not stop.is_set():
            await self.look()
            await wait_for_any(EVERY, stop)

    async def look(self) -> None:
        """At every organisation that wants this. One that Stripe refuses does not keep the others waiting."""
        async for wanted in self._documents.scan(AUTO_RECHARGES, {"enabled": True}):
            try:
                opened = wanted["openId"] or await self._begin(wanted)
                if opened is not None:
                    await self._go_on(wanted["_id"], opened)
            except StripeRefused as error:
                await self._stop(wanted["_id"], error.code)

    async def _begin(self, wanted: Document) -> str | None:
        """The new recharge's id, where one is needed and allowed."""
        org_id, now = wanted["_id"], self._clock()
        day = datetime.fromtimestamp(now, UTC).date().isoformat()
        today = wanted["today"] if wanted["day"] == day else 0
        pack = self._packs.get(wanted["pack"])
        if (await self._ledger.balance(org_id)).available >= wanted["threshold"] or today >= wanted["dailyCap"]:
            return None
        organisation = await self._documents.get(ORGANISATIONS, org_id)
        customer = (organisation or {}).get("stripeCustomer")
        card = None if customer is None else await self._api.saved_card(customer)
        if pack is None or card is None:
            await self._stop(org_id, "no_card" if pack else "no_such_pack")
            return None
        price = await price_of(self._api, pack)
        recharge: Document = {
            "_id": f"rc_{secrets.token_hex(12)}",
            "orgId": org_id,
            "pack": pack.id,
            "credits": pack.credits,
            "amount": price.amount,
            "currency": price.currency,
            "customer": customer,
            "card": card,
            "state": "open",
            "intent": None,
            "createdAt": now,
        }
        await self._documents.insert(RECHARGES, recharge)
        mine = Change(set={"openId": recharge["_id"], "day": day, "today": today + 1})
        where = {"enabled": True, "openId": None, "day": wanted["day"], "today": wanted["today"]}
        if await self._documents.update(AUTO_RECHARGES, org_id, mine, where) is None:
            await self._documents.delete(RECHARGES, recharge["_id"])
            return None
        return str(recharge["_id"])

    async def _go_on(self, org_id: str, recharge_id: str) -> None:
        recharge = await self._documents.get(RECHARGES, recharge_id)
        if recharge is None or recharge["state"] != "open":
            await self._close(org_id, recharge_id)
        elif recharge["intent"] is not None:
            await self.conclude(await self._api.payment_intent(recharge["intent"]))
        elif recharge["createdAt"] < self._clock() - KEY_LASTS:
            await self._decline(recharge, "unclear")
        else:
            await self._pay(recharge)

    async def _pay(self, recharge: Document) -> None:
        params = {
            "amount": recharge["amount"],
            "currency": recharge["currency"],
            "customer": recharge["customer"],
            "payment_method": recharge["card"],
            "off_session": True,
            "confirm": True,
            "description": f"{recharge['credits']} credits",
            "metadata": {"rechargeId": recharge["_id"], "orgId": recharge["orgId"]},
        }
        try:
            intent = await self._api.pay_off_session(params, f"recharge:{recharge['_id']}")
        except StripeRefused as error:
            await self._decline(recharge, error.code)
            return
        await self._documents.update(RECHARGES, recharge["_id"], Change(set={"intent": intent["id"]}))
        await self.conclude(intent)

    async def conclude(self, intent: Answer) -> None:
        """Act on a payment intent as Stripe has it now, where it is one of our recharges."""
        recharge_id = (intent.get("metadata") or {}).get("rechargeId")
        recharge = None if not recharge_id else await self._documents.get(RECHARGES, recharge_id)
        if recharge is None or recharge["intent"] not in (None, intent["id"]):
            return
        if intent["status"] == "succeeded":
            if (intent["amount_received"], intent["currency"]) != (recharge["amount"], recharge["currency"]):
                metrics.BILLING_ALERTS.labels("billing.recharge_differs").inc()
                log.error("recharge_differs", org_id=recharge["orgId"], recharge_id=recharge_id)
                return
            await self._payments.paid(
                intent["id"],
                org_id=recharge["orgId"],
                credits_=recharge["credits"],
                amount=recharge["amount"],
                cause=f"stripe:{intent['id']}",
            )
            paid = Change(set={"state": "paid", "intent": intent["id"]})
            await self._documents.update(RECHARGES, recharge["_id"], paid)
            await self._close(recharge["orgId"], recharge["_id"])
        elif intent["status"] in _REFUSED:
            await self._decline(recharge, intent["status"])

    async def _decline(self, recharge: Document, why: str) -> None:
        declined = Change(set={"state": "declined"})
        if await self._documents.update(RECHARGES, recharge["_id"], declined, {"state": "open"}) is not None:
            await self._stop(recharge["orgId"], why)
        await self._close(recharge["orgId"], recharge["_id"])

    async def _stop(self, org_id: str, why: str) -> None:
        stopped = Change(set={"enabled": False, "stopped": why})
        if await self._documents.update(AUTO_RECHARGES, org_id, stopped, {"enabled": True}) is not None:
            log.warning("auto_recharge_stopped", org_id=org_id, why=why)
            await append(self._documents, org_id, "stripe", "auto_recharge.stopped", org_id, detail={"why": why})

    async def _close(self, org_id: str, recharge_id: str) -> None:
        await self._documents.update(AUTO_RECHARGES, org_id, Change(set={"openId": None}), {"openId": recharge_id})
