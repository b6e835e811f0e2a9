"""POST /api/v1/files."""

from __future__ import annotations

import asyncio
import errno
import secrets
from typing import Annotated, Any

import orjson
from fastapi import APIRouter, Depends, Request, Response

from gateway.accounts.caller import Caller, need_scope
from gateway.idempotency.once import OnceDep
from gateway.parts import PartsDep
from gateway.sandbox.mark import own_id
from gateway.uploads.call_analyser import disk_full
from gateway.uploads.folder import erase_folders, receiving
from gateway.uploads.receive import receive_upload
from gateway.uploads.submit import Upload, submit, summary_for_uploader

router = APIRouter(tags=["files"])

DISK_TROUBLE = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EROFS})

_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["file"],
                    "properties": {
                        "file": {
                            "type": "string",
                            "contentMediaType": "application/octet-stream",
                            "description": "CSV, TXT, XLSX or a ZIP of those.",
                        },
                        "column": {"type": "string", "description": "Name or 1-based number of the address column."},
                        "has_header": {"type": "boolean", "description": "Whether the first row names the columns."},
                    },
                }
            }
        },
    }
}


@router.post("/api/v1/files", status_code=202, openapi_extra=_BODY)
async def upload_file(
    request: Request,
    parts: PartsDep,
    caller: Annotated[Caller, Depends(need_scope("files:write"))],
    once: OnceDep,
    *,
    start: bool = True,
) -> Response:
    """Take a list in. Its verification begins at once; with `start=false` it is only analysed and waits, `ready`."""
    spool_id = f"spool-{secrets.token_hex(16)}"
    try:
        with receiving(parts.settings, spool_id) as spool:
            assert spool is not None  # noqa: S101 - nobody else has this name
            try:
                await asyncio.to_thread(spool.mkdir, 0o700)
                received = await receive_upload(request, spool / "upload", parts.settings.max_upload_bytes)
                fields = orjson.dumps(sorted(received.fields.items()))

                async def produce(id_: str) -> Response:
                    file_id = own_id(caller, id_)
                    document = await submit(parts, caller, file_id, Upload(spool, received, start))
                    answer = orjson.dumps(summary_for_uploader(document))
                    location = {"Location": f"/api/v1/files/{file_id}"}
                    return Response(answer, 202, location, media_type="application/json")

                return await once(produce, received.digest, fields)
            finally:
                await asyncio.to_thread(erase_folders, parts.settings, spool_id)
    except OSError as error:
        if error.errno in DISK_TROUBLE:
            raise disk_full() from error
        raise
