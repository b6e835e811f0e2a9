"""Stripe's events: verified, stored once, then acted upon; the order, and what a crash at each step leaves:

1. The signature is verified on the raw bytes. Wrong: 400, nothing is stored.
2. The event is stored by its id. A repeat finds it there. Only now Stripe gets its 200; a crash before has Stripe try
   again.
3. The loop applies what is stored and not handled, oldest first, and marks it handled when the effect is complete. A
   crash in between, or Stripe not answering, leaves it for the next sweep; every effect may be repeated (payments.py).

Several gateways may apply the same event at the same time; the effect is the same.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import orjson

from gateway.billing.effects import HANDLED_TYPES, Effects
from gateway.billing.signature import SignatureWrong, verify
from gateway.billing.stripe_api import StripeRefused, StripeUnavailable
from gateway.collections import STRIPE_EVENTS
from gateway.health import metrics
from gateway.loops import wait_for_any
from gateway.problem import Problem
from shared.documents import Change, Document, Documents
from shared.errors import DocumentsUnavailable
from shared.logs import get_log

log = get_log("gateway.billing.inbox")

SWEEP = 5.0  # seconds
LONGEST_WAIT = 300.0  # seconds between tries of one event

Clock = Callable[[], float]


class Inbox:
    def __init__(self, documents: Documents, effects: Effects, secret: str, clock: Clock) -> None:
        self._documents = documents
        self._effects = effects
        self._secret = secret
        self._clock = clock
        self._arrived = asyncio.Event()

    async def take(self, body: bytes, signature: str | None) -> None:
        """Store an event as it came. Raises Problem 400 for what Stripe did not sign; DocumentsUnavailable."""
        try:
            verify(body, signature, self._secret, self._clock())
        except SignatureWrong as error:
            raise Problem(400, "signature_wrong", f"This is not signed by Stripe for us: {error}.") from error
        id_, type_, object_id = _read(body)
        await self.keep(id_, type_, object_id)

    async def keep(self, id_: str, type_: str, object_id: str) -> bool:
        """False where the event is known already."""
        now = self._clock()
        event: Document = {
            "_id": id_,
            "type": type_,
            "objectId": object_id,
            "receivedAt": now,
            "handledAt": 0.0 if type_ in HANDLED_TYPES else now,
            "tries": 0,
            "dueAt": now,
        }
        fresh = await self._documents.insert(STRIPE_EVENTS, event)
        if fresh:
            self._arrived.set()
        return fresh

    async def run(self, stop: asyncio.Event) -> None:
        while not stop.is_set():
            self._arrived.clear()
            await self.sweep()
            await wait_for_any(SWEEP, self._arrived, stop)

    async def sweep(self) -> int:
        """Apply every event that is due; how many were."""
        handled, now = 0, self._clock()
        async for event in self._documents.scan(STRIPE_EVENTS, {"handledAt": 0.0}, sort="receivedAt"):
            if event["dueAt"] <= now:
                handled += await self._apply(event)
        return handled

    async def _apply(self, event: Document) -> bool:
        """The outer boundary of one event: whatever is wrong with it costs only itself."""
        try:
            await self._effects.apply(event["type"], event["objectId"])
        except DocumentsUnavailable:
            raise
        except StripeUnavailable as error:
            return await self._later(event, error)
        except StripeRefused as error:
            log.exception("stripe_event_refused", event_id=event["_id"], type=event["type"], code=error.code)
            metrics.BILLING_ALERTS.labels("billing.event_refused").inc()
        except Exception as error:
            log.exception("stripe_event_failed", event_id=event["_id"], type=event["type"])
            metrics.BILLING_ALERTS.labels("billing.event_failed").inc()
            return await self._later(event, error)
        await self._documents.update(STRIPE_EVENTS, event["_id"], Change(set={"handledAt": self._clock()}))
        metrics.STRIPE_EVENTS.labels(event["type"]).inc()
        return True

    async def _later(self, event: Document, why: Exception) -> bool:
        pause = min(LONGEST_WAIT, 2.0 ** min(event["tries"], 10))
        log.warning("stripe_event_waits", event_id=event["_id"], type=event["type"], error=type(why).__name__)
        change = Change(set={"dueAt": self._clock() + pause}, inc={"tries": 1})
        await self._documents.update(STRIPE_EVENTS, event["_id"], change)
        return False


def _read(body: bytes) -> tuple[str, str, str]:
    """Event id, type, and the id of the object it is about. Raises Problem 400."""
    try:
        event = orjson.loads(body)
        found = (event["id"], event["type"], event["data"]["object"].get("id") or "")
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise Problem(400, "event_malformed", "This is no event of Stripe's.") from error
    if not all(isinstance(part, str) and len(part) <= 255 for part in found) or not found[0]:
        raise Problem(400, "event_malformed", "This is no event of Stripe's.")
    return found
