"""Results gathered by row: what a table of verdicts in the upload's own order is written from.

    verdicts.jsonl  [email, appended cells...] a line, in the order of the batches
    offsets.bin     one uint64 (little endian) for each row: where its line begins, plus one; 0: no verdict

Batches come in the order of domains, rows are wanted in the order of the list; so the file of offsets is written at
random and read in order, and memory stays flat. For a file that is finished this is done once and kept beside its
exports, made under another name and renamed, so that what is there is whole.
"""

from __future__ import annotations

import asyncio
import errno
import os
import shutil
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from tempfile import mkdtemp

import orjson

from gateway.batches.state import TERMINAL_FILE
from gateway.collections import BATCHES
from gateway.downloads.cells import OFFSETS, VERDICTS, appended_cells, harmless
from gateway.uploads.folder import export_folder
from shared.documents import Document, Documents
from shared.settings import Settings

ENTRY = struct.Struct("<Q")


@asynccontextmanager
async def collected(settings: Settings, documents: Documents, file: Document) -> AsyncIterator[Path]:
    """The folder with VERDICTS and OFFSETS, good while the context is open."""
    exports = export_folder(settings, file["_id"])
    final = exports / "final"
    if file["status"] not in TERMINAL_FILE:
        folder = await _collect(documents, file["_id"], exports)
        try:
            yield folder
        finally:
            await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)
        return
    if not await asyncio.to_thread(final.exists):
        folder = await _collect(documents, file["_id"], exports)
        await asyncio.to_thread(_keep, folder, final)
    yield final


def _keep(folder: Path, final: Path) -> None:
    try:
        folder.rename(final)
    except OSError as error:
        shutil.rmtree(folder)
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):  # those: another request was faster
            raise


async def _collect(documents: Documents, file_id: str, exports: Path) -> Path:
    folder = await asyncio.to_thread(_make_folder, exports)
    try:
        with (folder / VERDICTS).open("wb") as verdicts, (folder / OFFSETS).open("wb") as offsets:
            at = 1
            async for batch in documents.scan(BATCHES, {"fileId": file_id}, sort="no"):
                lines = [
                    (result["row"], orjson.dumps([harmless(result["email"]), *appended_cells(result)]) + b"\n")
                    for result in batch["results"]
                ]
                for row, line in lines:
                    os.pwrite(offsets.fileno(), ENTRY.pack(at), ENTRY.size * (row - 1))
                    at += len(line)
                verdicts.write(b"".join(line for _, line in lines))
    except BaseException:
        await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)
        raise
    return folder


def _make_folder(exports: Path) -> Path:
    exports.mkdir(parents=True, exist_ok=True, mode=0o700)
    return Path(mkdtemp(prefix="part-", dir=exports))
