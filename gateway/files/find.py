"""A caller's file by its id."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends

from gateway.accounts.caller import Caller, need_scope
from gateway.batches.state import FileStatus
from gateway.collections import FILES
from gateway.parts import PartsDep
from gateway.problem import not_found
from gateway.sandbox.mark import is_test
from shared.documents import Document, Documents

Reader = Annotated[Caller, Depends(need_scope("files:read"))]
Writer = Annotated[Caller, Depends(need_scope("files:write"))]


async def find_file(documents: Documents, caller: Caller, file_id: str) -> Document:
    """Raises Problem 404 alike for what does not exist, is not accepted yet, or belongs to somebody else.

    A live key's files are somebody else's to a test key, and the other way round.
    """
    file = await documents.get(FILES, file_id)
    theirs = file is None or file["orgId"] != caller.org_id or is_test(file) != caller.test
    if file is None or theirs or file["status"] == FileStatus.RECEIVING:
        raise not_found("file")
    return file


async def _readable(file_id: str, parts: PartsDep, caller: Reader) -> Document:
    return await find_file(parts.documents, caller, file_id)


async def _writable(file_id: str, parts: PartsDep, caller: Writer) -> Document:
    return await find_file(parts.documents, caller, file_id)


ReadableFile = Annotated[Document, Depends(_readable)]
WritableFile = Annotated[Document, Depends(_writable)]
