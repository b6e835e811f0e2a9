"""GET /healthz, /readyz and /metrics of `mailvet webhooks`: for whoever runs it; nothing about anybody."""

from __future__ import annotations

import asyncio

from fastapi import FastAPI, Response
from fastapi.responses import JSONResponse
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from gateway.problem import RETRY_AFTER_UNREACHABLE
from shared.documents import Documents
from shared.errors import DocumentsUnavailable

CHECK_SECONDS = 2.0


def create_health(documents: Documents) -> FastAPI:
    app = FastAPI(title="Mailvet webhooks", openapi_url=None, docs_url=None, redoc_url=None)

    @app.head("/healthz")
    @app.get("/healthz")
    async def healthz() -> dict[str, str]:
        """The process answers."""
        return {"status": "ok"}

    @app.head("/readyz")
    @app.get("/readyz")
    async def readyz() -> JSONResponse:
        """503 while the documents do not answer: then nothing is delivered."""
        try:
            async with asyncio.timeout(CHECK_SECONDS):
                await documents.check()
        except (DocumentsUnavailable, TimeoutError):
            body = {"status": "unready", "checks": {"documents": "unreachable"}}
            return JSONResponse(body, 503, {"Retry-After": str(RETRY_AFTER_UNREACHABLE)})
        return JSONResponse({"status": "ready", "checks": {"documents": "ok"}})

    @app.head("/metrics")
    @app.get("/metrics")
    async def metrics() -> Response:
        """Prometheus."""
        return Response(generate_latest(), media_type=CONTENT_TYPE_LATEST)

    return app
