"""From a request to its Caller: credential, look-up, limits.

Order: the credential is read and judged first, then the request is counted, against its key or member and its client
address; what could not be identified counts against the address alone. The news that a key or member changed comes by
Redis (KEYS_CHANGED); without Redis it is noticed when the look-up is no longer trusted (gateway/accounts/lookups.py).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextlib import AsyncExitStack
from ipaddress import ip_network
from types import TracebackType
from typing import TYPE_CHECKING, Self

import httpx
from fastapi import Request
from redis.exceptions import RedisError

from gateway.accounts.caller import DEFAULT_ORG, EVERYTHING, Caller
from gateway.accounts.client_address import client_address
from gateway.accounts.credentials import read_credential, unauthorised
from gateway.accounts.jwks import Jwks
from gateway.accounts.lookups import Lookups
from gateway.accounts.members import sign_in
from gateway.accounts.own_machine import from_own_machine
from gateway.accounts.tokens import Session, looks_like_token, read_clerk_token, read_hs256_token
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
        self._ticks = ticks
        self._keys: Lookups[str, KnownKey] = Lookups(lambda key_hash: find_key(documents, key_hash), ticks)
        self._members: Lookups[Session, Caller] = Lookups(lambda session: sign_in(documents, session), ticks)
        self._last_used = LastUsed(documents, clock)
        self._limits = RateLimiter(redis, settings.requests_per_minute, clock=clock, ticks=ticks)
        self._proxies = tuple(ip_network(network, strict=False) for network in settings.trusted_proxies)
        self._jwks: Jwks | None = None
        self._opened = AsyncExitStack()

    async def __aenter__(self) -> Self:
        if self._settings.auth_mode == "clerk":
            self._settings.need("clerk_jwks_url", "clerk_issuer", "clerk_authorized_parties")
            client = await self._opened.enter_async_context(httpx.AsyncClient(trust_env=False))
            self._jwks = Jwks(self._settings.clerk_jwks_url or "", client, ticks=self._ticks)
            self._opened.push_async_callback(self._jwks.close)
        elif self._settings.auth_mode == "hs256":
            self._settings.need("hs256_secret")
        self._opened.push_async_callback(self._keys.close)
        self._opened.push_async_callback(self._members.close)
        listener = asyncio.create_task(self._listen(), name="accounts-changes")
        self._opened.push_async_callback(asyncio.wait, [listener])
        self._opened.callback(listener.cancel)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._opened.aclose()

    async def identify(self, request: Request) -> Caller:
        """See gateway.accounts.caller.identify."""
        address = client_address(request, self._proxies)
        try:
            caller = await self._judge(request, address)
        except Problem as problem:
            if problem.status == 401:
                await self._count(request, None, address)
            raise
        await self._count(request, caller.actor, address)
        request.state.test = caller.test
        return caller

    async def changed(self) -> None:
        """A key or member changed: forget here at once, and tell the other processes."""
        self._forget()
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
            if self._settings.auth_mode == "dev" and from_own_machine(request, address, self._settings.public_url):
                return DEV
            raise unauthorised()
        if self._settings.auth_mode in {"clerk", "hs256"} and looks_like_token(credential):
            return await self._by_token(credential)
        return await self._by_key(credential, address)

    async def _by_token(self, token: str) -> Caller:
        settings = self._settings
        if self._jwks is not None:
            issuer, parties = settings.clerk_issuer or "", settings.clerk_authorized_parties
            session = await read_clerk_token(token, self._jwks, issuer, parties)
        else:
            session = read_hs256_token(token, settings.hs256_secret or "")
        caller = await self._members.get(session)
        if caller is None:
            raise unauthorised()
        return caller

    async def _by_key(self, credential: str, address: str | None) -> Caller:
        known = await self._keys.get(hash_key(credential))
        if known is None or (known.expires_at is not None and self._clock() >= known.expires_at):
            raise unauthorised()
        if not known.admits(address):
            raise Problem(403, "address_not_allowed", "This key may not be used from your network address.")
        await self._last_used.note(known)
        return known.caller

    def _forget(self) -> None:
        self._keys.clear()
        self._members.clear()

    async def _listen(self) -> None:
        """Forget on every message, and after every gap in the subscription."""
        while True:
            try:
                async with self._redis.pubsub() as changes:
                    await changes.subscribe(KEYS_CHANGED)
                    while True:
                        if await changes.get_message(timeout=_HEARD) is not None:
                            self._forget()
            except (RedisError, OSError):
                log.warning("keys_changed_unheard")
                await asyncio.sleep(_RECONNECT)
