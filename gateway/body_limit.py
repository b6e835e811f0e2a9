"""How large a body may be. The framework reads JSON whole before the credential is judged, so anybody could fill the
memory; its own limit answers a declared length in plain text, and this one with a problem as everything does.
"""

from __future__ import annotations

from collections.abc import Mapping

from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

MOST_BODY = 1_000_000  # bytes


class BodyLimit:
    """ASGI middleware. `others`: the limit of paths that have another one than MOST_BODY; None: they see to it."""

    def __init__(self, app: ASGIApp, others: Mapping[str, int | None]) -> None:
        self._app = app
        self._others = others

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        most = self._others.get(scope["path"], MOST_BODY) if scope["type"] == "http" else None
        if most is None:
            await self._app(scope, receive, send)
            return
        declared = Headers(scope=scope).get("content-length", "")
        taken = 0

        async def receive_at_most() -> Message:
            nonlocal taken
            if declared.isascii() and declared.isdecimal() and int(declared[:20]) > most:
                raise _too_large(most)
            message = await receive()
            taken += len(message.get("body", b""))
            if taken > most:
                raise _too_large(most)
            return message

        await self._app(scope, receive_at_most, send)


def _too_large(most: int) -> HTTPException:
    """The framework lets this one through; any other it would take for a bug."""
    return HTTPException(413, f"A body has at most {most:,} bytes here.")
