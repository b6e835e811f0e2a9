"""Addresses that an organisation must not ask about any more: kept as keyed hashes, never probed, never charged.

The key is made once and kept in DATA_DIR/suppression.key, apart from the document store: whoever has only the one
cannot tell who is on the list. It must be kept with backups; with another key the list knows nobody.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from gateway.collections import SUPPRESSED
from gateway.key_file import key_file
from gateway.sandbox.mark import is_test
from shared.address import Address, parse_address
from shared.documents import Document
from shared.settings import Settings

if TYPE_CHECKING:
    from gateway.parts import Parts

KEY_FILE = "suppression.key"

IsSuppressed = Callable[[str], bool]


async def suppression_key(settings: Settings) -> bytes:
    """Raises SettingsError for a damaged one."""
    return await key_file(settings, KEY_FILE)


def hash_of(key: bytes, org_id: str, address: Address) -> str:
    """What stands for the address in this organisation's list; 40 hex digits."""
    question = f"{org_id}\0{address.key}".encode()
    return hashlib.blake2b(question, key=key, digest_size=20).hexdigest()


async def suppress(parts: Parts, org_id: str, address: Address) -> str:
    """Put it on the list; its id there. Repeatable."""
    id_ = hash_of(await suppression_key(parts.settings), org_id, address)
    await parts.documents.insert(SUPPRESSED, {"_id": f"{org_id}:{id_}", "orgId": org_id, "at": time.time()})
    return id_


async def is_suppressed(parts: Parts, org_id: str, address: Address) -> bool:
    """Whether one address is on the list."""
    id_ = hash_of(await suppression_key(parts.settings), org_id, address)
    return await parts.documents.get(SUPPRESSED, f"{org_id}:{id_}") is not None


async def suppressed_in(parts: Parts, file: Document) -> IsSuppressed | None:
    """Tells of an address of the file, as it was given, whether it is on the list. None: nobody is.

    Nobody of a test file is: its verdicts do not depend on what an organisation has.
    """
    if is_test(file):
        return None
    org_id = file["orgId"]
    known = {one["_id"] async for one in parts.documents.scan(SUPPRESSED, {"orgId": org_id}, fields=("orgId",))}
    if not known:
        return None
    key = await suppression_key(parts.settings)

    def tell(given: str) -> bool:
        address = parse_address(given)
        return isinstance(address, Address) and f"{org_id}:{hash_of(key, org_id, address)}" in known

    return tell
