"""GET /healthz, /readyz and /metrics: for whoever runs the gateway; no sign-in, nothing about anybody."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import httpx
import msgspec
from fastapi import APIRouter, Response
from fastapi.responses import JSONResponse
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from gateway.parts import Parts, PartsDep
from gateway.problem import RETRY_AFTER_UNREACHABLE
from shared.errors import ServerUnreachable, ValidatorUnavailable
from shared.redis_client import check as check_redis

router = APIRouter(tags=["health"])

CHECK_SECONDS = 2.0
_WORST_FIRST = {"blocked": 0, "ok": 1, "not_checked": 2}
NEEDED = ("documents", "broker")  # without Redis or validators lists are still taken in and answered about


@router.get("/healthz")
async def healthz() -> dict[str, str]:
    """The process answers."""
    return {"status": "ok"}


@router.get("/readyz", responses={503: {"description": "a server that is needed does not answer"}})
async def readyz(parts: PartsDep) -> JSONResponse:
    """`ready`; `degraded` without Redis or validators; `unready` (503) without the documents or the broker.

    `preflight` is what a validator says about port 25, `{"state", "sentence", "checkedAt"}`; null where none answers.
    """
    checks: dict[str, Callable[[], Awaitable[None]]] = {
        "documents": parts.documents.check,
        "broker": parts.broker.check,
        "redis": lambda: check_redis(parts.redis),
        "validators": lambda: _check_validators(parts),
    }
    *states, preflight = await asyncio.gather(*map(_state, checks.values()), _preflight(parts))
    found = dict(zip(checks, states, strict=True))
    if any(found[name] != "ok" for name in NEEDED):
        status = "unready"
    else:
        status = "ready" if all(state == "ok" for state in states) else "degraded"
    body: dict[str, Any] = {"status": status, "checks": found, "preflight": preflight}
    if status == "unready":
        return JSONResponse(body, 503, {"Retry-After": str(RETRY_AFTER_UNREACHABLE)})
    return JSONResponse(body)


async def _state(check: Callable[[], Awaitable[None]]) -> str:
    try:
        async with asyncio.timeout(CHECK_SECONDS):
            await check()
    except (ServerUnreachable, TimeoutError):
        return "unreachable"
    return "ok"


async def _check_validators(parts: Parts) -> None:
    """At least one answers."""
    for url in parts.settings.validator_urls:
        try:
            response = await parts.validators.get(url.rstrip("/") + "/healthz", timeout=CHECK_SECONDS / 2)
        except httpx.TransportError:
            continue
        if response.is_success:
            return
    raise ValidatorUnavailable("no validator answers")


async def _preflight(parts: Parts) -> dict[str, Any] | None:
    """The worst that any validator says of its way out: one that is shut in makes unknowns of what others could ask."""
    asked = await asyncio.gather(*(_preflight_of(parts, url) for url in parts.settings.validator_urls))
    told = [finding for finding in asked if finding is not None]
    return min(told, key=lambda finding: _WORST_FIRST.get(finding["state"], len(_WORST_FIRST)), default=None)


async def _preflight_of(parts: Parts, url: str) -> dict[str, Any] | None:
    try:
        response = await parts.validators.get(url.rstrip("/") + "/readyz", timeout=CHECK_SECONDS / 2)
        finding: Any = msgspec.json.decode(response.content)["preflight"]
    except (httpx.TransportError, msgspec.DecodeError, KeyError, TypeError):  # away, or no validator of ours
        return None
    return finding if isinstance(finding, dict) and isinstance(finding.get("state"), str) else None


@router.get("/metrics", response_class=Response)
async def metrics() -> Response:
    """Prometheus."""
    return Response(generate_latest(), media_type=CONTENT_TYPE_LATEST)
