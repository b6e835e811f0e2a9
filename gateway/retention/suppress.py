"""Addresses that an organisation must not ask about any more: kept as keyed hashes, never probed, never charged.

The key is made once and kept in DATA_DIR/suppression.key, apart from the document store: whoever has only the one
cannot tell who is on the list. It must be kept with backups; with another key the list knows nobody.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import secrets
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from gateway.collections import SUPPRESSED
from shared.address import Address, parse_address
from shared.errors import SettingsError
from shared.settings import Settings

if TYPE_CHECKING:
    from gateway.parts import Parts

KEY_FILE = "suppression.key"
_KEY_BYTES = 32

IsSuppressed = Callable[[str], bool]


def _key_of(folder: Path) -> bytes:
    """Read the key, or make it where there is none. Blocking."""
    path = folder / KEY_FILE
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        part = folder / f"{KEY_FILE}.{secrets.token_hex(8)}"
        descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as out:
            out.write(secrets.token_bytes(_KEY_BYTES))
            out.flush()
            os.fsync(out.fileno())
        with contextlib.suppress(FileExistsError):
            os.link(part, path)  # of several processes the first wins, and its key is everybody's
        part.unlink()
    key = path.read_bytes()
    if len(key) != _KEY_BYTES:
        raise SettingsError("MAILVET_DATA_DIR", f"{path} is damaged; restore it from a backup")
    return key


async def suppression_key(settings: Settings) -> bytes:
    """Raises SettingsError for a damaged one."""
    return await asyncio.to_thread(_key_of, settings.data_dir)


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


async def suppressed_in(parts: Parts, org_id: str) -> IsSuppressed | None:
    """Tells of an address, as it was given, whether it is on the list. None: nobody is."""
    known = {one["_id"] async for one in parts.documents.scan(SUPPRESSED, {"orgId": org_id}, fields=("orgId",))}
    if not known:
        return None
    key = await suppression_key(parts.settings)

    def tell(given: str) -> bool:
        address = parse_address(given)
        return isinstance(address, Address) and f"{org_id}:{hash_of(key, org_id, address)}" in known

    return tell
