"""Stripe, as far as we use it. The only module that knows its library; answers are plain dicts of Stripe's shapes.

Every method raises StripeUnavailable (try again) or StripeRefused (trying again does not help). Calls that make
something take `key`, the Idempotency-Key: within a day the same key makes the same thing once.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Mapping, Sequence
from types import TracebackType
from typing import Any, ClassVar, Self, cast

import stripe

from shared.errors import MailvetError, ServerUnreachable

TIMEOUT = 10.0  # seconds for one try
RETRIES = 2

Params = Mapping[str, Any]
Answer = dict[str, Any]


class StripeUnavailable(ServerUnreachable):
    """Stripe does not answer, or answers that it cannot now. What was asked for may have happened."""


class StripeRefused(MailvetError):
    """Stripe refused the call. `code` is Stripe's, such as `resource_missing`."""

    temporary: ClassVar[bool] = False

    def __init__(self, code: str) -> None:
        super().__init__(f"Stripe refused: {code}")
        self.code = code


class CardRefused(StripeRefused):
    """The payment was declined, or its owner has to be present (`authentication_required`)."""


class StripeApi:
    """`async with StripeApi(secret_key, base) as api:`; `base` None is Stripe itself."""

    def __init__(self, secret_key: str, base: str | None = None) -> None:
        self._http = stripe.HTTPXClient(timeout=TIMEOUT)
        self._client = stripe.StripeClient(
            secret_key,
            base_addresses={} if base is None else {"api": base.rstrip("/")},
            http_client=self._http,
            max_network_retries=RETRIES,
        )
        self._v1 = self._client.v1

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._http.close_async()  # type: ignore[no-untyped-call]

    # --- selling ---
    async def create_checkout(self, params: Params, key: str) -> Answer:
        return await _answer(self._v1.checkout.sessions.create_async(cast("Any", params), {"idempotency_key": key}))

    async def create_portal(self, params: Params, key: str) -> Answer:
        return await _answer(
            self._v1.billing_portal.sessions.create_async(cast("Any", params), {"idempotency_key": key})
        )

    async def price(self, price_id: str) -> Answer:
        return await _answer(self._v1.prices.retrieve_async(price_id))

    async def price_by_key(self, lookup_key: str) -> Answer | None:
        """The active price with this lookup key; None where there is none."""
        try:
            found = await _answer(self._v1.prices.list_async({"lookup_keys": [lookup_key], "active": True, "limit": 1}))
        except StripeRefused as error:
            if error.code == "resource_missing":
                return None
            raise
        prices: list[Answer] = found["data"]
        return prices[0] if prices else None

    # --- what is true now ---
    async def checkout(self, session_id: str) -> Answer:
        return await _answer(self._v1.checkout.sessions.retrieve_async(session_id, {"expand": ["line_items"]}))

    async def charge(self, charge_id: str) -> Answer:
        return await _answer(self._v1.charges.retrieve_async(charge_id))

    async def dispute(self, dispute_id: str) -> Answer:
        return await _answer(self._v1.disputes.retrieve_async(dispute_id))

    async def invoice(self, invoice_id: str) -> Answer:
        return await _answer(self._v1.invoices.retrieve_async(invoice_id, {"expand": ["payments"]}))

    async def payment_intent(self, intent_id: str) -> Answer:
        return await _answer(self._v1.payment_intents.retrieve_async(intent_id))

    async def checkouts_since(self, since: float) -> AsyncIterator[Answer]:
        """Completed checkout sessions made since then, all pages."""
        params: Params = {"created": {"gte": int(since)}, "status": "complete", "limit": 100}
        async for session in _pages(self._v1.checkout.sessions.list_async, params):
            yield session

    async def events_since(self, since: float, types: Sequence[str]) -> AsyncIterator[Answer]:
        """Events of these types made since then (Stripe keeps 30 days), all pages."""
        params: Params = {"created": {"gte": int(since)}, "types": list(types), "limit": 100}
        async for event in _pages(self._v1.events.list_async, params):
            yield event

    # --- off session ---
    async def saved_card(self, customer_id: str) -> str | None:
        """The id of a payment method that the customer left with Stripe."""
        found = await _answer(self._v1.customers.payment_methods.list_async(customer_id, {"limit": 1}))
        methods: list[Answer] = found["data"]
        return None if not methods else str(methods[0]["id"])

    async def pay_off_session(self, params: Params, key: str) -> Answer:
        """A confirmed payment intent. Raises CardRefused."""
        return await _answer(self._v1.payment_intents.create_async(cast("Any", params), {"idempotency_key": key}))


async def _pages(ask: Any, params: Params) -> AsyncIterator[Answer]:
    after: Params = {}
    while True:
        page = await _answer(ask({**params, **after}))
        for item in page["data"]:
            yield item
        if not page.get("has_more") or not page["data"]:
            return
        after = {"starting_after": page["data"][-1]["id"]}


async def _answer(call: Awaitable[Any]) -> Answer:
    try:
        found = await call
    except stripe.CardError as error:
        raise CardRefused(error.code or "card_declined") from error
    except (stripe.APIConnectionError, stripe.RateLimitError) as error:
        raise StripeUnavailable(f"Stripe does not answer: {type(error).__name__}") from error
    except stripe.StripeError as error:
        if error.http_status is None or error.http_status >= 500 or error.http_status == 409:
            raise StripeUnavailable(f"Stripe answers {error.http_status}") from error
        raise StripeRefused(error.code or f"status_{error.http_status}") from error
    plain: Answer = found.to_dict(for_json=True)
    return plain
