"""A payment and what becomes of it, as facts that may arrive in any order, any number of times.

One document per payment joins what is known: that it was paid (whose, how many credits), how much of it was refunded
(the most ever seen), and how each dispute stands (a final word stays). The join does not depend on order, and what the
ledger must show follows from the joined facts alone:

    bought  the credits, once paid is known
    taken   all of them while a dispute is open or lost, else the share that was refunded

Whoever changes `taken` appends the difference as a numbered step, in the same conditional update. Purchase and steps
are then written to the ledger under fixed names, so writing them again changes nothing; a crash in between is made good
by the next event, or by the inbox, which keeps an event until its effect is complete.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from gateway.collections import STRIPE_PAYMENTS
from gateway.credits.ledger import Ledger
from shared.documents import Change, Document, Documents

_FINAL = frozenset({"won", "lost", "warning_closed", "prevented"})
_TAKES = frozenset({"needs_response", "under_review", "lost"})  # Stripe holds the money, or it is gone

Facts = Mapping[str, Any]


class Payments:
    """Raises DocumentsUnavailable; repeating is right."""

    def __init__(self, documents: Documents, ledger: Ledger) -> None:
        self._documents = documents
        self._ledger = ledger

    async def paid(self, payment_id: str, *, org_id: str, credits_: int, amount: int, cause: str) -> None:
        """`amount`: what was paid, in the smallest unit; `cause`: names the purchase in the ledger, for ever."""
        bought = {"orgId": org_id, "credits": credits_, "amount": amount, "cause": cause}
        await self._join(payment_id, lambda known: {} if known["cause"] else bought)

    async def refunded(self, payment_id: str, amount: int) -> None:
        """So much of it, in all, has been paid back."""
        await self._join(payment_id, lambda known: {"refunded": max(known["refunded"], amount)})

    async def disputed(self, payment_id: str, dispute_id: str, status: str) -> None:
        """`status` is Stripe's word for the dispute."""

        def join(known: Document) -> Facts:
            if known["disputes"].get(dispute_id) in _FINAL:
                return {}
            return {"disputes": {**known["disputes"], dispute_id: status}}

        await self._join(payment_id, join)

    async def _join(self, payment_id: str, join: Callable[[Document], Facts]) -> None:
        while True:
            known = await self._get(payment_id)
            change = dict(join(known))
            joined = {**known, **change}
            taken = credits_taken(joined)
            if taken != known["taken"]:
                change |= {"taken": taken, "steps": [*known["steps"], taken - known["taken"]]}
            if all(known[name] == value for name, value in change.items()):
                break
            change["version"] = known["version"] + 1
            where = {"version": known["version"]}
            stored = await self._documents.update(STRIPE_PAYMENTS, payment_id, Change(set=change), where)
            if stored is not None:
                known = stored
                break
        await self._post(known)

    async def _get(self, payment_id: str) -> Document:
        found = await self._documents.get(STRIPE_PAYMENTS, payment_id)
        while found is None:
            await self._documents.insert(STRIPE_PAYMENTS, {"_id": payment_id, **_NOTHING})
            found = await self._documents.get(STRIPE_PAYMENTS, payment_id)
        return found

    async def _post(self, payment: Document) -> None:
        if not payment["cause"]:
            return
        org_id, cause = payment["orgId"], payment["cause"]
        await self._ledger.purchase(org_id, payment["credits"], cause)
        for number, taken in enumerate(payment["steps"]):
            if taken > 0:
                await self._ledger.refund(org_id, taken, f"{cause}:{number}")
            else:
                await self._ledger.adjust(org_id, -taken, f"{cause}:{number}")


_NOTHING: Document = {
    "orgId": "",
    "credits": 0,
    "amount": 0,
    "cause": "",
    "refunded": 0,
    "disputes": {},
    "taken": 0,
    "steps": [],
    "version": 0,
}


def credits_taken(payment: Facts) -> int:
    """How many of a payment's credits are to be taken back. Pure."""
    bought: int = payment["credits"]
    if not payment["cause"]:
        return 0
    if any(status in _TAKES for status in payment["disputes"].values()) or payment["refunded"] >= payment["amount"]:
        return bought
    return int(bought * payment["refunded"] // payment["amount"])
