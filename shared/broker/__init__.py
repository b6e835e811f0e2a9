"""The broker seam: publish with confirm, consume, acknowledge, dead letter.

Met by `shared.broker.rabbitmq` (a server), `shared.broker.inprocess` (embedded) and `shared.broker.lent` (the embedded
one, from another process). One contract suite, `tests/integration/test_broker_contract.py`, runs over all.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from types import TracebackType
from typing import Protocol, Self

from shared.topology import Queue


class Delivery(Protocol):
    """One message handed to a consumer. Exactly one of ack, requeue, dead_letter settles it; settling is repeatable.

    Where the channel died before the settlement arrived, the broker delivers the message again to somebody; the
    settling call then does nothing, so what a handler does must be repeatable.
    """

    body: bytes
    message_id: str
    redelivered: bool
    reason: str | None  # why this is a dead letter (`dead_letter`'s why, or `delivery_limit`); None elsewhere

    async def ack(self) -> None: ...
    async def requeue(self) -> None: ...
    async def dead_letter(self, why: str) -> None:
        """Move to the queue's dead letters, with header `x-mailvet-reason`."""


class Subscription(Protocol):
    """`async with broker.subscribe(...) as deliveries: async for delivery in deliveries: ...`

    Survives the loss of the connection: iteration goes on when the broker is back. `stop()` ends the iteration: no new
    delivery is fetched, those fetched but not yet handed out are requeued, those handed out may still be settled
    until the context exits. Leaving the context requeues whatever is unsettled.
    """

    def __aiter__(self) -> AsyncIterator[Delivery]: ...
    async def __aenter__(self) -> Self: ...
    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...
    async def stop(self) -> None: ...


class Broker(Protocol):
    """A connection to a broker with the queues of `shared.topology.QUEUES` declared."""

    survives_restart: bool  # False: every queued message is gone when this process ends

    async def __aenter__(self) -> Self:
        """Connect and declare. Raises BrokerUnavailable."""

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    async def publish(self, queue: Queue, body: bytes, message_id: str) -> None:
        """Return once the broker has confirmed a persistent copy in `queue`.

        Raises BrokerUnavailable when it was not confirmed in time, returned as unroutable or refused; the message may
        be there all the same, so publishing again may duplicate it.
        """

    def subscribe(self, queue: Queue, prefetch: int) -> Subscription: ...

    async def check(self) -> None:
        """Raises BrokerUnavailable unless a round trip to the broker works now."""

    async def depth(self, queue: Queue) -> int:
        """Messages waiting in `queue`, not counting those handed out."""
