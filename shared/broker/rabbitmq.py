"""RabbitMQ, by aio-pika: one connection for publishing, one for consuming, each opened anew when it is lost.

aio-pika's own reconnecting connections are not used: they raise at once while the broker is away, cancel what a
consumer was doing when a channel dies, and can hang on closing. Here a lost connection is noticed by whoever needs it:

- A publisher opens a new one and publishes the same message id again, until its patience ends; then BrokerUnavailable.
  "Published" means confirmed and routed: persistent, `mandatory`, publisher confirms, returns raise.
- A subscription goes on by itself. Deliveries of a dead channel that nobody has begun are forgotten, since the broker
  delivers them again; one that is being handled runs to its end, and settling it then does nothing.

The topology is declared on every connection, so a broker that lost its data gets its queues back.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from types import TracebackType
from typing import Any, Self, TypeVar
from urllib.parse import urlsplit

import aio_pika
from aio_pika.abc import AbstractChannel, AbstractConnection, AbstractIncomingMessage
from aio_pika.connection import make_url
from aio_pika.exceptions import AMQPError, ChannelInvalidStateError, ChannelNotFoundEntity, DeliveryError, PublishError
from pamqp.exceptions import PAMQPException

from shared.errors import BrokerUnavailable
from shared.logs import get_log
from shared.topology import DEAD_LETTER_EXCHANGE, QUEUES, Queue

T = TypeVar("T")
LOST = (AMQPError, ChannelInvalidStateError, PAMQPException, OSError, TimeoutError)
REASON_HEADER = "x-mailvet-reason"

_CONNECT_SECONDS = 5.0
_ATTEMPT_SECONDS = 8.0  # for one try to publish, with what it takes to connect and declare
_PAUSE_SECONDS = 0.5  # between two tries
_CLOSE_SECONDS = 3.0  # a closing handshake with a broker that is gone would wait for ever
_HEARTBEAT_SECONDS = 10  # a silent broker or a frozen consumer is noticed after two to three of these
# RabbitMQ 3.10 loses confirmed messages of a quorum queue that was declared less than about 0.5 s before the node
# is killed, and leaves it without a leader (docs/decisions/0002-rabbitmq.md). A new queue is left alone this long.
_SETTLE_SECONDS = 2.0

_log = get_log(__name__)


class _Link:
    """A connection that is opened when asked for, and anew when the last one is dead. One caller opens, others wait."""

    def __init__(self, url: str, name: str, queues: tuple[Queue, ...], settle: float) -> None:
        self._url = url
        self._name = name
        self._queues = queues
        self._settle = settle
        self._lock = asyncio.Lock()
        self._connection: AbstractConnection | None = None
        self._publishing: AbstractChannel | None = None
        self._closed = False

    async def connection(self) -> AbstractConnection:
        """Raises one of LOST, or BrokerUnavailable after `close`."""
        async with self._lock:
            return await self._open()

    async def publishing(self) -> AbstractChannel:
        """The channel with confirms that all publishers share."""
        async with self._lock:
            connection = await self._open()
            if self._publishing is None or self._publishing.is_closed:
                self._publishing = await _channel(connection, confirms=True)
            return self._publishing

    async def _open(self) -> AbstractConnection:
        if self._closed:
            raise BrokerUnavailable("the broker connection is closed")
        if self._connection is not None and _is_open(self._connection):
            return self._connection
        lost, self._connection, self._publishing = self._connection, None, None
        if lost is not None:
            await _quietly_closed(lost)
        # Not `aio_pika.connect`: a connection that it could not open is closed by the garbage collector, at any time.
        connection = aio_pika.Connection(
            make_url(self._url, heartbeat=_HEARTBEAT_SECONDS),
            client_properties={"connection_name": self._name},
        )
        try:
            await connection.connect(timeout=_CONNECT_SECONDS)
            async with asyncio.timeout(_CONNECT_SECONDS + self._settle):
                await _declare(connection, self._queues, self._settle)
        except BaseException:
            await _quietly_closed(connection)
            raise
        self._connection = connection
        return connection

    async def close(self) -> None:
        self._closed = True
        connection, self._connection = self._connection, None
        if connection is not None:
            await _quietly_closed(connection)


def _is_open(connection: AbstractConnection) -> bool:
    """aio-pika's own `is_closed` stays False when the other side went away."""
    return connection.transport is not None and not connection.transport.connection.is_closed


async def _channel(connection: AbstractConnection, *, confirms: bool = False) -> AbstractChannel:
    try:
        return await connection.channel(publisher_confirms=confirms, on_return_raises=confirms)
    except RuntimeError as error:  # what a connection that has just died answers
        raise ConnectionError("the connection is closed") from error


async def _quietly_closed(closable: AbstractConnection | AbstractChannel) -> None:
    try:
        async with asyncio.timeout(_CLOSE_SECONDS):
            await closable.close()
    except LOST as error:
        _log.debug("broker_close_failed", error=type(error).__name__)


