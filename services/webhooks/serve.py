"""Events out: the expander and the deliverer, inside a larger process or as `mailvet webhooks`."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

from gateway.collections import ALL
from gateway.loops import looping
from gateway.webhooks.expand import EVERY, Expander
from services.webhooks.decide import DELAYS
from services.webhooks.deliver import Deliverer
from services.webhooks.health import create_health
from services.webhooks.post import Poster
from services.webhooks.resolve import dns_lookup
from shared.address_guard import allowed_networks
from shared.documents import Documents
from shared.documents.mongodb import MongoDocuments
from shared.http_server import bind, serving
from shared.settings import Settings


@contextlib.asynccontextmanager
async def running_webhooks(
    settings: Settings,
    documents: Documents,
    *,
    delays: tuple[float, ...] = DELAYS,
    every: float = EVERY,
) -> AsyncIterator[Deliverer]:
    """Expand and deliver while the context is open, looking `every` so many seconds. Raises SettingsError.

    What is being sent at its end is finished.
    """
    lookup = dns_lookup(settings.dns_nameservers, settings.dns_timeout)
    poster = Poster(lookup, allowed_networks(settings.webhook_allow_networks))
    deliverer = Deliverer(documents, poster, delays=delays, look=every / 2)
    async with (
        looping("webhook-deliver", deliverer.run),
        looping("webhook-expand", Expander(documents, every=every).run),
    ):
        yield deliverer


async def serve_webhooks(settings: Settings, stop: asyncio.Event) -> None:
    """Until `stop` is set; the documents are those at MAILVET_MONGO_URL. Health and metrics at MAILVET_WEBHOOKS_PORT.

    Raises SettingsError, DocumentsUnavailable.
    """
    settings.need("mongo_url")
    bound = bind(settings.webhooks_host, settings.webhooks_port, "MAILVET_WEBHOOKS_PORT")
    with contextlib.closing(bound):
        async with (
            MongoDocuments(str(settings.mongo_url), ALL) as documents,
            running_webhooks(settings, documents),
            serving(create_health(documents), bound),
        ):
            await stop.wait()
