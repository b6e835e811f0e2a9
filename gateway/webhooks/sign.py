"""Standard Webhooks signatures: what an endpoint's owner verifies with any library of that standard.

`webhook-signature` holds `v1,{base64 HMAC-SHA256 of "{id}.{timestamp}.{exact body}"}`, one for each valid secret,
separated by a space. A secret is `whsec_` and the base64 of 32 random bytes.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets
from collections.abc import Iterable

PREFIX = "whsec_"
OLD_SECRET_LASTS = 24 * 3600.0  # seconds both secrets sign after a rotation


def new_secret() -> str:
    return PREFIX + base64.b64encode(secrets.token_bytes(32)).decode()


def signed_headers(event_id: str, body: bytes, valid_secrets: Iterable[str], now: float) -> dict[str, str]:
    """The headers of one try at `now`. The id stays the same over all tries."""
    timestamp = str(int(now))
    signed = b".".join((event_id.encode(), timestamp.encode(), body))
    signatures = [f"v1,{_signature(secret, signed)}" for secret in valid_secrets]
    return {"webhook-id": event_id, "webhook-timestamp": timestamp, "webhook-signature": " ".join(signatures)}


def _signature(secret: str, signed: bytes) -> str:
    key = base64.b64decode(secret.removeprefix(PREFIX))
    return base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()