async def _declare(connection: AbstractConnection, queues: Iterable[Queue], settle: float) -> None:
    """Exchange, queues and bindings, repeatable; where a queue is new, give it time to be led."""
    fresh = [queue for queue in queues if not await _exists(connection, queue)]
    channel = await _channel(connection)
    exchange = await channel.declare_exchange(DEAD_LETTER_EXCHANGE, aio_pika.ExchangeType.DIRECT, durable=True)
    for queue in queues:
        declared = await channel.declare_queue(queue.name, durable=True, arguments=queue.arguments)
        if queue.dead_letters is None:
            await declared.bind(exchange, routing_key=queue.name)
    await channel.close()
    if fresh:
        _log.debug("broker_queues_declared", queues=[queue.name for queue in fresh])
        await asyncio.sleep(settle)


async def _exists(connection: AbstractConnection, queue: Queue) -> bool:
    channel = await _channel(connection)
    try:
        await channel.declare_queue(queue.name, passive=True)
    except ChannelNotFoundEntity:
        return False  # the broker has closed the channel
    await channel.close()
    return True


class _Delivery:
    def __init__(self, broker: RabbitBroker, message: AbstractIncomingMessage, queue: Queue) -> None:
        self.body = message.body
        self.message_id = message.message_id or ""
        self.redelivered = bool(message.redelivered)
        self.reason = _reason(message)
        self._broker = broker
        self._message = message
        self._queue = queue
        self._settled = False

    async def ack(self) -> None:
        await self._settle(self._message.ack)

    async def requeue(self) -> None:
        await self._settle(lambda: self._message.nack(requeue=True))

    async def dead_letter(self, why: str) -> None:
        """A copy that carries the reason is confirmed first, then the original is acknowledged: twice beats never."""
        if self._settled:
            return
        if self._queue.dead_letters is not None:
            await self._broker.publish_with(self._queue.dead_letters, self.body, self.message_id, {REASON_HEADER: why})
        await self.ack()

    async def _settle(self, send: Callable[[], Any]) -> None:
        if self._settled:
            return
        self._settled = True
        try:
            await send()
        except LOST as error:  # the channel is dead: the broker delivers the message again
            _log.info("delivery_settled_too_late", message_id=self.message_id, error=type(error).__name__)


def _reason(message: AbstractIncomingMessage) -> str | None:
    reason = message.headers.get(REASON_HEADER) or message.headers.get("x-first-death-reason")
    return str(reason) if reason is not None else None


class _Subscription:
    def __init__(self, broker: RabbitBroker, link: _Link, queue: Queue, prefetch: int) -> None:
        self._broker = broker
        self._link = link
        self._queue = queue
        self._prefetch = prefetch
        self._waiting: asyncio.Queue[_Delivery | None] = asyncio.Queue()
        self._channel: AbstractChannel | None = None
        self._feeder: asyncio.Task[None] | None = None
        self._stopped = False

    async def __aenter__(self) -> Self:
        self._feeder = asyncio.create_task(self._feed(), name=f"subscription of {self._queue.name}")
        self._feeder.add_done_callback(lambda _: self._waiting.put_nowait(None))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()
        if self._channel is not None:
            await _quietly_closed(self._channel)  # whatever is unsettled goes back to the queue

    async def __aiter__(self) -> AsyncIterator[_Delivery]:
        while not self._stopped:
            delivery = await self._waiting.get()
            if delivery is None:
                self._waiting.put_nowait(None)  # for the next one who iterates
                if self._feeder is not None and self._feeder.done():
                    self._feeder.result()  # it never ends by itself unless it failed
                return
            yield delivery

    async def stop(self) -> None:
        if self._stopped:
            return
        self._stopped = True
        feeder, self._feeder = self._feeder, None
        if feeder is not None:
            feeder.cancel()
            await asyncio.wait([feeder])
        for delivery in self._forget():
            await delivery.requeue()
        self._waiting.put_nowait(None)  # `_forget` may have taken the one that the feeder's end put in

    def _forget(self) -> list[_Delivery]:
        forgotten = []
        while not self._waiting.empty():
            delivery = self._waiting.get_nowait()
            if delivery is not None:
                forgotten.append(delivery)
        return forgotten

    async def _feed(self) -> None:
        """Consume, and after a loss consume again, until cancelled. A cancelled feeder leaves its channel open."""
        while True:
            try:
                await self._consume()
            except LOST as error:
                _log.debug("broker_still_lost", queue=self._queue.name, error=type(error).__name__)
            channel, self._channel = self._channel, None
            if channel is not None and not channel.is_closed:
                await _quietly_closed(channel)
            self._forget()
            await asyncio.sleep(_PAUSE_SECONDS)

    async def _consume(self) -> None:
        """Until the channel dies or the broker cancels the consumer."""
        over = asyncio.Event()
        connection = await self._link.connection()
        async with asyncio.timeout(_CONNECT_SECONDS):
            channel = self._channel = await _channel(connection)
            channel.close_callbacks.add(lambda *_: over.set())
            underlay = await channel.get_underlay_channel()
            underlay.on_consumer_cancel_callbacks.add(lambda _: over.set())
            await channel.set_qos(prefetch_count=self._prefetch)
            queue = await channel.get_queue(self._queue.name, ensure=False)
            tag = await queue.consume(self._take)
        try:
            await over.wait()
        except asyncio.CancelledError:
            await self._cancel_consumer(channel, tag)
            raise
        _log.warning("broker_lost", queue=self._queue.name)

    async def _take(self, message: AbstractIncomingMessage) -> None:
        """Only puts it in line: aio-pika cancels this when the channel dies, so no work may be done here."""
        self._waiting.put_nowait(_Delivery(self._broker, message, self._queue))

    async def _cancel_consumer(self, channel: AbstractChannel, tag: str) -> None:
        try:
            async with asyncio.timeout(_CLOSE_SECONDS):
                underlay = await channel.get_underlay_channel()
                await underlay.basic_cancel(tag)
        except LOST as error:
            _log.debug("broker_cancel_failed", error=type(error).__name__)


