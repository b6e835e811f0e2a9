"""The signature of what Stripe sends: HMAC-SHA256 over `{timestamp}.{exact bytes}`, hex, in `Stripe-Signature`.

The header is `t=1700000000,v1=hex[,v1=hex][,v0=...]`; only v1 counts, and one that fits is enough (Stripe sends two
while a secret is being replaced). The library's own check accepts timestamps of any future, so this is ours.
"""

from __future__ import annotations

import hashlib
import hmac

TOLERANCE = 300.0  # seconds a timestamp may be off, either way
_LONGEST = 2_000  # characters of the header


class SignatureWrong(ValueError):
    """Why, without anything of what was signed."""


def verify(body: bytes, header: str | None, secret: str, now: float) -> None:
    """Raises SignatureWrong unless `body` was signed with `secret` within TOLERANCE of `now`."""
    timestamp, signatures = _read(header)
    signed = f"{timestamp}.".encode() + body
    expected = hmac.new(secret.encode(), signed, hashlib.sha256).hexdigest().encode()
    if not any(hmac.compare_digest(expected, given) for given in signatures):
        raise SignatureWrong("no signature fits")
    if abs(now - timestamp) > TOLERANCE:
        raise SignatureWrong("the timestamp is too far off")


def sign(body: bytes, secret: str, now: float) -> str:
    """The header as Stripe sends it."""
    timestamp = int(now)
    digest = hmac.new(secret.encode(), f"{timestamp}.".encode() + body, hashlib.sha256).hexdigest()
    return f"t={timestamp},v1={digest}"


def _read(header: str | None) -> tuple[int, list[bytes]]:
    pairs = [part.partition("=") for part in (header or "")[:_LONGEST].split(",")]
    times = [value for name, _, value in pairs if name.strip() == "t"]
    signatures = [value.strip().encode() for name, _, value in pairs if name.strip() == "v1"]
    if len(times) != 1 or not (times[0].isascii() and times[0].isdecimal() and len(times[0]) <= 12):
        raise SignatureWrong("the header has no timestamp")
    if not signatures:
        raise SignatureWrong("the header has no signature of version 1")
    return int(times[0]), signatures
