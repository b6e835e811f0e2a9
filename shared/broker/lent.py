"""A broker of one process used from another, over a stream: what joins the validator to a standalone system's queues.

`lend` serves a Broker to whoever is at the other end of the stream; `LentBroker` is the Broker at that end. Frames are
msgpack after their length, in order in both directions, so a confirmed publish is confirmed before the settling of the
delivery it answers is read. The owner keeps every delivery until it is settled: when the stream ends, however that
happens, what was handed out and not settled goes back to its queue and is counted as a delivery, as on RabbitMQ when a
connection dies. The borrower cannot go on without its owner: what it awaits then raises BrokerUnavailable.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections.abc import AsyncIterator, Iterable
from types import TracebackType
from typing import Final, Literal, Self

import msgspec

from shared.broker import Broker, Delivery, Subscription
from shared.errors import BrokerUnavailable
from shared.topology import QUEUES, Queue

_LENGTH: Final = 4  # bytes, big endian


class _Request(msgspec.Struct, tag=True, array_like=True):
    """Answered by a _Reply with the same number."""

    no: int


class _Publish(_Request, tag="publish"):
    queue: str
    body: bytes
    message_id: str


class _Depth(_Request, tag="depth"):
    queue: str


class _Check(_Request, tag="check"):
    pass


class _Leave(_Request, tag="leave"):
    """The subscription's context is left."""

    subscription: int


class _Subscribe(msgspec.Struct, tag="subscribe", array_like=True):
    subscription: int
    queue: str
    prefetch: int


class _Stop(msgspec.Struct, tag="stop", array_like=True):
    subscription: int


class _Settle(msgspec.Struct, tag="settle", array_like=True):
    subscription: int
    delivery: int
    how: Literal["ack", "requeue", "dead_letter"]
    why: str = ""


class _Deliver(msgspec.Struct, tag="deliver", array_like=True):
    subscription: int
    delivery: int
    body: bytes
    message_id: str
    redelivered: bool
    reason: str | None


class _Reply(msgspec.Struct, tag="reply", array_like=True):
    no: int
    depth: int = 0
    unavailable: str | None = None


_ToOwner = _Publish | _Depth | _Check | _Leave | _Subscribe | _Stop | _Settle
_ToBorrower = _Deliver | _Reply
_ENCODER: Final = msgspec.msgpack.Encoder()
_OF_BORROWER: Final = msgspec.msgpack.Decoder(_ToOwner)
_OF_OWNER: Final[msgspec.msgpack.Decoder[_ToBorrower]] = msgspec.msgpack.Decoder(_ToBorrower)


def _send(writer: asyncio.StreamWriter, frame: object) -> None:
    body = _ENCODER.encode(frame)
    writer.write(len(body).to_bytes(_LENGTH) + body)


async def _frame(reader: asyncio.StreamReader) -> bytes | None:
    """None: the other end is gone."""
    try:
        return await reader.readexactly(int.from_bytes(await reader.readexactly(_LENGTH)))
    except (asyncio.IncompleteReadError, OSError):
        return None


# --- the owner's side ---


async def lend(
    broker: Broker, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, queues: Iterable[Queue] = QUEUES
) -> None:
    """Serve `broker` until the other end is gone; then everything it held is back in its queue."""
    owner = _Owner(broker, writer, queues)
    try:
        while (body := await _frame(reader)) is not None:
            await owner.obey(_OF_BORROWER.decode(body))
    finally:
        await owner.take_back()
        writer.close()


