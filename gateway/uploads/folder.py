"""The folder of one upload: DATA_DIR/uploads/{fileId}/, and the lock that tells a live upload from a leftover.

    upload          the bytes as they came
    table.csv       the same as text, where the upload is a workbook or an archive
    plan.bin        one uint32 (little endian) for each record of the file, header included: the first row of the same
                    address, the row itself where it is unique or malformed, 0 where there is nothing to verify
    batches.jsonl   {"no", "emails", "rows"} a line; removed when they are in the document store
    malformed.jsonl {"row", "email", "why"} a line; removed with batches.jsonl

While a file is being received its receiver holds a lock on DATA_DIR/uploads/{fileId}.lock, taken before the folder is
made. The system lets go of it when the process dies, however it dies; so a folder or a `receiving` document whose lock
can be taken is a leftover, also when several gateways share the directory.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from shared.settings import Settings

LOCK_SUFFIX = ".lock"


def uploads_dir(settings: Settings) -> Path:
    return settings.data_dir / "uploads"


def upload_folder(settings: Settings, file_id: str) -> Path:
    return uploads_dir(settings) / file_id


def export_folder(settings: Settings, file_id: str) -> Path:
    return settings.data_dir / "exports" / file_id


@contextlib.contextmanager
def receiving(settings: Settings, file_id: str) -> Iterator[Path | None]:
    """Hold the file's lock. Gives the (existing or future) path of its folder, or None when somebody else holds it."""
    path = uploads_dir(settings) / (file_id + LOCK_SUFFIX)
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    lock = os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield None
            return
        try:
            yield upload_folder(settings, file_id)
        finally:
            path.unlink(missing_ok=True)
    finally:
        os.close(lock)


def erase_folders(settings: Settings, file_id: str) -> None:
    """Remove everything about a file from the disk: upload, plan, exports. Repeatable. Raises OSError."""
    for folder in (upload_folder(settings, file_id), export_folder(settings, file_id)):
        with contextlib.suppress(FileNotFoundError):  # not there, or gone while somebody else removes it
            shutil.rmtree(folder)
