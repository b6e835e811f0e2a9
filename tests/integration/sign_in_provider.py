"""A sign-in provider: a key set served over HTTP, and the tokens it signs."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any, Self

import jwt
from cryptography.hazmat.primitives.asymmetric import rsa
from jwt.algorithms import RSAAlgorithm
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from shared.http_server import bind, port_of, serving

ISSUER = "https://sign-in.example"
PARTY = "https://app.example"


def new_key() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(public_exponent=65_537, key_size=2_048)


class SignInProvider:
    """`async with SignInProvider() as provider:`; `fetches` counts requests for the keys, `up` False answers 500.

    While `speaks` is not set it sends a byte now and then and comes to no end.
    """

    def __init__(self) -> None:
        self.keys = {"kid-1": new_key()}
        self._unpublished = new_key()
        self.fetches = 0
        self.up = True
        self.speaks = asyncio.Event()
        self.speaks.set()
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        bound = bind("127.0.0.1", 0, "PORT")
        self.url = f"http://127.0.0.1:{port_of(bound)}/jwks.json"
        await self._stack.enter_async_context(serving(Starlette(routes=[Route("/jwks.json", self._serve)]), bound))
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    async def _serve(self, _: Request) -> Response:
        self.fetches += 1
        if not self.up:
            return Response(status_code=500)
        if not self.speaks.is_set():
            return StreamingResponse(self._trickle())
        listed = [
            {**json.loads(RSAAlgorithm.to_jwk(key.public_key())), "kid": kid, "use": "sig", "alg": "RS256"}
            for kid, key in self.keys.items()
        ]
        return JSONResponse({"keys": [*listed, {"kty": "EC", "kid": "other", "crv": "P-256"}, "noise"]})

    async def _trickle(self) -> AsyncIterator[bytes]:
        while not self.speaks.is_set():
            yield b" "
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self.speaks.wait(), 0.05)

    def settings(self) -> dict[str, Any]:
        return {
            "auth_mode": "clerk",
            "clerk_jwks_url": self.url,
            "clerk_issuer": ISSUER,
            "clerk_authorized_parties": (PARTY,),
        }

    def token(
        self,
        *,
        kid: str = "kid-1",
        key: Any = None,
        algorithm: str = "RS256",
        headers: dict[str, Any] | None = None,
        **claims: Any,
    ) -> str:
        """A right token; `claims` set to None are left out."""
        now = int(time.time())
        whole = {
            "iss": ISSUER,
            "azp": PARTY,
            "sub": "user_ann",
            "sid": "sess_1",
            "iat": now,
            "nbf": now,
            "exp": now + 60,
            "v": 2,
            "o": {"id": "org_acme", "rol": "admin", "slg": "acme"},
            **claims,
        }
        wanted = {name: value for name, value in whole.items() if value is not None}
        return jwt.encode(
            wanted, key or self.keys.get(kid, self._unpublished), algorithm, {"kid": kid, **(headers or {})}
        )
