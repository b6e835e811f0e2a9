"""Billing opened: its parts wired once, its loops run while the gateway does. Not opened without a Stripe key."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass

from gateway.billing.effects import Effects
from gateway.billing.inbox import Inbox
from gateway.billing.packs import Packs
from gateway.billing.payments import Payments
from gateway.billing.recharge import Recharger
from gateway.billing.reconcile import Reconciler
from gateway.billing.stripe_api import StripeApi
from gateway.credits.ledger import Ledger
from gateway.loops import looping
from shared.documents import Documents
from shared.settings import Settings


@dataclass(frozen=True)
class Desk:
    """`takes_events`: MAILVET_STRIPE_WEBHOOK_SECRET is set; else what was paid is found by reconciliation alone."""

    api: StripeApi
    packs: Packs
    recharger: Recharger
    reconciler: Reconciler
    inbox: Inbox
    takes_events: bool


@contextlib.asynccontextmanager
async def opened_desk(
    settings: Settings, packs: Packs, documents: Documents, ledger: Ledger, clock: Callable[[], float]
) -> AsyncIterator[Desk | None]:
    """None where MAILVET_STRIPE_SECRET_KEY is not set."""
    if settings.stripe_secret_key is None:
        yield None
        return
    async with contextlib.AsyncExitStack() as opened:
        api = await opened.enter_async_context(StripeApi(settings.stripe_secret_key, settings.stripe_api_base))
        payments = Payments(documents, ledger)
        recharger = Recharger(api=api, documents=documents, ledger=ledger, payments=payments, packs=packs, clock=clock)
        effects = Effects(api=api, documents=documents, payments=payments, packs=packs, recharger=recharger)
        inbox = Inbox(documents, effects, settings.stripe_webhook_secret or "", clock)
        reconciler = Reconciler(api=api, documents=documents, effects=effects, inbox=inbox, clock=clock)
        for name, loop in (
            ("stripe-inbox", inbox.run),
            ("auto-recharge", recharger.run),
            ("stripe-reconcile", reconciler.run),
        ):
            await opened.enter_async_context(looping(name, loop))
        yield Desk(api, packs, recharger, reconciler, inbox, settings.stripe_webhook_secret is not None)
