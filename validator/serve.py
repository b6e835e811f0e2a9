"""A validator from settings: its parts opened in order, its loops watched, its internal API served.

Opened in this order, closed in reverse: Redis (politeness, cache) -> name servers -> limits and breakers -> probe ->
loops -> internal API. Closing ends the API first, then the worker drains (validator.worker), then the sessions say
QUIT, then the rest. A loop that dies takes the validator down loudly: half alive, it would hold batches for ever.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

from shared.broker import Broker
from shared.broker.rabbitmq import RabbitBroker
from shared.http_server import bind, serving
from shared.redis_client import check as check_redis
from shared.redis_client import connect, connect_politeness
from shared.settings import Settings
from validator.dns.resolver import Resolver
from validator.egress.breaker import Breakers
from validator.egress.catch_all import CatchAllMemory
from validator.egress.identity import Identity, check_sources
from validator.egress.limits import Limits
from validator.internal_api import InternalParts, create_internal_api
from validator.preflight import Preflight
from validator.probe import Probe
from validator.progress import ProgressReporter
from validator.providers import load_providers
from validator.verdict_cache import VerdictCache
from validator.worker import DRAIN_SECONDS, Worker

QUIT_SECONDS = 5.0  # for the sessions that linger when the worker has drained


@dataclass(frozen=True)
class RunningValidator:
    preflight: Preflight
    died: asyncio.Future[Any]  # carries the error of a loop that ended unasked

    async def until(self, stop: asyncio.Event) -> None:
        """Return when `stop` is set; raise when a loop died before."""
        stopping: asyncio.Future[Any] = asyncio.ensure_future(stop.wait())
        try:
            await asyncio.wait({stopping, self.died}, return_when=asyncio.FIRST_COMPLETED)
            if self.died.done():
                await self.died
        finally:
            stopping.cancel()


@contextlib.asynccontextmanager
async def running_validator(
    settings: Settings, broker: Broker, bound: socket.socket
) -> AsyncIterator[RunningValidator]:
    """`settings` must have `redis_url` and `internal_token`; `bound` is the internal API's listening socket."""
    settings.need("redis_url", "internal_token")
    check_sources(settings.probe_source_addresses)
    redis_url, token = str(settings.redis_url), str(settings.internal_token)
    async with contextlib.AsyncExitStack() as opened:
        redis = connect(redis_url)
        opened.push_async_callback(redis.aclose)
        await check_redis(redis)
        fleet = connect_politeness(redis_url)
        opened.push_async_callback(fleet.aclose)
        resolver = await opened.enter_async_context(Resolver(settings))
        limits = await opened.enter_async_context(Limits(settings, fleet))
        breakers = await opened.enter_async_context(Breakers(redis_url))
        probe = Probe(
            settings=settings,
            routes=resolver,
            identity=Identity(settings),
            limits=limits,
            breakers=breakers,
            catch_all=CatchAllMemory(fleet),
            providers=load_providers(settings.providers_file),
        )
        opened.push_async_callback(probe.drain, QUIT_SECONDS)
        cache = VerdictCache(redis, ttl=settings.result_cache_ttl, secret=token)
        progress = ProgressReporter(redis)
        worker = Worker(
            broker=broker,
            probe=probe,
            cache=cache,
            progress=progress,
            prefetch=settings.validator_prefetch,
            batch_deadline=settings.batch_deadline,
        )
        preflight = Preflight(settings)

        async def explain_host(host: str) -> dict[str, Any]:
            return {"mailHost": host, "breaker": await breakers.explain(host), "limits": await limits.explain(host)}

        parts = InternalParts(
            probe=probe,
            cache=cache,
            token=token,
            breakers=breakers.snapshot,
            explain_host=explain_host,
            preflight=preflight,
            checks={"broker": broker.check, "redis": lambda: check_redis(redis)},
        )
        died = await opened.enter_async_context(_loops(worker, progress, preflight))
        await opened.enter_async_context(serving(create_internal_api(parts), bound))
        yield RunningValidator(preflight, died)


@contextlib.asynccontextmanager
async def _loops(
    worker: Worker, progress: ProgressReporter, preflight: Preflight
) -> AsyncIterator[asyncio.Future[Any]]:
    died: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
    working = asyncio.create_task(worker.run(), name="worker")
    others = [
        asyncio.create_task(progress.run(), name="progress"),
        asyncio.create_task(preflight.run(), name="preflight"),
    ]

    def ended(task: asyncio.Task[None]) -> None:
        if not task.cancelled() and task.exception() is not None and not died.done():
            died.set_exception(task.exception() or RuntimeError(task.get_name()))

    for task in (working, *others):
        task.add_done_callback(ended)
    try:
        yield died
    finally:
        worker.stop()
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.wait([working], timeout=DRAIN_SECONDS + 5)
        for task in (working, *others):
            task.cancel()
        await asyncio.gather(working, *others, return_exceptions=True)
        if died.done() and not died.cancelled():
            died.exception()  # looked at: whoever waits for `died` raises it
        else:
            died.cancel()


async def serve_validator(settings: Settings, stop: asyncio.Event) -> None:
    """`mailvet validator`: until a signal, or until one of its loops dies."""
    settings.need("amqp_url", "redis_url", "internal_token")
    bound = bind(settings.validator_host, settings.validator_port, "MAILVET_VALIDATOR_PORT")
    async with RabbitBroker(str(settings.amqp_url)) as broker, running_validator(settings, broker, bound) as validator:
        await validator.until(stop)
