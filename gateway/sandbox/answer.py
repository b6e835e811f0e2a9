"""The gateway's door to the validators, at which the work of test keys is answered instead of let through.

A batch of the sandbox takes the way of every other until it would be published as work: here its results are made and
published as results, so recording, second looks, counts, live news, charges and webhooks see nothing special. No
message of a test file ever lies in the work queue.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from types import TracebackType
from typing import Self

from gateway.sandbox.mark import is_test_id
from gateway.sandbox.simulate import simulate
from shared.broker import Broker, Subscription
from shared.messages import PutOff, ResultMessage, WorkMessage
from shared.topology import RESULTS, WORK, Queue
from shared.verdict import Reason
from shared.verdicts import Verdicts


class SandboxedBroker:
    """A Broker: `broker`, whoever opens and closes it, but for the work of test files."""

    def __init__(self, broker: Broker, clock: Callable[[], float] = time.time) -> None:
        self._broker = broker
        self._clock = clock
        self.survives_restart = broker.survives_restart

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return None

    async def publish(self, queue: Queue, body: bytes, message_id: str) -> None:
        """Message ids begin with the batch's. Raises BrokerUnavailable."""
        if queue == WORK and is_test_id(message_id):
            queue, body = RESULTS, answer(WorkMessage.decode(body), self._clock()).encode()
        await self._broker.publish(queue, body, message_id)

    def subscribe(self, queue: Queue, prefetch: int) -> Subscription:
        return self._broker.subscribe(queue, prefetch)

    async def check(self) -> None:
        await self._broker.check()

    async def depth(self, queue: Queue) -> int:
        return await self._broker.depth(queue)


def answer(work: WorkMessage, now: float) -> ResultMessage:
    """What a validator would say. Pure."""
    verdicts = [simulate(email, look=work.look, last_look=work.last_look, now=now) for email in work.emails]
    put_off = [PutOff(index=at, reason=Reason.PUT_OFF) for at, verdict in enumerate(verdicts) if verdict is None]
    return ResultMessage.about(work, Verdicts.of(work.emails, verdicts), put_off)
