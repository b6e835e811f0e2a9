"""The bearer token between our own services (INTERNAL_TOKEN)."""

from __future__ import annotations

import hmac


def token_matches(authorization: str | None, token: str | None) -> bool:
    """Whether an Authorization header carries `token`, compared in constant time. Without a token nobody is let in."""
    if not token or authorization is None:
        return False
    scheme, _, presented = authorization.partition(" ")
    same = hmac.compare_digest(presented.strip().encode("utf-8", "surrogateescape"), token.encode())
    return same and scheme.lower() == "bearer"