class RabbitBroker:
    """`Broker` on the RabbitMQ at `url`. `patience`: seconds a publisher goes on trying before BrokerUnavailable.

    `settle`: seconds to leave new queues alone.
    """

    survives_restart = True

    def __init__(
        self,
        url: str,
        *,
        name: str = "mailvet",
        patience: float = 20.0,
        settle: float = _SETTLE_SECONDS,
        queues: Iterable[Queue] = QUEUES,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._place = _place(url)
        self._patience = patience
        self._clock = clock
        every = tuple(queues)
        self._publish_link = _Link(url, f"{name} publishes", every, settle)
        self._consume_link = _Link(url, f"{name} consumes", every, settle)

    async def __aenter__(self) -> Self:
        try:
            await self._publish_link.connection()
        except LOST as error:
            await self._publish_link.close()
            raise BrokerUnavailable(f"no broker at {self._place}: {type(error).__name__}") from error
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._consume_link.close()
        await self._publish_link.close()

    async def publish(self, queue: Queue, body: bytes, message_id: str) -> None:
        await self.publish_with(queue, body, message_id, {})

    async def publish_with(self, queue: Queue, body: bytes, message_id: str, headers: dict[str, str]) -> None:
        """`publish`, with headers."""
        deadline = self._clock() + self._patience
        while True:
            try:
                await self._publish_once(queue, body, message_id, headers)
            except PublishError as error:
                raise BrokerUnavailable(f"there is no queue {queue.name}") from error
            except DeliveryError as error:
                raise BrokerUnavailable(f"queue {queue.name} takes no more") from error
            except LOST as error:
                if self._clock() + _PAUSE_SECONDS >= deadline:
                    raise BrokerUnavailable(f"no confirm from {self._place}: {type(error).__name__}") from error
                await asyncio.sleep(_PAUSE_SECONDS)
            else:
                return

    async def _publish_once(self, queue: Queue, body: bytes, message_id: str, headers: dict[str, str]) -> None:
        message = aio_pika.Message(
            body, message_id=message_id, headers=dict(headers), delivery_mode=aio_pika.DeliveryMode.PERSISTENT
        )
        async with asyncio.timeout(min(_ATTEMPT_SECONDS, self._patience)):
            channel = await self._publish_link.publishing()
            await channel.default_exchange.publish(message, routing_key=queue.name, mandatory=True)

    def subscribe(self, queue: Queue, prefetch: int) -> _Subscription:
        return _Subscription(self, self._consume_link, queue, prefetch)

    async def check(self) -> None:
        await self._answered(lambda channel: channel.declare_exchange(DEAD_LETTER_EXCHANGE, passive=True))

    async def depth(self, queue: Queue) -> int:
        found = await self._answered(lambda channel: channel.declare_queue(queue.name, passive=True))
        return int(found.declaration_result.message_count or 0)

    async def _answered(self, ask: Callable[[AbstractChannel], Awaitable[T]]) -> T:
        """On a channel of its own: a refusal closes the channel it happens on."""
        try:
            async with asyncio.timeout(_CONNECT_SECONDS):
                channel = await _channel(await self._publish_link.connection())
                answer = await ask(channel)
                await channel.close()
        except LOST as error:
            raise BrokerUnavailable(f"no answer from {self._place}: {type(error).__name__}") from error
        return answer


def _place(url: str) -> str:
    """Host and port: a URL may hold a password, which must not reach a log."""
    parts = urlsplit(url)
    return f"{parts.hostname or 'localhost'}:{parts.port or 5672}"
