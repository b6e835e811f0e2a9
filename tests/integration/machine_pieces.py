"""The machine's pieces over the embedded store and broker, none of them running: tests turn each by hand.

The clock is the test's own (`pieces.now`), so leases and second looks need no waiting.
"""

from __future__ import annotations

from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, Self

from redis.asyncio import Redis

from gateway.batches.state import ACCEPT
from gateway.batches.store import receiving_file, store_batches
from gateway.collections import ALL, BATCHES, FILES
from gateway.credits.ledger import Ledger
from gateway.machine import Machine
from gateway.uploads.plan import assign_fates, plan_batches
from shared.broker import Broker, Delivery
from shared.broker.inprocess import InProcessBroker
from shared.documents import Change, Document
from shared.documents.sqlite import SqliteDocuments
from shared.errors import BrokerUnavailable
from shared.messages import WorkMessage
from shared.redis_client import connect
from shared.settings import Settings
from shared.topology import WORK, Queue

ORG = "org_a"
CREDITS = 10_000


class FickleBroker(InProcessBroker):
    """The embedded broker, which can pretend to outlive us, to be away, and to lose the confirm of what it took."""

    def __init__(self, *, survives: bool) -> None:
        super().__init__()
        self.survives_restart = survives
        self.away = False
        self.loses_confirms = False

    async def publish(self, queue: Queue, body: bytes, message_id: str) -> None:
        if self.away:
            raise BrokerUnavailable("away")
        await super().publish(queue, body, message_id)
        if self.loses_confirms:
            raise BrokerUnavailable("no confirm")


class Pieces:
    def __init__(self, folder: Path, redis_url: str, *, survives: bool = True, **settings: Any) -> None:
        given = {"batch_size": 10, "retry_delays": (60.0, 300.0), "batch_lease": 900.0, **settings}
        self.settings = Settings.load(data_dir=folder / "data", **given)
        self._path = folder / "documents.db"
        self._redis_url = redis_url
        self._survives = survives
        self.now = 1_000_000.0

    async def __aenter__(self) -> Self:
        self._stack = AsyncExitStack()
        enter = self._stack.enter_async_context
        self.documents = await enter(SqliteDocuments(self._path, ALL))
        self.broker = await enter(FickleBroker(survives=self._survives))
        self.redis: Redis = connect(self._redis_url)
        self._stack.push_async_callback(self.redis.aclose)
        self.ledger = Ledger(self.documents, lambda: self.now)
        await self.ledger.grant(ORG, CREDITS, "test")
        self.restart()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    def build(self) -> Machine:
        """A machine as another gateway, or the next life of this one, has it."""
        return Machine(
            settings=self.settings,
            documents=self.documents,
            broker=self.broker,
            redis=self.redis,
            ledger=self.ledger,
            clock=lambda: self.now,
        )

    def restart(self) -> None:
        """As after a kill: everything in memory is forgotten."""
        self.machine = self.build()

    async def add(self, file_id: str, emails: list[str], org_id: str = ORG, *, accept: bool = True) -> None:
        fates = assign_fates(enumerate(emails, start=1))
        file = receiving_file(
            file_id,
            org_id,
            kind="batch",
            filename="list",
            created_at=self.now,
            total=fates.total,
            unique=len(fates.unique),
            duplicates=len(fates.duplicates),
            malformed=len(fates.malformed),
        )
        await self.documents.insert(FILES, file)
        await self.ledger.hold(org_id, file_id, len(fates.unique))
        batches = plan_batches(sorted(fates.unique), self.settings.batch_size)
        total = await store_batches(self.documents, file_id, org_id, batches, fates.malformed, clock=lambda: self.now)
        if accept:
            await self.documents.update(FILES, file_id, Change(set={**ACCEPT.set, "totalBatches": total}))
            self.machine.file_changed(file_id)

    async def file(self, file_id: str) -> Document:
        file = await self.documents.get(FILES, file_id)
        assert file is not None
        return file

    async def batches(self, file_id: str) -> list[Document]:
        return [batch async for batch in self.documents.scan(BATCHES, {"fileId": file_id}, sort="no")]

    async def statuses(self, file_id: str) -> list[str]:
        return [batch["status"] for batch in await self.batches(file_id)]

    async def take(self) -> list[WorkMessage]:
        """Everything that waits in the queue of work, taken and acknowledged."""
        return [WorkMessage.decode(delivery.body) for delivery in await drain(self.broker, WORK)]

    async def reserved(self) -> int:
        return (await self.ledger.balance(ORG)).reserved

    async def owned(self) -> int:
        return (await self.ledger.balance(ORG)).balance


async def drain(broker: Broker, queue: Queue) -> list[Delivery]:
    count = await broker.depth(queue)
    taken: list[Delivery] = []
    if count == 0:
        return taken
    async with broker.subscribe(queue, count) as deliveries:
        async for delivery in deliveries:
            await delivery.ack()
            taken.append(delivery)
            if len(taken) == count:
                break
    return taken
