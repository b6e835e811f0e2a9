"""What a pack costs now: Stripe's price where there is one, the pack's own amount else."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from gateway.billing.packs import Pack
from gateway.billing.stripe_api import StripeApi, StripeRefused


@dataclass(frozen=True, slots=True)
class Price:
    """`id` None: no price in Stripe; `amount` in the currency's smallest unit."""

    id: str | None
    amount: int
    currency: str

    def line(self, pack: Pack, quantity: int) -> dict[str, Any]:
        """A line item of a checkout session."""
        if self.id is not None:
            return {"price": self.id, "quantity": quantity}
        product = {"name": pack.name}
        data = {"currency": self.currency, "unit_amount": self.amount, "product_data": product}
        return {"price_data": data, "quantity": quantity}


async def price_of(api: StripeApi, pack: Pack) -> Price:
    """Raises StripeUnavailable; StripeRefused for a price that is named and not there, or a plan without one."""
    found = None
    if pack.price is not None:
        found = await api.price(pack.price)
    elif pack.lookup_key is not None:
        found = await api.price_by_key(pack.lookup_key)
    if found is not None:
        return Price(found["id"], found["unit_amount"], found["currency"])
    if pack.interval is not None:
        raise StripeRefused("price_missing")
    return Price(None, pack.amount, pack.currency)
