"""What retention does by itself, every EVERY seconds: an organisation's own retention days are made true for its files,
erasures that were cut off go on, old deliveries go, and after erasing the document store is scrubbed.

Files whose time is over are erased by the batch machine's repair, by their `expiresAt`.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from gateway.collections import ERASURES, FILES, ORGANISATIONS, WEBHOOK_DELIVERIES
from gateway.loops import wait_for_any
from gateway.parts import Parts
from gateway.retention.erase_address import carry_out
from gateway.retention.scrub import scrub
from shared.documents import Change, Documents, Lte, Missing

EVERY = 20.0  # seconds
SHORTEST = 1.0  # seconds between sweeps, however much is being erased
DAY = 86_400.0
DELIVERIES_KEPT = 30 * DAY
TAKEN_OVER = 60.0  # seconds after which a running erasure counts as cut off


class RetentionSweep:
    def __init__(self, parts: Parts, clock: Callable[[], float] = time.time) -> None:
        self._parts = parts
        self._clock = clock

    async def run(self, stop: asyncio.Event) -> None:
        self._parts.machine.eraser.erased.set()  # a crash may have come between erasing and scrubbing
        while not stop.is_set():
            await self.sweep()
            await wait_for_any(SHORTEST, stop)
            await wait_for_any(EVERY, stop, self._parts.machine.eraser.erased)

    async def sweep(self) -> None:
        """Raises DocumentsUnavailable; repeatable."""
        parts, now = self._parts, self._clock()
        async for organisation in parts.documents.scan(ORGANISATIONS, {}):
            if organisation.get("retentionDays"):
                await apply_days(parts.documents, organisation["_id"], organisation["retentionDays"])
        async for erasure in parts.documents.scan(ERASURES, {"state": "running"}):
            if erasure["createdAt"] <= now - TAKEN_OVER:
                await carry_out(parts, erasure)
        await parts.documents.delete_many(WEBHOOK_DELIVERIES, {"createdAt": Lte(now - DELIVERIES_KEPT)})
        await self._scrub()

    async def _scrub(self) -> None:
        erased = self._parts.machine.eraser.erased
        if erased.is_set():
            erased.clear()
            scrubbed = False
            try:
                scrubbed = await scrub(self._parts)
            finally:
                if not scrubbed:
                    erased.set()


async def apply_days(documents: Documents, org_id: str, days: int) -> None:
    """Every file of the organisation expires so many days after it came."""
    where = {"orgId": org_id, "eraseState": Missing()}
    async for file in documents.scan(FILES, where, sort="createdAt", fields=("createdAt", "expiresAt")):
        wanted = file["createdAt"] + days * DAY
        expires_at = file.get("expiresAt")
        if expires_at is not None and abs(expires_at - wanted) > 1:
            still = {"eraseState": Missing()}
            await documents.update(FILES, file["_id"], Change(set={"expiresAt": wanted}), still)
