"""`RateLimit-*` on every answer to a counted request, whoever made the answer: a route, a stream or an error."""

from __future__ import annotations

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gateway.rate_limits.limiter import Standing


class RateLimitHeaders:
    """ASGI middleware: `app.add_middleware(RateLimitHeaders)`. Reads `request.state.rate_limit`, set by Callers."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        state = scope.setdefault("state", {})

        async def send_with_headers(message: Message) -> None:
            standing = state.get("rate_limit")
            if message["type"] == "http.response.start" and isinstance(standing, Standing):
                MutableHeaders(scope=message).update(standing.headers())
            await send(message)

        await self._app(scope, receive, send_with_headers)