class _Owner:
    def __init__(self, broker: Broker, writer: asyncio.StreamWriter, queues: Iterable[Queue]) -> None:
        self._broker = broker
        self._writer = writer
        self._queues = {queue.name: queue for queue in queues}
        self._handing_out: dict[int, asyncio.Task[None]] = {}
        self._open: dict[int, Subscription] = {}
        self._left: dict[int, asyncio.Event] = {}
        self._unsettled: dict[int, Delivery] = {}
        self._numbers = itertools.count()

    async def obey(self, frame: _ToOwner) -> None:
        match frame:
            case _Subscribe():
                self._left[frame.subscription] = asyncio.Event()
                self._open[frame.subscription] = self._broker.subscribe(self._queue(frame.queue), frame.prefetch)
                self._handing_out[frame.subscription] = asyncio.create_task(
                    self._hand_out(frame.subscription), name=f"lent-{frame.queue}"
                )
            case _Stop():
                await self._open[frame.subscription].stop()
            case _Settle():
                await self._settle(frame)
            case _Publish() | _Depth() | _Check() | _Leave():
                try:
                    reply = _Reply(frame.no, await self._answer(frame))
                except BrokerUnavailable as error:
                    reply = _Reply(frame.no, unavailable=str(error))
                _send(self._writer, reply)

    async def _answer(self, frame: _Publish | _Depth | _Check | _Leave) -> int:
        match frame:
            case _Publish():
                await self._broker.publish(self._queue(frame.queue), frame.body, frame.message_id)
            case _Depth():
                return await self._broker.depth(self._queue(frame.queue))
            case _Check():
                await self._broker.check()
            case _Leave():
                self._left[frame.subscription].set()
                await self._open[frame.subscription].stop()
                await self._handing_out[frame.subscription]
        return 0

    def _queue(self, name: str) -> Queue:
        return self._queues.get(name) or Queue(name)  # whose absence the broker tells

    async def _hand_out(self, subscription: int) -> None:
        async with self._open[subscription] as deliveries:
            async for delivery in deliveries:
                number = next(self._numbers)
                self._unsettled[number] = delivery
                _send(
                    self._writer,
                    _Deliver(
                        subscription,
                        number,
                        delivery.body,
                        delivery.message_id,
                        delivery.redelivered,
                        delivery.reason,
                    ),
                )
                with contextlib.suppress(ConnectionError):  # `lend` notices, too
                    await self._writer.drain()
            await self._left[subscription].wait()

    async def _settle(self, frame: _Settle) -> None:
        delivery = self._unsettled.pop(frame.delivery, None)
        if delivery is None:
            return
        match frame.how:
            case "ack":
                await delivery.ack()
            case "requeue":
                await delivery.requeue()
            case "dead_letter":
                await delivery.dead_letter(frame.why)

    async def take_back(self) -> None:
        for task in self._handing_out.values():
            task.cancel()
        await asyncio.gather(*self._handing_out.values(), return_exceptions=True)


# --- the borrower's side ---


