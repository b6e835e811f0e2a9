"""Money in, against a Stripe of our own: sold, paid, told, refunded, disputed, in any order and as often as it likes."""

from __future__ import annotations

import asyncio
import itertools
import json
import random
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest

from gateway.billing.signature import sign
from gateway.collections import AUDIT, AUTO_RECHARGES, CREDIT_ENTRIES, RECHARGES, STRIPE_EVENTS
from gateway.credits.check import recompute
from shared.documents import Change, Document
from tests.integration.batch_gateway import ORG, BatchGateway, eventually
from tests.servers import ValkeyServer
from tests.servers.fake_stripe import WEBHOOK_SECRET, FakeStripe

# Stripe's library hands its body to httpx in a way that httpx warns of.
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=<...>':DeprecationWarning")

PACK = {"pack": "credits_10k"}


@pytest.fixture
async def stripe() -> AsyncIterator[FakeStripe]:
    async with FakeStripe() as running:
        yield running


@pytest.fixture
async def gateway(tmp_path, valkey: ValkeyServer, stripe: FakeStripe) -> AsyncIterator[BatchGateway]:
    async with BatchGateway(tmp_path, valkey.url, validator=False, bootstrap_credits=0, **stripe.settings) as running:
        yield running


async def buy(gateway: BatchGateway, **body: Any) -> str:
    answer = await gateway.client.post("/api/v1/billing/checkout", json={**PACK, **body})
    assert answer.status_code == 201, answer.text
    session: str = answer.json()["sessionId"]
    return session


def inbox(gateway: BatchGateway) -> str:
    return f"{gateway.url}/webhooks/stripe"


async def handled(gateway: BatchGateway) -> None:
    async def none_left() -> bool:
        return await gateway.documents.count(STRIPE_EVENTS, {"handledAt": 0.0}) == 0

    await eventually(none_left)


async def balance(gateway: BatchGateway) -> int:
    check = await recompute(gateway.documents, gateway.parts.ledger, ORG)
    assert check.differences == ()
    return check.account.balance


async def entries(gateway: BatchGateway) -> list[str]:
    return [one["_id"] async for one in gateway.documents.scan(CREDIT_ENTRIES, {"orgId": ORG}, sort="at")]


async def audited(gateway: BatchGateway, action: str) -> int:
    found = [one async for one in gateway.documents.scan(AUDIT, {"orgId": ORG}, sort="at")]
    return sum(one["action"] == action for one in found)


async def test_a_pack_is_sold_paid_and_credited_once(gateway: BatchGateway, stripe: FakeStripe) -> None:
    session = await buy(gateway, quantity=2)
    asked = stripe.things[session]["asked"]
    assert asked["mode"] == "payment"
    assert asked["client_reference_id"] == ORG
    assert await balance(gateway) == 0
    stripe.pay(session)
    assert await stripe.deliver(inbox(gateway)) == [200, 200]
    await handled(gateway)
    assert await balance(gateway) == 20_000
    assert await entries(gateway) == [f"purchase:stripe:{session}"]


async def test_the_price_in_stripe_is_what_is_charged(gateway: BatchGateway, stripe: FakeStripe) -> None:
    price = stripe.price("mailvet_credits_10k", 4_242, "eur")
    session = stripe.things[await buy(gateway)]
    assert session["line_items"]["data"][0]["price"]["id"] == price["id"]
    assert (session["amount_total"], session["currency"]) == (4_242, "eur")
    stripe.pay(session["id"])
    await stripe.deliver(inbox(gateway))
    await handled(gateway)
    assert await balance(gateway) == 10_000


async def test_an_event_sent_a_hundred_times_at_once_has_one_effect(gateway: BatchGateway, stripe: FakeStripe) -> None:
    stripe.pay(await buy(gateway))
    assert await stripe.deliver(inbox(gateway), stripe.events * 100, at_once=50) == [200] * 200
    await handled(gateway)
    assert await balance(gateway) == 10_000


