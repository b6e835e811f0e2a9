"""Secrets of the installation that must not lie in the document store: files of 32 random bytes in DATA_DIR.

Made at first use, by whichever process is first; the gateways of an installation share the folder.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
from pathlib import Path

from shared.errors import SettingsError
from shared.settings import Settings

_BYTES = 32


async def key_file(settings: Settings, name: str) -> bytes:
    """The key in DATA_DIR/`name`. Raises SettingsError for a damaged one."""
    return await asyncio.to_thread(_read_or_make, settings.data_dir, name)


def _read_or_make(folder: Path, name: str) -> bytes:
    path = folder / name
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        part = folder / f"{name}.{secrets.token_hex(8)}"
        descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as out:
            out.write(secrets.token_bytes(_BYTES))
            out.flush()
            os.fsync(out.fileno())
        with contextlib.suppress(FileExistsError):
            os.link(part, path)  # of several processes the first wins, and its key is everybody's
        part.unlink()
    key = path.read_bytes()
    if len(key) != _BYTES:
        raise SettingsError("MAILVET_DATA_DIR", f"{path} is damaged; restore it from a backup")
    return key
