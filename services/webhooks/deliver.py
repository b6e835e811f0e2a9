"""Deliveries that are due are sent, and what came of it is written down. The order:

    claim    one conditional update: it counts as a try, and puts the next one LEASE ahead in case we die meanwhile
    send     the same id and the same body as at every try, freshly signed
    decide   delivered, another try later, or exhausted; written down only under our own claim

A crash after sending and before writing has the receiver get it twice, with the same `webhook-id`. Each endpoint has
PER_ENDPOINT slots of its own, so that a slow one keeps only itself waiting. Several deliverers may run side by side.
"""

from __future__ import annotations

import asyncio
import random
import secrets
import time
from collections import Counter
from collections.abc import Callable

from gateway.audit.record import append
from gateway.collections import WEBHOOK_DELIVERIES, WEBHOOK_ENDPOINTS
from gateway.health import metrics
from gateway.loops import wait_for_any
from gateway.webhooks.endpoints import valid_secrets
from gateway.webhooks.events import TEST_TYPE
from gateway.webhooks.sign import signed_headers
from services.webhooks.decide import DELAYS, Tried, decide, disable_why
from services.webhooks.post import Poster
from shared.documents import Change, Document, Documents, Lte
from shared.errors import DocumentsUnavailable
from shared.logs import get_log

log = get_log("services.webhooks")

LOOK = 0.5  # seconds between looks for what is due
SHORTEST_LOOK = 0.05  # seconds, when a slot became free
LEASE = 60.0  # seconds after which a try that was not written down counts as lost
AT_ONCE = 64
PER_ENDPOINT = 4
KEPT_TRIES = 30  # in the log of one delivery

Clock = Callable[[], float]


class Deliverer:
    """`delays`: seconds after each try; one more try than delays. `look`: seconds between looks for what is due."""

    def __init__(
        self,
        documents: Documents,
        poster: Poster,
        *,
        delays: tuple[float, ...] = DELAYS,
        look: float = LOOK,
        clock: Clock = time.time,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self._documents = documents
        self._poster = poster
        self._delays = delays
        self._look = look
        self._clock = clock
        self._chance = chance
        self._busy: Counter[str] = Counter()
        self._running: dict[str, asyncio.Task[None]] = {}
        self._freed = asyncio.Event()

    async def run(self, stop: asyncio.Event) -> None:
        """Until `stop` is set; what is being sent then is finished. Raises DocumentsUnavailable."""
        try:
            while not stop.is_set():
                self._freed.clear()
                await self._start_due()
                await wait_for_any(SHORTEST_LOOK, stop)
                await wait_for_any(self._look, stop, self._freed)
        finally:
            if self._running:
                await asyncio.wait(self._running.values())

    async def _start_due(self) -> None:
        """Start what is due wherever there is a free slot. Reads an index only, so that a long queue costs little."""
        due = self._documents.scan(
            WEBHOOK_DELIVERIES,
            {"state": "pending", "dueAt": Lte(self._clock())},
            sort="dueAt",
            fields=("state", "dueAt", "endpointId"),
        )
        async for one in due:
            if len(self._running) >= AT_ONCE:
                return
            id_, endpoint_id = one["_id"], one["endpointId"]
            if id_ in self._running or self._busy[endpoint_id] >= PER_ENDPOINT:
                continue
            self._busy[endpoint_id] += 1
            task = asyncio.create_task(self._deliver(id_, endpoint_id), name="webhook-delivery")
            self._running[id_] = task

    async def _deliver(self, id_: str, endpoint_id: str) -> None:
        """The outer boundary of one delivery."""
        try:
            await self.deliver(id_)
        except DocumentsUnavailable:
            log.warning("delivery_waits", delivery_id=id_)  # its lease brings it back
        except Exception as error:
            log.exception("delivery_failed", delivery_id=id_, error=type(error).__name__)
            metrics.LOOP_FAILURES.labels("webhook-delivery", type(error).__name__).inc()
        finally:
            self._busy[endpoint_id] -= 1
            if not self._busy[endpoint_id]:
                del self._busy[endpoint_id]
            del self._running[id_]
            self._freed.set()

    async def deliver(self, id_: str) -> None:
        """One try of one delivery, if it is still due."""
        claimed = await self._claim(id_)
        if claimed is None:
            return
        endpoint = await self._documents.get(WEBHOOK_ENDPOINTS, claimed["endpointId"])
        if endpoint is None or (endpoint["disabledAt"] is not None and claimed["type"] != TEST_TYPE):
            await self._write(claimed, {"state": "dropped"})
            return
        now, body = self._clock(), claimed["body"].encode()
        headers = signed_headers(claimed["eventId"], body, valid_secrets(endpoint, now), now)
        tried = await self._poster.post(claimed["url"] or endpoint["url"], headers, body)
        following = decide(tried, claimed["tries"], self._delays, self._chance())
        metrics.WEBHOOK_TRIES.labels("delivered" if tried.succeeded else "failed").inc()
        entry = {"at": now, "status": tried.status, "ms": tried.ms, "why": tried.why}
        change: dict[str, object] = {
            "state": following.state,
            "dueAt": self._clock() + following.delay,
            "log": [*claimed["log"], entry][-KEPT_TRIES:],
        }
        await self._write(claimed, change)
        if endpoint["kind"] == "endpoint":
            await self._judge_endpoint(endpoint, tried)

    async def _claim(self, id_: str) -> Document | None:
        found = await self._documents.get(WEBHOOK_DELIVERIES, id_)
        now = self._clock()
        if found is None or found["state"] != "pending" or found["dueAt"] > now:
            return None
        mine = Change(set={"claim": secrets.token_hex(8), "dueAt": now + LEASE}, inc={"tries": 1})
        where = {"state": "pending", "claim": found["claim"], "dueAt": found["dueAt"]}
        return await self._documents.update(WEBHOOK_DELIVERIES, id_, mine, where)

    async def _write(self, claimed: Document, change: dict[str, object]) -> None:
        await self._documents.update(
            WEBHOOK_DELIVERIES, claimed["_id"], Change(set=change), {"claim": claimed["claim"]}
        )

    async def _judge_endpoint(self, endpoint: Document, tried: Tried) -> None:
        id_, since, now = endpoint["_id"], endpoint["failingSince"], self._clock()
        why = disable_why(tried, since, now)
        if why is not None:
            disabled = Change(set={"disabledAt": now, "disabledWhy": why})
            if await self._documents.update(WEBHOOK_ENDPOINTS, id_, disabled, {"disabledAt": None}) is not None:
                log.warning("webhook_disabled", endpoint_id=id_, why=why)
                detail = {"why": why}
                await append(self._documents, endpoint["orgId"], "webhooks", "webhook.disabled", id_, detail=detail)
        elif tried.succeeded and since is not None:
            await self._documents.update(WEBHOOK_ENDPOINTS, id_, Change(set={"failingSince": None}))
        elif not tried.succeeded and since is None:
            await self._documents.update(
                WEBHOOK_ENDPOINTS, id_, Change(set={"failingSince": now}), {"failingSince": None}
            )
