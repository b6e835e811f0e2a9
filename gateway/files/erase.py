"""Erasing a file: upload, results and exports go, the counts stay.

The order: a running file is cancelled first (its open batches are closed, so late results are dropped, and its other
credits released) -> the document says that erasing has begun -> upload and exports, then results, then live news ->
the document forgets what could name somebody, and says that it is erased. A crash anywhere is taken up by repair.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from redis.exceptions import RedisError

from gateway.batches.state import DISCARD, RUNNING_FILE, FileStatus
from gateway.batches.store import NOTHING_YET
from gateway.collections import BATCHES, FILES
from gateway.credits.ledger import Ledger
from gateway.results.finish import Finisher
from gateway.uploads.folder import erase_folders
from shared.documents import Change, Document, Documents
from shared.logs import get_log
from shared.redis_keys import file_events
from shared.settings import Settings

if TYPE_CHECKING:
    from redis.asyncio import Redis

log = get_log("gateway.files.erase")

Clock = Callable[[], float]


class Eraser:
    def __init__(
        self,
        *,
        settings: Settings,
        documents: Documents,
        redis: Redis,
        ledger: Ledger,
        finisher: Finisher,
        clock: Clock = time.time,
    ) -> None:
        self._ledger = ledger
        self._documents = documents
        self._redis = redis
        self._finisher = finisher
        self._settings = settings
        self._clock = clock
        self.erased = asyncio.Event()  # something was erased since the document store was scrubbed

    async def erase(self, file: Document) -> None:
        """Repeatable. Raises DocumentsUnavailable; what is left is erased by a later sweep."""
        file_id = file["_id"]
        begun = Change(set={"eraseState": "running", "erasedAt": file.get("erasedAt") or self._clock()})
        file = await self._documents.update(FILES, file_id, begun) or file
        if file["status"] in RUNNING_FILE:
            await self._finisher.cancel(file_id)
        elif file["status"] == FileStatus.SETTLING:
            await self._finisher.resume(file)
        elif file["status"] == FileStatus.READY:
            await self._ledger.release(file["orgId"], file_id)  # a start that was cut off left it
            discarded = Change(set={**DISCARD.set, **NOTHING_YET, "settled": True})
            await self._documents.update(FILES, file_id, discarded, DISCARD.where)
        await asyncio.to_thread(erase_folders, self._settings, file_id)
        await self._documents.delete_many(BATCHES, {"fileId": file_id})
        try:
            await self._redis.delete(file_events(file_id))
        except RedisError as error:  # the stream ends by itself, by its time to live
            log.warning("events_not_erased", file_id=file_id, error=type(error).__name__)
        done = Change(
            set={"eraseState": "done", "filename": "", "domains": [], "table": None, "callbackUrl": None, "eta": None}
        )
        await self._documents.update(FILES, file_id, done)
        self.erased.set()
