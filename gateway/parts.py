"""The parts a gateway is made of, opened once by the lifespan and handed to routes through `PartsDep`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, cast

from fastapi import Depends, Request

if TYPE_CHECKING:
    import httpx
    from redis.asyncio import Redis

    from gateway.accounts.identify import Callers
    from gateway.billing.desk import Desk
    from gateway.credits.ledger import Ledger
    from gateway.live.hub import LiveHub
    from gateway.machine import Machine
    from shared.broker import Broker
    from shared.documents import Documents
    from shared.settings import Settings


@dataclass(frozen=True)
class Parts:
    settings: Settings
    documents: Documents
    broker: Broker
    redis: Redis
    ledger: Ledger
    callers: Callers  # who is calling; `async with Callers(settings, documents, redis) as callers`
    machine: Machine
    live: LiveHub
    validators: httpx.AsyncClient  # for the internal calls; carries the internal token
    desk: Desk | None = None  # billing; None: this installation sells nothing


async def _parts(request: Request) -> Parts:  # async: FastAPI gives everything else a thread, for every request
    return cast("Parts", request.app.state.parts)


PartsDep = Annotated[Parts, Depends(_parts)]
