"""Errors for the caller, RFC 9457 `application/problem+json`, and the one place that renders them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.routing import Match

from shared.errors import MailvetError, ServerUnreachable
from shared.logs import get_log

log = get_log("gateway.problem")

RETRY_AFTER_UNREACHABLE = 5  # seconds
_METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE")


class Problem(MailvetError):
    """An answer other than the one hoped for. `code` is stable and for programs, `detail` for people.

    `extra` members land in the problem document: `field`, `line`, `required`, `available`, ...
    """

    temporary = False

    def __init__(
        self,
        status: int,
        code: str,
        detail: str,
        *,
        retry_after: float | None = None,
        headers: Mapping[str, str] | None = None,
        **extra: Any,
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.code = code
        self.detail = detail
        self.headers = dict(headers or {})
        if retry_after is not None:
            self.headers["Retry-After"] = str(max(1, math.ceil(retry_after)))
        self.extra = extra


def not_found(what: str) -> Problem:
    """The same answer for what does not exist and for what belongs to somebody else."""
    return Problem(404, "not_found", f"There is no such {what}.")


def render(problem: Problem, request: Request) -> JSONResponse:
    request_id = getattr(request.state, "request_id", None)
    # Also here, because the answer to a bug is made outside of all middleware.
    headers = problem.headers if request_id is None else {**problem.headers, "X-Request-Id": request_id}
    body = {
        "type": f"urn:mailvet:problem:{problem.code}",
        "title": problem.code.replace("_", " "),
        "status": problem.status,
        "detail": problem.detail,
        "code": problem.code,
        "requestId": request_id,
        **problem.extra,
    }
    return JSONResponse(body, problem.status, headers, media_type="application/problem+json")


def _allowed(request: Request) -> str:
    """Every method of the path (RFC 9110 section 10.2.1); the framework names those of the first route only."""

    def fits(method: str) -> bool:
        asked = {**request.scope, "method": method}
        return any(route.matches(asked)[0] is Match.FULL for route in request.app.routes)

    return ", ".join(method for method in _METHODS if fits("GET" if method == "HEAD" else method))


def install_problem_handlers(app: FastAPI) -> None:
    """Render Problems, malformed requests, framework errors and unreachable servers alike."""

    async def on_problem(request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, Problem)  # noqa: S101 - registered for this class only
        return render(error, request)

    async def on_invalid(request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, RequestValidationError)  # noqa: S101 - registered for this class only
        errors = [{"field": ".".join(str(part) for part in e["loc"]), "why": e["msg"]} for e in error.errors()]
        first = errors[0] if errors else {"field": "body", "why": "malformed"}
        problem = Problem(
            422, "invalid_request", f"{first['field']}: {first['why']}", field=first["field"], errors=errors[:20]
        )
        return render(problem, request)

    async def on_http(request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, HTTPException)  # noqa: S101 - registered for this class only
        code = {404: "not_found", 405: "method_not_allowed", 413: "too_large"}.get(error.status_code, "bad_request")
        headers = dict(error.headers or {}) | ({"Allow": _allowed(request)} if error.status_code == 405 else {})
        return render(Problem(error.status_code, code, str(error.detail), headers=headers), request)

    async def on_unreachable(request: Request, error: Exception) -> JSONResponse:
        log.warning("server_unreachable", error=type(error).__name__)
        problem = Problem(
            503,
            "unavailable",
            "A server behind this one does not answer; try again.",
            retry_after=RETRY_AFTER_UNREACHABLE,
        )
        return render(problem, request)

    async def on_bug(request: Request, error: Exception) -> JSONResponse:
        log.error("unhandled", error=type(error).__name__, exc_info=error)
        return render(Problem(500, "internal", "Something went wrong on our side."), request)

    app.add_exception_handler(Problem, on_problem)
    app.add_exception_handler(RequestValidationError, on_invalid)
    app.add_exception_handler(HTTPException, on_http)
    app.add_exception_handler(ServerUnreachable, on_unreachable)
    app.add_exception_handler(Exception, on_bug)