class LentBroker:
    """`Broker` by the other end of a stream. Opened once; `gone` is set when the owner is."""

    survives_restart = False

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.gone = asyncio.Event()
        self._reader = reader
        self._writer = writer
        self._numbers = itertools.count()
        self._asked: dict[int, asyncio.Future[_Reply]] = {}
        self._subscriptions: dict[int, _LentSubscription] = {}
        self._reading: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._reading = asyncio.create_task(self._read(), name="lent-broker")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._reading is not None:
            self._reading.cancel()
            await asyncio.wait([self._reading])
        self._writer.close()

    async def publish(self, queue: Queue, body: bytes, message_id: str) -> None:
        await self._ask(_Publish(next(self._numbers), queue.name, body, message_id))

    def subscribe(self, queue: Queue, prefetch: int) -> _LentSubscription:
        return _LentSubscription(self, next(self._numbers), queue.name, prefetch)

    async def check(self) -> None:
        await self._ask(_Check(next(self._numbers)))

    async def depth(self, queue: Queue) -> int:
        return (await self._ask(_Depth(next(self._numbers), queue.name))).depth

    def tell(self, frame: _Subscribe | _Stop | _Settle) -> None:
        if not self.gone.is_set():
            _send(self._writer, frame)

    def begin(self, subscription: _LentSubscription, frame: _Subscribe) -> None:
        self._subscriptions[subscription.number] = subscription
        self.tell(frame)

    async def leave(self, subscription: _LentSubscription) -> None:
        """Returns when the owner has taken back what was not settled."""
        if not self.gone.is_set():
            with contextlib.suppress(BrokerUnavailable):  # gone: then it is taken back all the same
                await self._ask(_Leave(next(self._numbers), subscription.number))
        self._subscriptions.pop(subscription.number, None)

    async def _ask(self, request: _Publish | _Depth | _Check | _Leave) -> _Reply:
        if self.gone.is_set():
            raise BrokerUnavailable("the owner of the broker is gone")
        answer: asyncio.Future[_Reply] = asyncio.get_running_loop().create_future()
        self._asked[request.no] = answer
        try:
            _send(self._writer, request)
            reply = await answer
        finally:
            del self._asked[request.no]
        if reply.unavailable is not None:
            raise BrokerUnavailable(reply.unavailable)
        return reply

    async def _read(self) -> None:
        try:
            while (body := await _frame(self._reader)) is not None:
                match _OF_OWNER.decode(body):
                    case _Deliver() as frame:
                        if (subscription := self._subscriptions.get(frame.subscription)) is not None:
                            subscription.arrived(frame)
                    case _Reply() as reply:
                        if (answer := self._asked.get(reply.no)) is not None and not answer.done():
                            answer.set_result(reply)
        finally:
            self.gone.set()
            for answer in self._asked.values():
                if not answer.done():
                    answer.set_exception(BrokerUnavailable("the owner of the broker is gone"))
            for subscription in self._subscriptions.values():
                subscription.end()


class _LentDelivery:
    def __init__(self, broker: LentBroker, frame: _Deliver) -> None:
        self.body = frame.body
        self.message_id = frame.message_id
        self.redelivered = frame.redelivered
        self.reason = frame.reason
        self._broker = broker
        self._place = (frame.subscription, frame.delivery)

    async def ack(self) -> None:
        self._broker.tell(_Settle(*self._place, "ack"))

    async def requeue(self) -> None:
        self._broker.tell(_Settle(*self._place, "requeue"))

    async def dead_letter(self, why: str) -> None:
        self._broker.tell(_Settle(*self._place, "dead_letter", why))


class _LentSubscription:
    def __init__(self, broker: LentBroker, number: int, queue: str, prefetch: int) -> None:
        self.number = number
        self._broker = broker
        self._queue = queue
        self._prefetch = prefetch
        self._arrived: asyncio.Queue[_LentDelivery | None] = asyncio.Queue()  # None: no more
        self._ended = False

    async def __aenter__(self) -> Self:
        self._broker.begin(self, _Subscribe(self.number, self._queue, self._prefetch))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended = True
        await self._broker.leave(self)

    async def __aiter__(self) -> AsyncIterator[_LentDelivery]:
        while not self._ended:
            delivery = await self._arrived.get()
            if delivery is None:
                self._arrived.put_nowait(None)  # for the next one who waits
                return
            yield delivery

    async def stop(self) -> None:
        """What arrived and was not handed out goes back; what is still on its way, too."""
        if self._ended:
            return
        self._broker.tell(_Stop(self.number))
        waiting = [self._arrived.get_nowait() for _ in range(self._arrived.qsize())]
        self.end()
        for delivery in waiting:
            if delivery is not None:
                await delivery.requeue()

    def arrived(self, frame: _Deliver) -> None:
        delivery = _LentDelivery(self._broker, frame)
        if self._ended:
            self._broker.tell(_Settle(frame.subscription, frame.delivery, "requeue"))
        else:
            self._arrived.put_nowait(delivery)

    def end(self) -> None:
        """The iteration ends when what has arrived is handed out."""
        self._ended = True
        self._arrived.put_nowait(None)
