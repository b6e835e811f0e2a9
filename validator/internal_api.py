"""The validator's internal HTTP: one address at a time for the gateway, and the operator's view of its politeness.

Every path below /internal needs the installation's INTERNAL_TOKEN; health and metrics do not. Never meant for the
public network.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Annotated, Any

import msgspec
from fastapi import Depends, FastAPI, HTTPException, Request, Response
from fastapi.responses import JSONResponse
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from pydantic import BaseModel, ConfigDict, Field

from shared.errors import ServerUnreachable
from shared.internal_token import token_matches
from shared.messages import PutOff
from shared.verdict import Verdict
from validator.preflight import Preflight
from validator.verdict_cache import VerdictCache
from validator.worker import BatchProber

SINGLE_ORG = "single"  # single verdicts share nothing with the cache of any organisation unless one is named
RETRY_AFTER = "5"  # seconds, for whoever asks too early


class ValidateRequest(BaseModel):
    model_config = ConfigDict(extra="forbid")

    email: str = Field(max_length=1_000)
    timeout: float = Field(default=30, ge=0.1, le=60)
    org_id: str = Field(default=SINGLE_ORG, alias="orgId")
    trace: bool = False


@dataclass(frozen=True)
class InternalParts:
    """What the internal API shows of a validator."""

    probe: BatchProber
    cache: VerdictCache
    token: str
    breakers: Callable[[], Awaitable[list[dict[str, Any]]]]
    explain_host: Callable[[str], Awaitable[dict[str, Any]]]
    preflight: Preflight
    checks: dict[str, Callable[[], Awaitable[None]]]  # by dependency; each raises ServerUnreachable


async def _require_token(request: Request) -> None:
    parts: InternalParts = request.app.state.parts
    if not token_matches(request.headers.get("authorization"), parts.token):
        raise HTTPException(401, "The internal token is missing or wrong.", {"WWW-Authenticate": "Bearer"})


TokenChecked = Depends(_require_token)


async def _parts(request: Request) -> InternalParts:
    parts: InternalParts = request.app.state.parts
    return parts


InternalPartsDep = Annotated[InternalParts, Depends(_parts)]


async def _verify_one(parts: InternalParts, body: ValidateRequest) -> Verdict | PutOff:
    if not body.trace:
        cached = await parts.cache.recall(body.org_id, [body.email])
        if cached:
            return cached[0]
    verdicts, put_off = await parts.probe.check_batch(
        [body.email], look=0, last_look=False, trace=body.trace, deadline=body.timeout, urgent=True
    )
    if put_off:
        return put_off[0]
    verdict = verdicts[0]
    if verdict is None:
        raise AssertionError("neither a result nor put off")
    await parts.cache.remember(body.org_id, verdicts)
    return verdict


def create_internal_api(parts: InternalParts) -> FastAPI:
    app = FastAPI(title="Mailvet validator", docs_url=None, redoc_url=None, openapi_url=None)
    app.state.parts = parts

    @app.post("/internal/v1/validate", dependencies=[TokenChecked])
    async def validate(body: ValidateRequest, parts: InternalPartsDep) -> Response:
        """200: a Result. 202: `{"putOff": {...}}`, the address needs another look later."""
        outcome = await _verify_one(parts, body)
        if isinstance(outcome, PutOff):
            return Response(msgspec.json.encode({"putOff": outcome}), 202, media_type="application/json")
        return Response(msgspec.json.encode(outcome.result()), 200, media_type="application/json")

    @app.get("/internal/v1/breakers", dependencies=[TokenChecked])
    async def breakers(parts: InternalPartsDep) -> dict[str, Any]:
        """`{"breakers": [{"mailHost", "state", ...}]}`, those that are not closed first."""
        return {"breakers": await parts.breakers()}

    @app.get("/internal/v1/mail-hosts/{host}", dependencies=[TokenChecked])
    async def mail_host(host: str, parts: InternalPartsDep) -> dict[str, Any]:
        """Why a mail host is slow: its breaker, its limits, what holds them."""
        return await parts.explain_host(host.lower().rstrip("."))

    @app.get("/healthz")
    async def healthz() -> dict[str, str]:
        return {"status": "ok"}

    @app.get("/readyz")
    async def readyz(parts: InternalPartsDep) -> JSONResponse:
        """503 while a server that is needed does not answer. A blocked port 25 is said here and is not a 503."""
        checks: dict[str, str] = {}
        for name, check in parts.checks.items():
            try:
                await check()
                checks[name] = "ok"
            except ServerUnreachable:
                checks[name] = "unreachable"
        ready = all(state == "ok" for state in checks.values())
        body = {"status": "ready" if ready else "unready", "checks": checks, "preflight": parts.preflight.describe()}
        return JSONResponse(body) if ready else JSONResponse(body, 503, {"Retry-After": RETRY_AFTER})

    @app.get("/metrics")
    async def metrics() -> Response:
        return Response(generate_latest(), media_type=CONTENT_TYPE_LATEST)

    return app
