"""The gateway: every router in one table, and the parts opened and closed in order."""

from __future__ import annotations

import contextlib
import time
from collections.abc import AsyncIterator
from importlib.metadata import version
from typing import Any

import httpx
from fastapi import FastAPI

from gateway.accounts import routes as accounts
from gateway.accounts.bootstrap import bootstrap
from gateway.accounts.identify import Callers
from gateway.answers import EveryAnswer
from gateway.api_keys import routes as api_keys
from gateway.audit import routes as audit
from gateway.billing import routes as billing
from gateway.billing.desk import opened_desk
from gateway.billing.packs import load_packs
from gateway.body_limit import BodyLimit
from gateway.collections import ALL
from gateway.credits import routes as credits_
from gateway.credits.ledger import Ledger
from gateway.dashboard import routes as dashboard
from gateway.downloads import routes as downloads
from gateway.files import routes as files
from gateway.head import HeadAsGet
from gateway.health import routes as health
from gateway.idempotency.purge import purging
from gateway.live import routes as live
from gateway.live.hub import LiveHub
from gateway.loops import looping
from gateway.machine import Machine
from gateway.parts import Parts
from gateway.problem import install_problem_handlers
from gateway.rate_limits.headers import RateLimitHeaders
from gateway.retention import routes as retention
from gateway.retention.sweep import RetentionSweep
from gateway.sandbox.answer import SandboxedBroker
from gateway.uploads import routes as uploads
from gateway.uploads.submit import sweep_leftovers
from gateway.validate import routes as validate
from gateway.webhooks import routes as webhooks
from shared.broker import Broker
from shared.broker.rabbitmq import RabbitBroker
from shared.documents import Documents
from shared.documents.mongodb import MongoDocuments
from shared.redis_client import check as check_redis
from shared.redis_client import connect
from shared.settings import Settings

ROUTERS = (
    uploads.router,
    files.router,
    live.router,
    downloads.router,
    validate.router,
    credits_.router,
    api_keys.router,
    accounts.router,
    audit.router,
    billing.router,
    webhooks.router,
    retention.router,
)

_BODY_LIMITS = {"/api/v1/files": None, "/api/v1/validate-batch": validate.MOST_LIST}  # all others: MOST_BODY

_PROBLEMS = {
    400: "The request cannot be understood.",
    401: "No credential, or one that is not right.",
    402: "Not enough credits.",
    403: "The credential may not do this.",
    404: "There is no such thing, or it belongs to somebody else.",
    408: "The body came too slowly.",
    409: "Not possible in the present state.",
    410: "It was erased.",
    413: "The body is too large.",
    415: "The body's type is not taken here.",
    422: "The request is understood and wrong.",
    429: "Too many requests.",
    503: "A server behind this one does not answer.",
    507: "The disk is full.",
}


def _problem_responses() -> dict[int | str, dict[str, Any]]:
    content = {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}
    return {status: {"description": text, "content": content} for status, text in _PROBLEMS.items()}


_PROBLEM_SCHEMA = {
    "title": "Problem",
    "description": "RFC 9457. `code` is stable and for programs, `detail` for people; some problems have more members.",
    "type": "object",
    "required": ["type", "title", "status", "detail", "code", "requestId"],
    "properties": {
        "type": {"type": "string"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string"},
        "code": {"type": "string"},
        "requestId": {"type": ["string", "null"]},
    },
}


class Gateway(FastAPI):
    """The application with the schema of its problems."""

    def openapi(self) -> dict[str, Any]:
        if self.openapi_schema is None:
            schema = super().openapi()
            schema.setdefault("components", {}).setdefault("schemas", {})["Problem"] = _PROBLEM_SCHEMA
        return super().openapi()


def create_app(settings: Settings, *, documents: Documents | None = None, broker: Broker | None = None) -> FastAPI:
    """The gateway as an ASGI application. `documents` and `broker` are given where they are open already (standalone).

    Its lifespan raises SettingsError or ServerUnreachable when it cannot start.
    """

    @contextlib.asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with _opened(settings, documents, broker) as parts:
            app.state.parts = parts
            yield

    app = Gateway(
        title="Mailvet",
        version=version("mailvet"),
        summary="Tells, before anything is sent, which e-mail addresses will bounce.",
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,  # it would send callers, and their keys, to http:// and to whatever Host they named
    )
    install_problem_handlers(app)
    app.add_middleware(BodyLimit, others=_BODY_LIMITS)
    app.add_middleware(HeadAsGet)
    app.add_middleware(RateLimitHeaders)
    app.add_middleware(EveryAnswer)
    app.include_router(health.router)
    app.include_router(dashboard.router)
    for router in ROUTERS:
        app.include_router(router, responses=_problem_responses())
    return app


@contextlib.asynccontextmanager
async def _opened(settings: Settings, documents: Documents | None, broker: Broker | None) -> AsyncIterator[Parts]:
    """Opened in this order, closed in reverse, because each needs those before it:

    Redis -> documents -> broker -> callers -> the first organisation and what a crash left of uploads and credits ->
    live news (streams must hear what the machine announces) -> the machine, last: it begins to work on files.
    """
    settings.need("redis_url", "internal_token")
    packs = load_packs(settings.packs_file)
    async with contextlib.AsyncExitStack() as opened:
        redis = connect(str(settings.redis_url))
        opened.push_async_callback(redis.aclose)
        await check_redis(redis)
        if documents is None:
            settings.need("mongo_url")
            documents = await opened.enter_async_context(MongoDocuments(str(settings.mongo_url), ALL))
        if broker is None:
            settings.need("amqp_url")
            broker = await opened.enter_async_context(RabbitBroker(str(settings.amqp_url)))
        broker = SandboxedBroker(broker)
        ledger = Ledger(documents, time.time)
        machine = Machine(settings=settings, documents=documents, broker=broker, redis=redis, ledger=ledger)
        parts = Parts(
            settings=settings,
            documents=documents,
            broker=broker,
            redis=redis,
            ledger=ledger,
            callers=await opened.enter_async_context(Callers(settings, documents, redis)),
            machine=machine,
            live=LiveHub(redis, documents),
            validators=await opened.enter_async_context(_validators(settings)),
            desk=await opened.enter_async_context(opened_desk(settings, packs, documents, ledger, time.time)),
        )
        await bootstrap(parts)
        await opened.enter_async_context(purging(documents))
        await sweep_leftovers(parts)
        await opened.enter_async_context(parts.live)
        await opened.enter_async_context(machine)
        await opened.enter_async_context(looping("retention", RetentionSweep(parts).run))
        yield parts


def _validators(settings: Settings) -> httpx.AsyncClient:
    """For the internal calls. Proxies of the environment are for the world outside."""
    return httpx.AsyncClient(headers={"Authorization": f"Bearer {settings.internal_token}"}, trust_env=False)