def story(stripe: FakeStripe, session: str) -> None:
    """Delayed payment, two partial refunds, a dispute that is won."""
    stripe.pay(session, delayed=True)
    stripe.arrive(session)
    stripe.refund(session, 1_000)
    dispute = stripe.dispute(session)
    stripe.refund(session, 450)
    stripe.close_dispute(dispute, "won")


async def test_events_in_any_order_and_doubled_end_in_the_same_balance(
    gateway: BatchGateway, stripe: FakeStripe
) -> None:
    wanted = 0
    chance = random.Random(20)
    for _ in range(4):
        session = await buy(gateway)
        stripe.events.clear()
        story(stripe, session)
        told = stripe.events * 3
        chance.shuffle(told)
        await stripe.deliver(inbox(gateway), told, at_once=chance.choice((1, 8)))
        await handled(gateway)
        wanted += 10_000 - 10_000 * 1_450 // 4_900
        assert await balance(gateway) == wanted


async def test_every_order_of_what_happened_meanwhile_ends_in_the_same_balance(
    gateway: BatchGateway, stripe: FakeStripe
) -> None:
    """The gateway hears of each step while the next ones have not happened: in all orders of telling."""
    for lost, kept in ((False, 10_000 - 10_000 * 980 // 4_900), (True, 0)):
        for order in itertools.permutations(range(3)):
            before = await balance(gateway)
            session = await buy(gateway)
            stripe.events.clear()
            stripe.pay(session)
            dispute = stripe.dispute(session)
            stripe.refund(session, 980)
            paid, disputed, refunded = (e for e in stripe.events if not e["type"].startswith("payment_intent"))
            for at in order:
                await stripe.deliver(inbox(gateway), [(paid, disputed, refunded)[at]])
                await handled(gateway)
            assert await balance(gateway) == before
            stripe.close_dispute(dispute, "lost" if lost else "won")
            await stripe.deliver(inbox(gateway), [stripe.events[-1], paid, disputed])
            await handled(gateway)
            assert await balance(gateway) == before + kept


async def test_a_completed_session_that_is_not_paid_brings_nothing_until_the_money_arrives(
    gateway: BatchGateway, stripe: FakeStripe
) -> None:
    session = await buy(gateway)
    stripe.pay(session, delayed=True)
    await stripe.deliver(inbox(gateway))
    await handled(gateway)
    assert await balance(gateway) == 0
    stripe.arrive(session)
    await stripe.deliver(inbox(gateway))
    await handled(gateway)
    assert await balance(gateway) == 10_000


async def test_an_unknown_price_is_told_and_brings_nothing(gateway: BatchGateway, stripe: FakeStripe) -> None:
    stranger = stripe.price("somebody_elses", 1)
    session = stripe._new_session(
        {
            "mode": "payment",
            "line_items": [{"price": stranger["id"], "quantity": "1"}],
            "client_reference_id": ORG,
            "metadata": {"orgId": ORG, "pack": "credits_1m", "credits": "1000000"},
        }
    )
    stripe.pay(session["id"])
    assert set(await stripe.deliver(inbox(gateway), stripe.events * 5)) == {200}
    await handled(gateway)
    assert await balance(gateway) == 0
    assert await audited(gateway, "billing.unknown_price") == 1


async def test_a_session_made_elsewhere_for_one_of_our_prices_is_credited(
    gateway: BatchGateway, stripe: FakeStripe
) -> None:
    price = stripe.price("mailvet_credits_100k", 29_900)
    line = {"price": price["id"], "quantity": "1"}
    session = stripe._new_session({"mode": "payment", "line_items": [line], "client_reference_id": ORG})
    stripe.pay(session["id"])
    await stripe.deliver(inbox(gateway))
    await handled(gateway)
    assert await balance(gateway) == 100_000


async def test_a_session_whose_amount_was_changed_is_not_what_we_sold(
    gateway: BatchGateway, stripe: FakeStripe
) -> None:
    session = stripe.things[await buy(gateway)]
    session["amount_subtotal"] = session["amount_total"] = 1
    stripe.pay(session["id"])
    await stripe.deliver(inbox(gateway))
    await handled(gateway)
    assert await balance(gateway) == 0
    assert await audited(gateway, "billing.unknown_price") == 1


async def test_a_plan_brings_its_credits_with_every_paid_invoice(gateway: BatchGateway, stripe: FakeStripe) -> None:
    refused = await gateway.client.post("/api/v1/billing/checkout", json={"pack": "monthly_50k"})
    assert (refused.status_code, refused.json()["code"]) == (503, "stripe_refused")
    price = stripe.price("mailvet_monthly_50k", 12_900)
    session = await buy(gateway, pack="monthly_50k")
    assert stripe.things[session]["asked"]["subscription_data"]["metadata"]["orgId"] == ORG
    stripe.pay(session)
    for _ in range(2):
        stripe.bill_plan(ORG, price)
    await stripe.deliver(inbox(gateway), stripe.events * 3)
    await handled(gateway)
    assert await balance(gateway) == 100_000


def forged(body: bytes, **changes: Any) -> str:
    now = changes.get("now", time.time())
    return sign(body, changes.get("secret", WEBHOOK_SECRET), now)


async def test_what_stripe_did_not_sign_is_refused_and_not_stored(gateway: BatchGateway, stripe: FakeStripe) -> None:
    stripe.pay(await buy(gateway))
    body = json.dumps(stripe.events[-1]).encode()
    now = time.time()
    wrong = {
        "no header": (body, None),
        "garbage": (body, "t=,v1="),
        "another secret": (body, forged(body, secret="whsec_other")),
        "a space more": (body + b" ", forged(body)),
        "too old": (body, forged(body, now=now - 302)),
        "from the future": (body, forged(body, now=now + 302)),
        "v0 only": (body, forged(body).replace("v1=", "v0=")),
        "no event": (b"[]", forged(b"[]")),
        "no JSON": (b"\xff", forged(b"\xff")),
    }
    for name, (sent, header) in wrong.items():
        headers = {} if header is None else {"Stripe-Signature": header}
        answer = await gateway.client.post("/webhooks/stripe", content=sent, headers=headers)
        assert (answer.status_code, answer.headers["content-type"]) == (400, "application/problem+json"), name
    assert await gateway.documents.count(STRIPE_EVENTS, {"receivedAt": now}) == 0
    assert [one async for one in gateway.documents.scan(STRIPE_EVENTS, {})] == []
    good = await gateway.client.post("/webhooks/stripe", content=body, headers={"Stripe-Signature": forged(body)})
    assert good.status_code == 200
    huge = await gateway.client.post("/webhooks/stripe", content=b"x" * 1_500_000)
    assert huge.status_code == 413


async def test_an_event_stored_while_stripe_was_down_is_applied_by_a_sweep(
    gateway: BatchGateway, stripe: FakeStripe
) -> None:
    stripe.pay(await buy(gateway))
    stripe.down = True
    assert set(await stripe.deliver(inbox(gateway))) == {200}

    async def waiting() -> list[Document]:
        return [one async for one in gateway.documents.scan(STRIPE_EVENTS, {"handledAt": 0.0})]

    async def tried() -> bool:
        found = await waiting()
        return bool(found) and all(one["tries"] for one in found)

    await eventually(tried)
    stripe.down = False
    assert await balance(gateway) == 0
    desk = gateway.parts.desk
    assert desk is not None
    async with asyncio.timeout(10):
        while await balance(gateway) == 0:
            for one in await waiting():  # their pause is over
                await gateway.documents.update(STRIPE_EVENTS, one["_id"], Change(set={"dueAt": 0.0}))
            await desk.inbox.sweep()
            await asyncio.sleep(0.01)
    await handled(gateway)
    assert await balance(gateway) == 10_000


async def test_reconciliation_credits_what_no_event_told(gateway: BatchGateway, stripe: FakeStripe) -> None:
    desk = gateway.parts.desk
    assert desk is not None
    for _ in range(3):
        stripe.pay(await buy(gateway))
    unpaid = await buy(gateway)
    stripe.pay(unpaid, delayed=True)
    told = await buy(gateway)
    stripe.pay(told)
    await stripe.deliver(inbox(gateway), stripe.events[-1:])
    await handled(gateway)
    refunded = stripe.events[1]["data"]["object"]["id"]
    stripe.refund(refunded, 4_900)
    found = await desk.reconciler.reconcile()
    assert (found.paid, found.credited, found.unknown) == (4, 3, 0)
    await desk.inbox.sweep()
    await handled(gateway)
    assert await balance(gateway) == 30_000
    again = await desk.reconciler.reconcile()
    assert (again.paid, again.credited, again.unknown, again.events) == (4, 0, 0, 0)


# --- auto-recharge ---
async def with_card(gateway: BatchGateway, stripe: FakeStripe, **settings: Any) -> None:
    """An organisation that bought one pack, left its card and wants to be recharged below 15,000 credits."""
    stripe.pay(await buy(gateway, saveCard=True))
    await stripe.deliver(inbox(gateway))
    await handled(gateway)
    body = {"enabled": True, "threshold": 15_000, "pack": "credits_10k", "dailyCap": 2, **settings}
    answer = await gateway.client.put("/api/v1/billing/auto-recharge", json=body)
    assert answer.status_code == 200, answer.text


async def test_below_the_threshold_one_pack_is_bought_off_session(gateway: BatchGateway, stripe: FakeStripe) -> None:
    await with_card(gateway, stripe)
    desk = gateway.parts.desk
    assert desk is not None
    await asyncio.gather(*(desk.recharger.look() for _ in range(20)))
    assert await balance(gateway) == 20_000
    told = [event for event in stripe.events if event["type"] == "payment_intent.succeeded"]
    await stripe.deliver(inbox(gateway), told * 10)
    await handled(gateway)
    await desk.recharger.look()
    assert await balance(gateway) == 20_000
    assert stripe.calls.count(("POST", "payment_intents")) >= 1
    assert len([one for one in stripe._all("payment_intent") if "rechargeId" in one["metadata"]]) == 1


async def test_no_more_recharges_than_the_day_allows(gateway: BatchGateway, stripe: FakeStripe) -> None:
    await with_card(gateway, stripe, threshold=10**9, dailyCap=3)
    desk = gateway.parts.desk
    assert desk is not None
    for _ in range(8):
        await desk.recharger.look()
    assert await balance(gateway) == 40_000


async def test_a_declined_card_stops_the_recharging(gateway: BatchGateway, stripe: FakeStripe) -> None:
    await with_card(gateway, stripe)
    stripe.decline = "authentication_required"
    desk = gateway.parts.desk
    assert desk is not None
    for _ in range(3):
        await desk.recharger.look()
    assert await balance(gateway) == 10_000
    shown = (await gateway.client.get("/api/v1/billing/auto-recharge")).json()
    assert (shown["enabled"], shown["stopped"]) == (False, "authentication_required")
    assert stripe.calls.count(("POST", "payment_intents")) == 1
    assert await audited(gateway, "auto_recharge.stopped") == 1


async def test_a_recharge_whose_answer_was_lost_is_not_paid_twice(gateway: BatchGateway, stripe: FakeStripe) -> None:
    await with_card(gateway, stripe, enabled=False)
    desk = gateway.parts.desk
    assert desk is not None
    body = {"enabled": True, "threshold": 15_000, "pack": "credits_10k"}
    await gateway.client.put("/api/v1/billing/auto-recharge", json=body)
    await desk.recharger.look()
    [recharge] = [one async for one in gateway.documents.scan(RECHARGES, {})]
    # As if the process had died after Stripe took the money and before anything was written down.
    await gateway.documents.replace(RECHARGES, recharge | {"state": "open", "intent": None})
    settings = await gateway.documents.get(AUTO_RECHARGES, ORG)
    assert settings is not None
    await gateway.documents.replace(AUTO_RECHARGES, settings | {"openId": recharge["_id"]})
    await desk.recharger.look()
    assert await balance(gateway) == 20_000
    assert len([one for one in stripe._all("payment_intent") if "rechargeId" in one["metadata"]]) == 1


async def test_without_a_saved_card_there_is_no_auto_recharge(gateway: BatchGateway) -> None:
    body = {"enabled": True, "threshold": 1, "pack": "credits_10k"}
    answer = await gateway.client.put("/api/v1/billing/auto-recharge", json=body)
    assert (answer.status_code, answer.json()["code"]) == (409, "no_card")
    off = await gateway.client.put("/api/v1/billing/auto-recharge", json=body | {"enabled": False})
    assert off.status_code == 200


# --- the pages ---
async def test_the_portal_opens_after_the_first_purchase(gateway: BatchGateway, stripe: FakeStripe) -> None:
    early = await gateway.client.post("/api/v1/billing/portal")
    assert (early.status_code, early.json()["code"]) == (409, "no_customer")
    stripe.pay(await buy(gateway))
    await stripe.deliver(inbox(gateway))
    await handled(gateway)
    answer = await gateway.client.post("/api/v1/billing/portal")
    assert answer.status_code == 201
    assert answer.json()["url"].startswith("https://")
    assert stripe.things[await buy(gateway)]["customer"].startswith("cus_")


async def test_the_same_idempotency_key_sells_once(gateway: BatchGateway, stripe: FakeStripe) -> None:
    headers = {"Idempotency-Key": "buy-1"}
    first = await gateway.client.post("/api/v1/billing/checkout", json=PACK, headers=headers)
    again = await gateway.client.post("/api/v1/billing/checkout", json=PACK, headers=headers)
    other = await gateway.client.post("/api/v1/billing/checkout", json={"pack": "credits_1m"}, headers=headers)
    assert first.json() == again.json()
    assert other.status_code == 422
    assert len(stripe._all("checkout.session")) == 1


async def test_packs_are_listed_and_others_refused(gateway: BatchGateway) -> None:
    items = (await gateway.client.get("/api/v1/billing/packs")).json()["items"]
    assert [one["id"] for one in items] == ["credits_10k", "credits_100k", "credits_1m", "monthly_50k"]
    for body in ({"pack": "free"}, {**PACK, "quantity": 0}, {**PACK, "quantity": 1.5}, {**PACK, "amount": 1}, {}):
        assert (await gateway.client.post("/api/v1/billing/checkout", json=body)).status_code == 422


async def test_stripe_down_is_a_503_and_nothing_is_sold(gateway: BatchGateway, stripe: FakeStripe) -> None:
    stripe.down = True
    answer = await gateway.client.post("/api/v1/billing/checkout", json=PACK)
    assert (answer.status_code, answer.json()["code"]) == (503, "unavailable")


async def test_without_a_stripe_key_billing_says_so(tmp_path, valkey: ValkeyServer) -> None:
    async with BatchGateway(tmp_path, valkey.url, validator=False) as gateway:
        for method, path in (
            ("GET", "/api/v1/billing/packs"),
            ("POST", "/api/v1/billing/checkout"),
            ("POST", "/api/v1/billing/portal"),
            ("GET", "/api/v1/billing/auto-recharge"),
            ("POST", "/webhooks/stripe"),
        ):
            answer = await gateway.client.request(method, path, json=PACK if method == "POST" else None)
            assert (answer.status_code, answer.json()["code"]) == (503, "billing_not_configured"), path
