"""From an event, stored with the state change that it reports, to one delivery for each endpoint that wants it.

The order: deliveries are inserted, their ids made of event and endpoint; then the event is marked as taken. A crash in
between has it expanded again, and what is there stays as it is. So every event is delivered, or its tries are used up.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import Callable

from gateway.collections import CREDIT_ACCOUNTS, FILES, ORGANISATIONS, WEBHOOK_DELIVERIES, WEBHOOK_ENDPOINTS
from gateway.credits.ledger import balance_of
from gateway.loops import wait_for_any
from gateway.sandbox.mark import is_test
from gateway.webhooks.endpoints import callback_endpoint, endpoints, wants
from gateway.webhooks.events import body, body_of_file, type_of_file
from shared.documents import Change, Document, Documents, Missing
from shared.logs import get_log

log = get_log("gateway.webhooks.expand")

EVERY = 1.0  # seconds between looks for events
LOW_BELOW = 1_000  # available credits, where an organisation has not chosen

Clock = Callable[[], float]


class Expander:
    """Raises DocumentsUnavailable; repeating is right. Several may run side by side."""

    def __init__(self, documents: Documents, clock: Clock = time.time, *, every: float = EVERY) -> None:
        self._documents = documents
        self._clock = clock
        self._every = every

    async def run(self, stop: asyncio.Event) -> None:
        while not stop.is_set():
            await self.expand_files()
            await self.notice_low_credits()
            await wait_for_any(self._every, stop)

    async def expand_files(self) -> None:
        async for file in self._documents.scan(FILES, {"eventState": "pending"}, sort="createdAt"):
            await self._expand_file(file)

    async def _expand_file(self, file: Document) -> None:
        org_id, event_id, test = file["orgId"], file["event"]["id"], is_test(file)
        type_, text = type_of_file(file), body_of_file(file)
        deliveries = await self._deliveries(org_id, event_id, type_, text, test=test)
        if file.get("callbackUrl"):
            callback = await callback_endpoint(self._documents, org_id, test=test)
            deliveries.append(new_delivery(callback, event_id, type_, text, self._clock(), url=file["callbackUrl"]))
        await self._documents.insert_many(WEBHOOK_DELIVERIES, deliveries)
        taken = Change(set={"eventState": "taken"})
        await self._documents.update(FILES, file["_id"], taken, {"eventState": "pending", "event.id": event_id})

    async def _deliveries(
        self, org_id: str, event_id: str, type_: str, text: str, *, test: bool = False
    ) -> list[Document]:
        now = self._clock()
        return [
            new_delivery(endpoint, event_id, type_, text, now)
            async for endpoint in endpoints(self._documents, org_id, test=test)
            if wants(endpoint, type_)
        ]

    async def notice_low_credits(self) -> None:
        """`credits.low` once each time available credits fall below what the organisation has chosen."""
        org_ids = [
            endpoint["orgId"]
            async for endpoint in self._documents.scan(WEBHOOK_ENDPOINTS, {})
            if wants(endpoint, "credits.low") and not is_test(endpoint)
        ]
        for org_id in dict.fromkeys(org_ids):
            organisation = await self._documents.get(ORGANISATIONS, org_id)
            if organisation is not None:
                await self._notice(organisation)

    async def _notice(self, organisation: Document) -> None:
        org_id = organisation["_id"]
        below = organisation.get("lowCreditsBelow") or LOW_BELOW
        available = balance_of(await self._documents.get(CREDIT_ACCOUNTS, org_id)).available
        known = organisation.get("lowCredits") or {"low": False, "times": 0}
        low = available < below
        if low != known["low"]:
            times = known["times"] + low
            change: dict[str, object] = {"lowCredits": {"low": low, "times": times}}
            if low:
                name = hashlib.sha256(org_id.encode()).hexdigest()[:16]
                told = {"id": f"evt_low_{name}_{times}", "at": self._clock(), "available": available, "below": below}
                change["lowCreditsEvent"] = told
            same = {"lowCredits": Missing()} if known["times"] == 0 else {"lowCredits.times": known["times"]}
            changed = await self._documents.update(ORGANISATIONS, org_id, Change(set=change), same)
            organisation = changed or organisation
        event = organisation.get("lowCreditsEvent")
        if event:
            data = {"available": event["available"], "below": event["below"]}
            text = body("credits.low", event["at"], data)
            deliveries = await self._deliveries(org_id, event["id"], "credits.low", text)
            await self._documents.insert_many(WEBHOOK_DELIVERIES, deliveries)
            taken = Change(set={"lowCreditsEvent": None})
            await self._documents.update(ORGANISATIONS, org_id, taken, {"lowCreditsEvent.id": event["id"]})


def new_delivery(
    endpoint: Document, event_id: str, type_: str, text: str, now: float, *, url: str | None = None
) -> Document:
    return {
        "_id": f"{event_id}:{endpoint['_id']}",
        "orgId": endpoint["orgId"],
        "endpointId": endpoint["_id"],
        "eventId": event_id,
        "type": type_,
        "url": url,
        "body": text,
        "state": "pending",
        "tries": 0,
        "claim": None,
        "dueAt": now,
        "createdAt": now,
        "log": [],
    }
