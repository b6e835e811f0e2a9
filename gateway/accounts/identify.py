"""From a request to its Caller: credential, look-up, limits.

Order: the credential is read and judged first, then the request is counted, against its key or member and its client
address; what could not be identified counts against the address alone. The news that a key or member changed comes by
Redis (KEYS_CHANGED); without Redis it is noticed when the look-up is no longer trusted (gateway/accounts/lookups.py).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING, Self

from fastapi import Request
from redis.exceptions import RedisError

from gateway.accounts.caller import DEFAULT_ORG, EVERYTHING, Caller
from gateway.accounts.credentials import read_credential, unauthorised
from gateway.accounts.lookups import Lookups
from gateway.api_keys.keys import KnownKey, LastUsed, find_key, hash_key
from gateway.problem import Problem
from gateway.rate_limits.limiter import RateLimiter, refuse
from shared.documents import Documents
from shared.logs import get_log
from shared.redis_keys import KEYS_CHANGED
from shared.settings import Settings

if TYPE_CHECKING:
    from redis.asyncio import Redis

log = get_log("gateway.accounts")

_RECONNECT = 1.0  # seconds between tries to subscribe
_HEARD = 30.0  # seconds one wait for news lasts
DEV = Caller(DEFAULT_ORG, "dev", frozenset({EVERYTHING}))


class Callers:
    """`async with Callers(settings, documents, redis) as callers: await callers.identify(request)`.

    Raises SettingsError on entering when the sign-in mode lacks a setting.
    """

    def __init__(
        self,
        settings: Settings,
        documents: Documents,
        redis: Redis,
        *,
        clock: Callable[[], float] = time.time,
        ticks: Callable[[], float] = time.monotonic,
    ) -> None:
        self._settings = settings
        self._documents = documents
        self._redis = redis
        self._clock = clock
        self._keys: Lookups[KnownKey] = Lookups(lambda key_hash: find_key(documents, key_hash), ticks)
        self._last_used = LastUsed(documents, clock)
        self._limits = RateLimiter(redis, settings.requests_per_minute, clock=clock, ticks=ticks)
        self._listener: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._listener = asyncio.create_task(self._listen(), name="accounts-changes")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._listener is not None:
            self._listener.cancel()
            await asyncio.wait([self._listener])
        await self._keys.close()

    async def identify(self, request: Request) -> Caller:
        """See gateway.accounts.caller.identify."""
        address = request.client.host if request.client else None
        try:
            caller = await self._judge(request, address)
        except Problem as problem:
            if problem.status == 401:
                await self._count(request, None, address)
            raise
        await self._count(request, caller.actor, address)
        return caller

    async def changed(self) -> None:
        """A key or member changed: forget here at once, and tell the other processes."""
        self._keys.clear()
        try:
            await self._redis.publish(KEYS_CHANGED, b"")
        except RedisError:
            log.warning("keys_changed_not_told")  # the others notice within the trusted seconds

    async def _count(self, request: Request, actor: str | None, address: str | None) -> None:
        standing = await self._limits.count(actor, address)
        request.state.rate_limit = standing
        if standing is not None and not standing.allowed:
            raise refuse(standing)

    async def _judge(self, request: Request, address: str | None) -> Caller:
        credential = read_credential(request)
        if credential is None:
            if self._settings.auth_mode == "dev":
                return DEV
            raise unauthorised()
        return await self._by_key(credential, address)

    async def _by_key(self, credential: str, address: str | None) -> Caller:
        known = await self._keys.get(hash_key(credential))
        if known is None or (known.expires_at is not None and self._clock() >= known.expires_at):
            raise unauthorised()
        if not known.admits(address):
            raise Problem(403, "address_not_allowed", "This key may not be used from your network address.")
        await self._last_used.note(known)
        return known.caller

    async def _listen(self) -> None:
        """Forget on every message, and after every gap in the subscription."""
        while True:
            try:
                async with self._redis.pubsub() as changes:
                    await changes.subscribe(KEYS_CHANGED)
                    while True:
                        if await changes.get_message(timeout=_HEARD) is not None:
                            self._keys.clear()
            except (RedisError, OSError):
                log.warning("keys_changed_unheard")
                await asyncio.sleep(_RECONNECT)
