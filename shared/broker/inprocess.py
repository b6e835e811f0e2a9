"""The embedded broker: queues in this process's memory, with the rules of a quorum queue. A restart empties it.

What keeps that safe is above the seam: every batch is in the document store, and at start the dispatcher sends again
what was out. All of it runs on one event loop; nothing here awaits between looking and changing.

A message goes to its queue's dead letters when it was handed out DELIVERY_LIMIT + 1 times without an ack, as on
RabbitMQ. What was requeued comes before what never left.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from shared.errors import BrokerUnavailable
from shared.topology import QUEUES, Queue


@dataclass(slots=True)
class _Message:
    body: bytes
    message_id: str
    deliveries: int = 0
    reason: str | None = None


class _Line:
    """One queue: messages that wait, and the event that wakes consumers."""

    def __init__(self, queue: Queue) -> None:
        self.limit = int(queue.arguments.get("x-delivery-limit", 20))
        self.room = int(queue.arguments.get("x-max-length", 2**63))
        self.dead_letters: _Line | None = None
        self.returned: deque[_Message] = deque()
        self.fresh: deque[_Message] = deque()
        self.changed = asyncio.Event()

    def __len__(self) -> int:
        return len(self.returned) + len(self.fresh)

    def put(self, message: _Message) -> None:
        self.fresh.append(message)
        self.changed.set()

    def take(self) -> _Message | None:
        line = self.returned or self.fresh
        return line.popleft() if line else None

    def put_back(self, message: _Message) -> None:
        if message.deliveries > self.limit:
            self.bury(message, "delivery_limit")
        else:
            self.returned.append(message)
            self.changed.set()

    def bury(self, message: _Message, why: str) -> None:
        """A queue without dead letters drops the message, as RabbitMQ does."""
        if self.dead_letters is not None:
            self.dead_letters.put(_Message(message.body, message.message_id, reason=why))


class _Delivery:
    def __init__(self, subscription: _Subscription, message: _Message) -> None:
        self.body = message.body
        self.message_id = message.message_id
        self.redelivered = message.deliveries > 1
        self.reason = message.reason
        self._message = message
        self._subscription = subscription

    async def ack(self) -> None:
        self._subscription.settle(self)

    async def requeue(self) -> None:
        if self._subscription.settle(self):
            self._subscription.line.put_back(self._message)

    async def dead_letter(self, why: str) -> None:
        if self._subscription.settle(self):
            self._subscription.line.bury(self._message, why)

    def give_back(self) -> None:
        self._subscription.line.put_back(self._message)


class _Subscription:
    def __init__(self, line: _Line, prefetch: int) -> None:
        self.line = line
        self._prefetch = prefetch
        self._unsettled: dict[_Delivery, None] = {}  # in the order of delivery
        self._stopped = False

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()
        unsettled, self._unsettled = self._unsettled, {}
        for delivery in unsettled:
            delivery.give_back()

    async def __aiter__(self) -> AsyncIterator[_Delivery]:
        while not self._stopped:
            message = self.line.take() if len(self._unsettled) < self._prefetch else None
            if message is None:
                self.line.changed.clear()
                await self.line.changed.wait()
                continue
            message.deliveries += 1
            delivery = _Delivery(self, message)
            self._unsettled[delivery] = None
            yield delivery

    async def stop(self) -> None:
        self._stopped = True
        self.line.changed.set()

    def settle(self, delivery: _Delivery) -> bool:
        """False when it was settled before, or given back when the context was left."""
        if delivery not in self._unsettled:
            return False
        del self._unsettled[delivery]
        self.line.changed.set()  # there is room for another
        return True


class InProcessBroker:
    """`Broker` without a server. `queues`: those of the topology, unless a test brings its own."""

    survives_restart = False

    def __init__(self, queues: Iterable[Queue] = QUEUES) -> None:
        self._queues = tuple(queues)
        self._lines: dict[str, _Line] = {}

    async def __aenter__(self) -> Self:
        self._lines = {queue.name: _Line(queue) for queue in self._queues}
        for queue in self._queues:
            if queue.dead_letters is not None:
                self._lines[queue.name].dead_letters = self._lines[queue.dead_letters.name]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._lines = {}

    async def publish(self, queue: Queue, body: bytes, message_id: str) -> None:
        line = self._line(queue)
        if len(line) >= line.room:
            raise BrokerUnavailable(f"queue {queue.name} takes no more")
        line.put(_Message(body, message_id))
        await asyncio.sleep(0)  # a publisher in a loop must not starve the consumers

    def subscribe(self, queue: Queue, prefetch: int) -> _Subscription:
        return _Subscription(self._line(queue), prefetch)

    async def check(self) -> None:
        if not self._lines:
            raise BrokerUnavailable("the broker is closed")

    async def depth(self, queue: Queue) -> int:
        return len(self._line(queue))

    def _line(self, queue: Queue) -> _Line:
        line = self._lines.get(queue.name)
        if line is None:
            raise BrokerUnavailable(f"no queue {queue.name} here")
        return line
