"""The signing keys of the sign-in provider (JWKS, RFC 7517), fetched without blocking and kept through its outages.

- One fetch at a time, over within `timeout` seconds however slowly the provider speaks; all who wait share it.
- Keys older than FRESH are fetched again. Where that fails or takes longer than PATIENCE the old ones serve on, up to
  STALE after they were fetched; from then on callers get 503, not 401: nobody can say whether their token is right.
- A token naming an unknown key may mean that the provider has changed keys, so it causes a fetch, but at most one in
  AGAIN seconds: inventing key ids causes no load on the provider.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable

import httpx
from jwt import PyJWK
from jwt.exceptions import PyJWTError

from gateway.problem import Problem
from shared.logs import get_log

log = get_log("gateway.accounts.jwks")

FRESH = 3_600.0
STALE = 86_400.0
AGAIN = 30.0
PATIENCE = 1.0  # seconds that a token with a key we have waits for newer ones
_TIMEOUT = 5.0


class Jwks:
    """`await keys.find(kid)`. `ticks`: seconds that never go back. `client` is the caller's to close."""

    def __init__(
        self,
        url: str,
        client: httpx.AsyncClient,
        *,
        ticks: Callable[[], float] = time.monotonic,
        timeout: float = _TIMEOUT,
    ) -> None:
        self._url = url
        self._client = client
        self._ticks = ticks
        self._timeout = timeout
        self._keys: dict[str, PyJWK] = {}
        self._fetched_at = -math.inf
        self._tried_at = -math.inf
        self._fetch: asyncio.Task[None] | None = None

    async def find(self, kid: str) -> PyJWK | None:
        """The RSA key of that id, None where the provider has none. Raises Problem 503 where that cannot be known."""
        now, have = self._ticks(), kid in self._keys
        if not have or now >= self._fetched_at + FRESH:
            serves_on = have and now < self._fetched_at + STALE
            await self._refresh(now, PATIENCE if serves_on else None)
        if self._ticks() >= self._fetched_at + STALE:
            raise Problem(
                503, "sign_in_unavailable", "The sign-in provider's keys cannot be had now.", retry_after=AGAIN
            )
        return self._keys.get(kid)

    async def close(self) -> None:
        if self._fetch is not None:
            self._fetch.cancel()
            await asyncio.wait([self._fetch])

    async def _refresh(self, now: float, patience: float | None) -> None:
        """Wait for the fetch that is under way or due, `patience` seconds at most; None: until it has ended."""
        if self._fetch is None and now >= self._tried_at + AGAIN:
            self._tried_at = now
            self._fetch = asyncio.create_task(self._get(), name="jwks-fetch")
            self._fetch.add_done_callback(self._ended)
        if self._fetch is not None:
            await asyncio.wait([self._fetch], timeout=patience)

    def _ended(self, fetch: asyncio.Task[None]) -> None:
        self._fetch = None
        if not fetch.cancelled():
            fetch.exception()  # those who waited have it

    async def _get(self) -> None:
        began = self._ticks()
        try:
            async with asyncio.timeout(self._timeout):  # the client's own starts anew with every byte
                response = await self._client.get(self._url, timeout=self._timeout)
            response.raise_for_status()
            keys = _rsa_keys(response.json())
        except (TimeoutError, httpx.HTTPError, ValueError, PyJWTError) as error:
            log.warning("jwks_not_fetched", error=type(error).__name__)
            return
        self._keys, self._fetched_at = keys, began


def _rsa_keys(document: object) -> dict[str, PyJWK]:
    """By key id. Raises ValueError for what is no key set; keys of other kinds are passed over."""
    listed = document.get("keys") if isinstance(document, dict) else None
    if not isinstance(listed, list):
        raise ValueError("no key set")  # noqa: TRY004 - one error for any wrong document
    rsa = [
        key for key in listed if isinstance(key, dict) and key.get("kty") == "RSA" and key.get("use", "sig") == "sig"
    ]
    return {str(key["kid"]): PyJWK(key, algorithm="RS256") for key in rsa if "kid" in key}
