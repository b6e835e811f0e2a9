"""Once a day Stripe is asked what was paid and what happened, and what we missed is made good.

Every completed checkout session is fulfilled again (nothing happens to those that were), and every event that never
came is put into the inbox. So a lost webhook delays credits by a day at most.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass

from gateway.billing.effects import HANDLED_TYPES, Effects
from gateway.billing.inbox import Inbox
from gateway.billing.stripe_api import StripeApi, StripeRefused
from gateway.collections import CREDIT_ENTRIES
from gateway.health import metrics
from gateway.loops import wait_for_any
from shared.documents import Documents
from shared.logs import get_log

log = get_log("gateway.billing.reconcile")

EVERY = 86_400.0  # seconds
LOOK_BACK = 7 * 86_400.0  # seconds: what was missed while we were away for a while is found as well


@dataclass(frozen=True, slots=True)
class Reconciliation:
    """`paid`: sessions that Stripe says were paid for packs; `credited`: those of them that were missing here;
    `unknown`: those that are not credited because their price is none of ours; `events`: those that never came.
    """

    paid: int
    credited: int
    unknown: int
    events: int


class Reconciler:
    def __init__(
        self, *, api: StripeApi, documents: Documents, effects: Effects, inbox: Inbox, clock: Callable[[], float]
    ) -> None:
        self._api = api
        self._documents = documents
        self._effects = effects
        self._inbox = inbox
        self._clock = clock

    async def run(self, stop: asyncio.Event) -> None:
        while not stop.is_set():
            try:
                await self.reconcile()
            except StripeRefused as error:  # asking again at once would not help
                metrics.BILLING_ALERTS.labels("billing.reconciliation_refused").inc()
                log.exception("reconciliation_refused", code=error.code)
            await wait_for_any(EVERY, stop)

    async def reconcile(self) -> Reconciliation:
        """Raises StripeUnavailable, StripeRefused, DocumentsUnavailable; may be repeated."""
        began, since = time.monotonic(), self._clock() - LOOK_BACK
        paid = credited = unknown = events = 0
        async for session in self._api.checkouts_since(since):
            if session["mode"] != "payment" or session["payment_status"] != "paid":
                continue
            paid += 1
            if await self._is_credited(session["id"]):
                continue
            if await self._effects.fulfil(session["id"]):
                credited += 1
                log.warning("missed_payment_credited", session_id=session["id"])
            else:
                unknown += 1
        async for event in self._api.events_since(since, HANDLED_TYPES):
            events += await self._inbox.keep(event["id"], event["type"], event["data"]["object"]["id"])
        result = Reconciliation(paid, credited, unknown, events)
        metrics.RECONCILED.labels("credited").inc(credited)
        metrics.RECONCILED.labels("unknown").inc(unknown)
        log.info(
            "reconciled",
            paid=paid,
            credited=credited,
            unknown=unknown,
            events=events,
            seconds=round(time.monotonic() - began, 1),
        )
        return result

    async def _is_credited(self, session_id: str) -> bool:
        return await self._documents.get(CREDIT_ENTRIES, f"purchase:stripe:{session_id}") is not None
