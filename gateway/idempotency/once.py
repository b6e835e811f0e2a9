"""What every POST of the API takes, in one place: the `Idempotency-Key`, and the one effect it stands for.

    async def create(new: New, once: OnceDep) -> Response:
        async def produce(id_: str) -> Response: ...
        return await once(produce, new)

Two requests are the same when organisation, mode, method, path, query and `content` are. A test goes over every POST of
the OpenAPI document (tests/integration/test_idempotent_posts.py), so a route without it fails there.
"""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, Request, Response
from pydantic import BaseModel

from gateway.accounts.caller import Caller, CallerDep
from gateway.idempotency.run_once import IdempotencyKey, Produce, hash_content, run_once
from gateway.parts import Parts, PartsDep


class Once:
    def __init__(self, request: Request, caller: Caller, parts: Parts, key: str | None) -> None:
        self._request = request
        self._caller = caller
        self._parts = parts
        self._key = key

    async def __call__(self, produce: Produce, *content: BaseModel | bytes) -> Response:
        """`content`: what of the body makes a request another one. Raises as `run_once`."""
        request = self._request
        parts = (part if isinstance(part, bytes) else part.model_dump_json().encode() for part in content)
        request_hash = hash_content(f"{request.method} {request.url.path}", request.url.query.encode(), *parts)
        return await run_once(self._parts, self._caller, self._key, request_hash, produce)


async def _once(request: Request, caller: CallerDep, parts: PartsDep, key: IdempotencyKey) -> Once:
    return Once(request, caller, parts, key)


OnceDep = Annotated[Once, Depends(_once)]
