"""Money in and events out over a MongoDB wire server: the conditions of their updates mean the same there."""

from __future__ import annotations

import asyncio
import time
import uuid

import pytest

from gateway.billing.payments import Payments
from gateway.collections import ALL, FILES, ORGANISATIONS, STRIPE_PAYMENTS, WEBHOOK_DELIVERIES, WEBHOOK_ENDPOINTS
from gateway.credits.ledger import Ledger
from gateway.webhooks.endpoints import new_endpoint
from gateway.webhooks.expand import Expander
from services.webhooks.deliver import Deliverer
from services.webhooks.post import Poster
from shared.address_guard import allowed_networks
from shared.documents.mongodb import MongoDocuments
from tests.servers import MongoServer
from tests.servers.receiver import Receiver

pytestmark = pytest.mark.mongodb


async def test_facts_told_side_by_side_are_joined(mongo: MongoServer) -> None:
    org_id, payment_id = f"org_{uuid.uuid4().hex}", f"pi_{uuid.uuid4().hex}"
    async with MongoDocuments(mongo.url, ALL) as documents:
        ledger = Ledger(documents, time.time)
        payments = Payments(documents, ledger)
        cause = f"stripe:cs_{org_id}"
        told = [
            payments.disputed(payment_id, "dp_1", "needs_response"),
            payments.refunded(payment_id, 100),
            payments.paid(payment_id, org_id=org_id, credits_=900, amount=300, cause=cause),
            payments.disputed(payment_id, "dp_1", "won"),
            payments.paid(payment_id, org_id=org_id, credits_=900, amount=300, cause=cause),
        ]
        await asyncio.gather(*told)
        assert (await ledger.balance(org_id)).balance == 600
        stored = await documents.get(STRIPE_PAYMENTS, payment_id)
        assert stored is not None
        assert stored["disputes"] == {"dp_1": "won"}


async def test_events_are_expanded_and_delivered(mongo: MongoServer) -> None:
    async def nobody(_: str) -> list[str]:
        return []

    org_id, file_id = f"org_{uuid.uuid4().hex}", uuid.uuid4().hex
    async with MongoDocuments(mongo.url, ALL) as documents, Receiver() as receiver:
        endpoint = new_endpoint(org_id, receiver.url + "/hook", ["bulk_job.finished", "credits.low"], "", time.time())
        await documents.insert(WEBHOOK_ENDPOINTS, endpoint)
        await documents.insert(ORGANISATIONS, {"_id": org_id, "name": org_id, "createdAt": time.time()})
        counts = dict.fromkeys(("totalEmails", "uniqueEmails", "valid", "invalid", "risky", "unknown", "processed"), 1)
        event = {"id": f"evt_{file_id}", "type": "file.completed", "at": time.time()}
        file = {"_id": file_id, "orgId": org_id, "kind": "upload", "status": "completed", "createdAt": 1.0, **counts}
        await documents.insert(FILES, file | {"event": event, "eventState": "pending"})
        expanders = [Expander(documents), Expander(documents)]
        await asyncio.gather(*(one.expand_files() for one in expanders))
        await asyncio.gather(*(one.notice_low_credits() for one in expanders))
        found = [one async for one in documents.scan(WEBHOOK_DELIVERIES, {"endpointId": endpoint["_id"]})]
        assert sorted(one["type"] for one in found) == ["bulk_job.finished", "credits.low"]
        deliverers = [Deliverer(documents, Poster(nobody, allowed_networks(["127.0.0.0/8"]))) for _ in range(3)]
        await asyncio.gather(*(one.deliver(each["_id"]) for one in deliverers for each in found))
        assert len(receiver.came) == 2
        stop = asyncio.Event()
        running = asyncio.create_task(deliverers[0].run(stop))
        stop.set()
        await asyncio.wait_for(running, 10)
        states = [one["state"] async for one in documents.scan(WEBHOOK_DELIVERIES, {"endpointId": endpoint["_id"]})]
        assert states == ["delivered", "delivered"]
