"""Where the validators' cache keeps the verdict of an address."""

from __future__ import annotations

import hashlib

from shared.address import Address
from shared.redis_keys import verdict_cache
from shared.settings import Settings


def verdict_key(settings: Settings, org_id: str, address: Address) -> str:
    """The Redis key; gateway and validators share the internal token that hides it."""
    secret = hashlib.sha256((settings.internal_token or "").encode()).digest()
    return verdict_cache(secret, org_id, address.key)
