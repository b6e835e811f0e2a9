"""The whole system from one command: what `mailvet serve`, `verify` and `demo` run.

Opened in this order, closed in reverse, because each part needs those before it: the lock on the data folder -> the
gateway's socket (a taken port must be said before anything starts) -> Redis -> broker -> documents -> gateway ->
webhooks -> validator, in a process of its own. The validator ends first, so that what it was at still gets recorded.
Every MAILVET_*_URL that is set replaces its embedded part.

Nothing here survives the process but DATA_DIR: after `kill -9` the next start on the same folder finds its batches,
sends again those that were under way (the in-process queue forgot them), and goes on.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass

import httpx

from gateway.collections import ALL
from gateway.serve import running_gateway
from services.standalone.forget import forget_holdings
from services.standalone.secrets import lock_data_dir, note_validator_url, own_secrets
from services.standalone.validator_process import validator_process
from services.webhooks.serve import running_webhooks
from shared.broker import Broker
from shared.broker.inprocess import InProcessBroker
from shared.broker.rabbitmq import RabbitBroker
from shared.documents import Documents
from shared.documents.mongodb import MongoDocuments
from shared.documents.sqlite import SqliteDocuments
from shared.http_server import bind, port_of
from shared.redis_server import BundledValkey
from shared.settings import Settings

BOOTSTRAP_CREDITS = 1_000_000  # the contract's standalone default


@dataclass(frozen=True)
class System:
    """A running system, ready to serve."""

    url: str
    api_key: str

    async def blocked_port(self) -> str | None:
        """In words, where it is known that outgoing port 25 is blocked on this network."""
        async with httpx.AsyncClient(base_url=self.url, trust_env=False) as client:
            found = (await client.get("/readyz")).json()["preflight"]
        return str(found["sentence"]) if found is not None and found["state"] == "blocked" else None


def _standalone_settings(settings: Settings) -> Settings:
    """The standalone defaults, for everything that was not set."""
    secrets = own_secrets(settings)
    update: dict[str, object] = {"api_key": secrets.api_key, "internal_token": secrets.internal_token}
    if "auth_mode" not in settings.model_fields_set:
        update["auth_mode"] = "dev"
    if "bootstrap_credits" not in settings.model_fields_set:
        update["bootstrap_credits"] = BOOTSTRAP_CREDITS
    return settings.model_copy(update=update)


@contextlib.asynccontextmanager
async def _redis_url(settings: Settings) -> AsyncIterator[str]:
    if settings.redis_url:
        yield settings.redis_url
        return
    async with BundledValkey(settings.data_dir / "redis") as server:
        yield server.url


def _broker(settings: Settings) -> Broker:
    return RabbitBroker(settings.amqp_url) if settings.amqp_url else InProcessBroker()


def _documents(settings: Settings) -> Documents:
    if settings.mongo_url:
        return MongoDocuments(settings.mongo_url, ALL)
    return SqliteDocuments(settings.data_dir / "documents.sqlite", ALL)


def _internal_port(settings: Settings) -> int:
    """Any free one, unless somebody wants to know it."""
    return settings.validator_port if "validator_port" in settings.model_fields_set else 0


@contextlib.asynccontextmanager
async def standalone(given: Settings) -> AsyncIterator[System]:
    """Raises SettingsError or ServerUnreachable when it cannot start."""
    async with contextlib.AsyncExitStack() as opened:
        opened.enter_context(lock_data_dir(given.data_dir))
        settings = _standalone_settings(given)
        front = bind(settings.host, settings.port, "MAILVET_PORT")
        opened.callback(front.close)
        inside = bind("127.0.0.1", _internal_port(settings), "MAILVET_VALIDATOR_PORT")
        opened.callback(inside.close)
        settings = settings.model_copy(
            update={
                "redis_url": await opened.enter_async_context(_redis_url(settings)),
                "validator_urls": (f"http://127.0.0.1:{port_of(inside)}",),
                "port": port_of(front),
            }
        )
        broker = await opened.enter_async_context(_broker(settings))
        documents = await opened.enter_async_context(_documents(settings))
        note_validator_url(settings, settings.validator_urls[0])
        await opened.enter_async_context(running_gateway(settings, broker, documents, front))
        await opened.enter_async_context(running_webhooks(settings, documents))

        async def forget() -> None:
            if given.redis_url is None:  # else other validators may hold something
                await forget_holdings(str(settings.redis_url))

        await forget()
        await opened.enter_async_context(validator_process(settings, broker, inside, forget))
        host = f"[{settings.host}]" if ":" in settings.host else settings.host
        yield System(url=f"http://{host}:{settings.port}", api_key=settings.api_key or "")
