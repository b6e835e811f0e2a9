"""API keys: made, stored as a hash, looked up, revoked.

A key is `mv_live_` or `mv_test_`, 43 characters of 256 random bits in base 62, and 6 characters of checksum (CRC-32 of
what is before), by which a scanner of leaked secrets tells a real key from a look-alike without asking us. It is shown
once. Looking up does not check the sum: known, unknown and malformed keys take the same path and the same time.
"""

from __future__ import annotations

import hashlib
import secrets
import string
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network

from gateway.accounts.caller import EVERYTHING, Caller, Role
from gateway.collections import API_KEYS
from shared.documents import Change, Document, Documents, Lte
from shared.errors import DocumentsUnavailable
from shared.logs import get_log

log = get_log("gateway.api_keys")

LIVE, TEST = "mv_live_", "mv_test_"
USED_EVERY = 60.0  # seconds between two writes of lastUsedAt
_DIGITS = string.digits + string.ascii_uppercase + string.ascii_lowercase
_SHOWN = 12  # characters of a key that are kept to tell it from others


def _base62(number: int, width: int) -> str:
    digits = []
    for _ in range(width):
        number, digit = divmod(number, 62)
        digits.append(_DIGITS[digit])
    return "".join(reversed(digits))


def make_key(*, test: bool = False) -> str:
    body = (TEST if test else LIVE) + _base62(secrets.randbits(256), 43)
    return body + _base62(zlib.crc32(body.encode()), 6)


def hash_key(key: str) -> str:
    """SHA-256: the input is random, so nothing slower is needed, and one look-up by hash leaks no timing of the key."""
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).hexdigest()


@dataclass(frozen=True, slots=True)
class KnownKey:
    """What a look-up found: a key that is not revoked."""

    hash: str
    caller: Caller
    networks: tuple[IPv4Network | IPv6Network, ...]
    expires_at: float | None
    last_used_at: float

    def admits(self, address: str | None) -> bool:
        """Whether the key may be used from `address`; None is an unknown one."""
        if not self.networks:
            return True
        try:
            parsed = ip_address(address or "")
        except ValueError:  # a UNIX socket
            return False
        mapped = getattr(parsed, "ipv4_mapped", None)
        return any((mapped or parsed) in network for network in self.networks)


def key_document(
    key: str,
    org_id: str,
    name: str,
    scopes: Sequence[str],
    *,
    created_by: str,
    now: float,
    expires_at: float | None = None,
    networks: Sequence[str] = (),
    bootstrap: bool = False,
    key_id: str | None = None,
) -> Document:
    return {
        "_id": hash_key(key),
        "keyId": key_id or f"key_{secrets.token_hex(12)}",
        "orgId": org_id,
        "name": name,
        "prefix": "" if bootstrap else key[:_SHOWN],  # of a key that somebody chose, nothing is kept
        "scopes": list(scopes),
        "test": key.startswith(TEST) and not bootstrap,
        "bootstrap": bootstrap,
        "createdAt": now,
        "createdBy": created_by,
        "expiresAt": expires_at,
        "revokedAt": None,
        "revokedBy": None,
        "lastUsedAt": 0.0,
        "allowedNetworks": list(networks),
    }


async def find_key(documents: Documents, key_hash: str) -> KnownKey | None:
    """The key with this hash; None where there is none or it is revoked."""
    document = await documents.get(API_KEYS, key_hash)
    if document is None or document["revokedAt"] is not None:
        return None
    scopes = frozenset(document["scopes"])
    role: Role = "owner" if document["bootstrap"] else "admin" if EVERYTHING in scopes else "viewer"
    return KnownKey(
        hash=key_hash,
        caller=Caller(document["orgId"], f"key:{document['keyId']}", scopes, role, test=document["test"]),
        networks=tuple(ip_network(network) for network in document["allowedNetworks"]),
        expires_at=document["expiresAt"],
        last_used_at=document["lastUsedAt"],
    )


class LastUsed:
    """Writes `lastUsedAt` at most once in USED_EVERY seconds per key, over all processes."""

    def __init__(self, documents: Documents, clock: Callable[[], float]) -> None:
        self._documents = documents
        self._clock = clock
        self._written: dict[str, float] = {}

    async def note(self, key: KnownKey) -> None:
        now = self._clock()
        if now < max(key.last_used_at, self._written.get(key.hash, 0.0)) + USED_EVERY:
            return
        if len(self._written) > 10_000:
            self._written.clear()
        self._written[key.hash] = now
        try:
            await self._documents.update(
                API_KEYS, key.hash, Change(set={"lastUsedAt": now}), {"lastUsedAt": Lte(now - USED_EVERY)}
            )
        except DocumentsUnavailable:
            log.warning("last_used_not_written", key=key.caller.actor)  # a convenience; the request goes on
