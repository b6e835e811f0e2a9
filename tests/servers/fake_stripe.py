"""A Stripe of our own for tests and demonstrations: a real HTTP server on a free port, of the shapes that we use.

It honours idempotency keys (same key, same answer; same key with other parameters is an error), signs its events, and
tells nothing by itself: every event goes into `events`, and `deliver` sends some of them, in the order and as often as the
test wants. What is withheld is simply not delivered. What people do at Stripe is a method: `pay`, `refund`, `dispute`.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Iterable, Sequence
from contextlib import AsyncExitStack
from itertools import count
from typing import Any, Self
from urllib.parse import parse_qsl

import httpx
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse

from gateway.billing.signature import sign
from shared.http_server import bind, port_of, serving

SECRET_KEY = "sk_test_of_the_fake"
WEBHOOK_SECRET = "whsec_of_the_fake"

Thing = dict[str, Any]


class Refusal(Exception):
    def __init__(self, status: int, code: str, kind: str = "invalid_request_error", **more: Any) -> None:
        super().__init__(code)
        self.status = status
        self.error = {"error": {"type": kind, "code": code, "message": code, **more}}


class FakeStripe:
    """`async with FakeStripe() as stripe:`; `url` is for MAILVET_STRIPE_API_BASE."""

    def __init__(self) -> None:
        self.things: dict[str, Thing] = {}  # by id
        self.events: list[Thing] = []
        self.calls: list[tuple[str, str]] = []
        self.down = False  # every call is answered 500
        self.decline: str | None = None  # off-session payments are declined with this code
        self._answers: dict[str, tuple[str, int, Thing]] = {}  # by idempotency key
        self._number = count(1)
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        bound = bind("127.0.0.1", 0, "FAKE_STRIPE")
        self.url = f"http://127.0.0.1:{port_of(bound)}"
        app = FastAPI()
        app.add_api_route("/v1/{path:path}", self._serve, methods=["GET", "POST"])
        await self._stack.enter_async_context(serving(app, bound))
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    @property
    def settings(self) -> dict[str, str]:
        """What a gateway needs to use it."""
        return {
            "stripe_secret_key": SECRET_KEY,
            "stripe_webhook_secret": WEBHOOK_SECRET,
            "stripe_api_base": self.url,
        }

    # --- HTTP ---
    async def _serve(self, path: str, request: Request) -> JSONResponse:
        self.calls.append((request.method, path))
        if self.down:
            return JSONResponse({"error": {"type": "api_error", "message": "down"}}, 500)
        if request.headers.get("authorization") != f"Bearer {SECRET_KEY}":
            return JSONResponse({"error": {"type": "invalid_request_error", "message": "key"}}, 401)
        body = (await request.body()).decode()
        key = request.headers.get("idempotency-key") if request.method == "POST" else None
        if key is not None and key in self._answers:
            known, status, answer = self._answers[key]
            if known != path + body:
                return JSONResponse({"error": {"type": "idempotency_error", "message": "other parameters"}}, 400)
            return JSONResponse(answer, status, {"idempotent-replayed": "true"})
        params = _nested(parse_qsl(body or str(request.query_params), keep_blank_values=True))
        try:
            status, answer = 200, self._answer(request.method, path.split("/"), params)
        except Refusal as refusal:
            status, answer = refusal.status, refusal.error
        if key is not None:
            self._answers[key] = (path + body, status, answer)
        return JSONResponse(answer, status)

    def _answer(self, method: str, path: list[str], params: Thing) -> Thing:
        match method, path:
            case "POST", ["checkout", "sessions"]:
                return self._shown(self._new_session(params))
            case "POST", ["billing_portal", "sessions"]:
                self._find(params["customer"], "customer")
                return self._make("bps", "billing_portal.session", url="https://portal.example/", **params)
            case "POST", ["payment_intents"]:
                return self._new_intent(params)
            case "GET", ["customers", customer, "payment_methods"]:
                return _list([one for one in self._all("payment_method") if one["customer"] == customer])
            case "GET", ["checkout", "sessions", id_]:
                return self._shown(self._find(id_, "checkout.session"), params.get("expand", []))
            case "GET", ["checkout", "sessions"]:
                done = [one for one in self._all("checkout.session") if one["status"] == "complete"]
                return self._page([self._shown(one) for one in done], params)
            case "GET", ["events"]:
                return self._page([one for one in self.events if one["type"] in params["types"]], params)
            case "GET", ["prices"]:
                wanted = params.get("lookup_keys", [])
                return _list([one for one in self._all("price") if one["lookup_key"] in wanted])
            case "GET", [("prices" | "charges" | "disputes" | "payment_intents" | "invoices") as kind, id_]:
                return self._find(id_, kind.removesuffix("s"))
        raise Refusal(404, "resource_missing")

    # --- things ---
    def _make(self, prefix: str, kind: str, **fields: Any) -> Thing:
        thing = {"id": f"{prefix}_{next(self._number):06d}", "object": kind, "created": int(time.time()), **fields}
        self.things[thing["id"]] = thing
        return thing

    def _all(self, kind: str) -> list[Thing]:
        return [thing for thing in self.things.values() if thing["object"] == kind]

    def _find(self, id_: str, kind: str) -> Thing:
        thing = self.things.get(id_)
        if thing is None or thing["object"] != kind:
            raise Refusal(404, "resource_missing")
        return thing

    def _shown(self, session: Thing, expand: Sequence[str] = ()) -> Thing:
        """Line items are left out unless they are asked for, as Stripe does."""
        return {name: value for name, value in session.items() if name != "line_items" or "line_items" in expand}

    def _page(self, items: list[Thing], params: Thing) -> Thing:
        items = [one for one in items if one["created"] >= int(params.get("created", {}).get("gte", 0))]
        items.sort(key=lambda one: one["id"], reverse=True)
        if after := params.get("starting_after"):
            items = [one for one in items if one["id"] < after]
        limit = int(params.get("limit", 10))
        return _list(items[:limit], more=len(items) > limit)

    def price(self, lookup_key: str | None, amount: int, currency: str = "usd") -> Thing:
        return self._make("price", "price", lookup_key=lookup_key, unit_amount=amount, currency=currency, active=True)

    def _new_session(self, params: Thing) -> Thing:
        lines = []
        for line in params["line_items"]:
            if "price" in line:
                price = self._find(line["price"], "price")
            else:
                data = line["price_data"]
                price = self.price(None, int(data["unit_amount"]), data["currency"])
            lines.append({"price": price, "quantity": int(line["quantity"])})
        total = sum(line["price"]["unit_amount"] * line["quantity"] for line in lines)
        given = {name: params.get(name) for name in ("mode", "client_reference_id", "customer", "metadata")}
        session = self._make(
            "cs",
            "checkout.session",
            **given,
            status="open",
            payment_status="unpaid",
            payment_intent=None,
            currency=lines[0]["price"]["currency"],
            amount_subtotal=total,
            amount_total=total,
            line_items=_list(lines),
            asked=params,
        )
        session["url"] = f"https://checkout.example/{session['id']}"
        return session

    def _new_intent(self, params: Thing) -> Thing:
        self._find(params["customer"], "customer")
        intent = self._make(
            "pi",
            "payment_intent",
            amount=int(params["amount"]),
            currency=params["currency"],
            customer=params["customer"],
            metadata=params.get("metadata", {}),
            amount_received=0,
            status="requires_payment_method",
        )
        if self.decline is not None:
            self._tell("payment_intent.payment_failed", intent)
            raise Refusal(402, self.decline, "card_error", payment_intent=intent)
        self._succeed(intent)
        return intent

    def _succeed(self, intent: Thing) -> Thing:
        intent |= {"status": "succeeded", "amount_received": intent["amount"]}
        charge = self._make(
            "ch", "charge", amount=intent["amount"], amount_refunded=0, payment_intent=intent["id"], disputed=False
        )
        self._tell("payment_intent.succeeded", intent)
        return charge

    # --- what people do at Stripe ---
    def pay(self, session_id: str, *, delayed: bool = False) -> Thing:
        """Somebody pays a session; `delayed`: by a method whose money comes with `arrive`. The session."""
        session = self.things[session_id]
        if session["customer"] is None:
            session["customer"] = self._make("cus", "customer")["id"]
        if session["asked"].get("payment_intent_data", {}).get("setup_future_usage"):
            self._make("pm", "payment_method", customer=session["customer"])
        fields = {"amount": session["amount_total"], "currency": session["currency"], "metadata": {}}
        intent = self._make("pi", "payment_intent", **fields, amount_received=0, status="processing")
        session |= {"status": "complete", "payment_intent": intent["id"]}
        if not delayed:
            self._succeed(intent)
            session["payment_status"] = "paid"
        self._tell("checkout.session.completed", self._shown(session))
        return session

    def arrive(self, session_id: str) -> None:
        """The money of a delayed payment arrives."""
        session = self.things[session_id]
        self._succeed(self.things[session["payment_intent"]])
        session["payment_status"] = "paid"
        self._tell("checkout.session.async_payment_succeeded", self._shown(session))

    def charge_of(self, session_id: str) -> Thing:
        intent = self.things[session_id]["payment_intent"]
        return next(one for one in self._all("charge") if one["payment_intent"] == intent)

    def refund(self, session_id: str, amount: int) -> None:
        charge = self.charge_of(session_id)
        charge["amount_refunded"] += amount
        self._tell("charge.refunded", charge)

    def dispute(self, session_id: str) -> str:
        charge = self.charge_of(session_id)
        fields = {"charge": charge["id"], "payment_intent": charge["payment_intent"], "amount": charge["amount"]}
        made = self._make("dp", "dispute", **fields, status="needs_response")
        self._tell("charge.dispute.created", made)
        return str(made["id"])

    def close_dispute(self, dispute_id: str, status: str) -> None:
        self.things[dispute_id]["status"] = status
        self._tell("charge.dispute.closed", self.things[dispute_id])

    def bill_plan(self, org_id: str, price: Thing) -> Thing:
        """A month of a subscription is paid."""
        intent = self._make("pi", "payment_intent", amount=price["unit_amount"], currency="usd", metadata={})
        self._succeed(intent)
        line = {
            "amount": price["unit_amount"],
            "quantity": 1,
            "pricing": {"price_details": {"price": price["id"]}},
        }
        invoice = self._make(
            "in",
            "invoice",
            status="paid",
            amount_paid=price["unit_amount"],
            parent={"subscription_details": {"metadata": {"orgId": org_id}}},
            lines=_list([line]),
            payments=_list([{"payment": {"type": "payment_intent", "payment_intent": intent["id"]}}]),
        )
        self._tell("invoice.paid", invoice)
        return invoice

    # --- events ---
    def _tell(self, type_: str, about: Thing) -> None:
        snapshot = json.loads(json.dumps(about))
        event = {"id": f"evt_{next(self._number):06d}", "object": "event", "created": int(time.time()), "type": type_}
        self.events.append(event | {"data": {"object": snapshot}})

    async def deliver(self, url: str, events: Iterable[Thing] | None = None, *, at_once: int = 20) -> list[int]:
        """Send these events (all of them, where none are given) in their order, `at_once` side by side; the answers."""
        gate = asyncio.Semaphore(at_once)
        async with httpx.AsyncClient(timeout=30, trust_env=False) as client:

            async def send(event: Thing) -> int:
                async with gate:
                    body = json.dumps(event).encode()
                    headers = {"Stripe-Signature": sign(body, WEBHOOK_SECRET, time.time())}
                    return (await client.post(url, content=body, headers=headers)).status_code

            wanted = self.events if events is None else events
            return await asyncio.gather(*(send(event) for event in wanted))


def _list(items: list[Thing], *, more: bool = False) -> Thing:
    return {"object": "list", "data": items, "has_more": more, "url": "/v1/list"}


def _nested(pairs: Iterable[tuple[str, str]]) -> Thing:
    """`a[b][0][c]=d` as nested objects and lists."""
    found: Thing = {}
    for name, value in pairs:
        first, *rest = name.replace("]", "").split("[")
        at: Any = found
        keys = [first, *rest]
        for key in keys[:-1]:
            at = at.setdefault(key, {})
        at[keys[-1] or str(len(at))] = value
    return {name: _with_lists(value) for name, value in found.items()}


def _with_lists(value: Any) -> Any:
    if not isinstance(value, dict):
        return value
    inside = {key: _with_lists(one) for key, one in value.items()}
    if inside and all(key.isdecimal() for key in inside):
        return [inside[key] for key in sorted(inside, key=int)]
    return inside
