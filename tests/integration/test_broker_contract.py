"""One contract, three brokers: queues in this process, the same lent to another one, and a RabbitMQ server."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import socket
import sys
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

import aio_pika
import pytest

from shared.broker import Broker, Delivery
from shared.broker.inprocess import InProcessBroker
from shared.broker.lent import LentBroker, lend
from shared.broker.rabbitmq import RabbitBroker
from shared.errors import BrokerUnavailable
from shared.topology import DEAD, DEAD_LETTER_EXCHANGE, QUEUES, WORK, Queue
from tests.servers import RabbitServer

LIMIT = 3
PROMPT = 5.0  # seconds; nothing here takes longer unless it is broken


def make_queues(**dead_arguments: Any) -> tuple[Queue, Queue]:
    """A work queue with its dead letters, under names of their own."""
    name = "t" + secrets.token_hex(6)
    dead = Queue(f"{name}.dead", None, {"x-queue-type": "quorum", "x-delivery-limit": 1_000, **dead_arguments})
    arguments = {
        **WORK.arguments,
        "x-delivery-limit": LIMIT,
        "x-dead-letter-exchange": DEAD_LETTER_EXCHANGE,
        "x-dead-letter-routing-key": dead.name,
    }
    return Queue(name, dead, arguments), dead


@contextlib.asynccontextmanager
async def lent(queues: tuple[Queue, Queue]) -> AsyncIterator[LentBroker]:
    """Both ends in this process, with a real socket between them."""
    here, there = socket.socketpair()
    async with InProcessBroker(queues) as owned:
        owner = asyncio.create_task(lend(owned, *await asyncio.open_connection(sock=here), queues))
        async with LentBroker(*await asyncio.open_connection(sock=there)) as broker:
            yield broker
        await owner


@pytest.fixture(params=["inprocess", "lent", pytest.param("rabbitmq", marks=pytest.mark.rabbitmq)])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def server(request: pytest.FixtureRequest, kind: str) -> RabbitServer | None:
    return request.getfixturevalue("rabbit") if kind == "rabbitmq" else None


@pytest.fixture
def queues() -> tuple[Queue, Queue]:
    return make_queues()


def make_broker(
    kind: str, server: RabbitServer | None, queues: tuple[Queue, Queue]
) -> contextlib.AbstractAsyncContextManager[Broker]:
    if server is not None:
        return RabbitBroker(server.url, queues=queues, settle=0)
    return lent(queues) if kind == "lent" else InProcessBroker(queues)


@pytest.fixture
async def broker(kind: str, server: RabbitServer | None, queues: tuple[Queue, Queue]) -> AsyncIterator[Broker]:
    async with make_broker(kind, server, queues) as opened:
        yield opened


async def take(deliveries: Any, count: int) -> list[Delivery]:
    taken: list[Delivery] = []
    async with asyncio.timeout(PROMPT):
        async for delivery in deliveries:
            taken.append(delivery)
            if len(taken) == count:
                return taken
    raise AssertionError("the iteration ended early")


async def depth_becomes(broker: Broker, queue: Queue, wanted: int) -> None:
    """RabbitMQ counts a moment later."""
    deadline = time.monotonic() + PROMPT
    while (found := await broker.depth(queue)) != wanted:
        assert time.monotonic() < deadline, f"{found} messages wait, not {wanted}"
        await asyncio.sleep(0.02)


async def test_messages_arrive_in_order_as_they_were_sent(broker: Broker, queues: tuple[Queue, Queue]) -> None:
    work, _ = queues
    bodies = [b"", b"\x00\xff" * 500, *(str(number).encode() for number in range(20))]
    for number, body in enumerate(bodies):
        await broker.publish(work, body, f"id-{number}")
    async with broker.subscribe(work, 50) as deliveries:
        taken = await take(deliveries, len(bodies))
        assert [delivery.body for delivery in taken] == bodies
        assert [delivery.message_id for delivery in taken] == [f"id-{n}" for n in range(len(bodies))]
        assert not any(delivery.redelivered for delivery in taken)
        assert all(delivery.reason is None for delivery in taken)
        for delivery in taken:
            await delivery.ack()
    await depth_becomes(broker, work, 0)


async def test_no_more_are_out_than_prefetch_allows(broker: Broker, queues: tuple[Queue, Queue]) -> None:
    work, _ = queues
    for number in range(5):
        await broker.publish(work, b"x", str(number))
    async with broker.subscribe(work, 2) as deliveries:
        first, second = await take(deliveries, 2)
        await depth_becomes(broker, work, 3)
        fetch = asyncio.ensure_future(take(deliveries, 1))
        done, _ = await asyncio.wait([fetch], timeout=0.1)
        assert not done
        await first.ack()
        assert [delivery.message_id for delivery in await fetch] == ["2"]
        await second.ack()


async def test_settling_twice_is_harmless(broker: Broker, queues: tuple[Queue, Queue]) -> None:
    work, dead = queues
    await broker.publish(work, b"x", "a")
    async with broker.subscribe(work, 5) as deliveries:
        (delivery,) = await take(deliveries, 1)
        await delivery.ack()
        await delivery.ack()
        await delivery.requeue()
        await delivery.dead_letter("too late")
        await broker.publish(work, b"y", "b")
        assert [one.message_id for one in await take(deliveries, 1)] == ["b"]  # the channel has survived it
    await depth_becomes(broker, work, 1)
    assert await broker.depth(dead) == 0


async def test_what_was_requeued_comes_back_marked(broker: Broker, queues: tuple[Queue, Queue]) -> None:
    work, _ = queues
    await broker.publish(work, b"x", "a")
    async with broker.subscribe(work, 1) as deliveries:
        (delivery,) = await take(deliveries, 1)
        await delivery.requeue()
        (again,) = await take(deliveries, 1)
        assert (again.message_id, again.body, again.redelivered) == ("a", b"x", True)
        await again.ack()


async def test_a_dead_letter_keeps_its_bytes_and_says_why(broker: Broker, queues: tuple[Queue, Queue]) -> None:
    work, dead = queues
    await broker.publish(work, b"\xffnot ours", "a")
    async with broker.subscribe(work, 1) as deliveries:
        (delivery,) = await take(deliveries, 1)
        await delivery.dead_letter("not a WorkMessage")
    await depth_becomes(broker, work, 0)
    async with broker.subscribe(dead, 1) as letters:
        (letter,) = await take(letters, 1)
        assert (letter.body, letter.message_id, letter.reason) == (b"\xffnot ours", "a", "not a WorkMessage")
        await letter.ack()


async def test_a_message_that_is_never_acknowledged_ends_as_a_dead_letter(
    broker: Broker, queues: tuple[Queue, Queue]
) -> None:
    work, dead = queues
    await broker.publish(work, b"poison", "a")
    async with broker.subscribe(work, 1) as deliveries:
        for _ in range(LIMIT + 1):
            (delivery,) = await take(deliveries, 1)
            await delivery.requeue()
        await depth_becomes(broker, dead, 1)
    async with broker.subscribe(dead, 1) as letters:
        (letter,) = await take(letters, 1)
        assert (letter.body, letter.reason) == (b"poison", "delivery_limit")
        await letter.ack()
    await depth_becomes(broker, work, 0)


async def test_leaving_gives_back_what_is_unsettled(broker: Broker, queues: tuple[Queue, Queue]) -> None:
    work, _ = queues
    for number in range(3):
        await broker.publish(work, b"x", str(number))
    async with broker.subscribe(work, 3) as deliveries:
        await take(deliveries, 2)
    await depth_becomes(broker, work, 3)
    async with broker.subscribe(work, 3) as deliveries:
        assert sorted(delivery.message_id for delivery in await take(deliveries, 3)) == ["0", "1", "2"]


async def test_stopping_ends_the_iteration_and_what_is_out_may_still_be_settled(
    broker: Broker, queues: tuple[Queue, Queue]
) -> None:
    work, _ = queues
    for number in range(10):
        await broker.publish(work, b"x", str(number))
    async with broker.subscribe(work, 6) as deliveries:
        taken = await take(deliveries, 2)
        await deliveries.stop()
        assert [one async for one in deliveries] == []
        await depth_becomes(broker, work, 8)  # those fetched but not handed out are back already
        await taken[0].ack()
        await taken[1].ack()
        await deliveries.stop()
    await depth_becomes(broker, work, 8)


async def test_stopping_wakes_every_one_who_waits(broker: Broker, queues: tuple[Queue, Queue]) -> None:
    work, _ = queues

    async def consume(deliveries: Any) -> int:
        return len([delivery async for delivery in deliveries])

    async with broker.subscribe(work, 1) as deliveries:
        waiting = [asyncio.ensure_future(consume(deliveries)) for _ in range(3)]
        await asyncio.sleep(0)
        await deliveries.stop()
        assert await asyncio.wait_for(asyncio.gather(*waiting), PROMPT) == [0, 0, 0]


async def test_two_consumers_share_the_work(broker: Broker, queues: tuple[Queue, Queue]) -> None:
    work, _ = queues
    async with broker.subscribe(work, 2) as one, broker.subscribe(work, 2) as other:
        for number in range(4):
            await broker.publish(work, b"x", str(number))
        taken = await take(one, 2) + await take(other, 2)
        assert sorted(delivery.message_id for delivery in taken) == ["0", "1", "2", "3"]
        for delivery in taken:
            await delivery.ack()


async def test_publishing_to_a_queue_that_is_not_there_raises(broker: Broker) -> None:
    with pytest.raises(BrokerUnavailable, match="no queue"):
        await broker.publish(Queue("t-nowhere"), b"x", "a")


async def test_a_full_queue_takes_no_more(kind: str, server: RabbitServer | None) -> None:
    queues = make_queues(**{"x-max-length": 2, "x-overflow": "reject-publish"})
    async with make_broker(kind, server, queues) as broker:
        # one at a time, for RabbitMQ's limit is soft by a message or two
        outcomes = [
            (await asyncio.gather(broker.publish(queues[1], b"x", "a"), return_exceptions=True))[0] for _ in range(10)
        ]
        assert outcomes[:2] == [None, None]
        assert isinstance(outcomes[-1], BrokerUnavailable)
        assert 2 <= await broker.depth(queues[1]) <= 4


async def test_a_closed_broker_says_so(kind: str, server: RabbitServer | None, queues: tuple[Queue, Queue]) -> None:
    async with make_broker(kind, server, queues) as broker:
        await broker.check()
    with pytest.raises(BrokerUnavailable):
        await broker.check()
    with pytest.raises(BrokerUnavailable):
        await broker.publish(queues[0], b"x", "a")


async def test_many_publishers_at_once_are_all_confirmed(broker: Broker, queues: tuple[Queue, Queue]) -> None:
    work, _ = queues
    await asyncio.gather(*(broker.publish(work, b"x" * 1_000, str(number)) for number in range(300)))
    await depth_becomes(broker, work, 300)


async def test_what_a_borrower_held_goes_back_when_it_dies(queues: tuple[Queue, Queue]) -> None:
    work, _ = queues
    here, there = socket.socketpair()
    async with InProcessBroker(queues) as owned:
        owner = asyncio.create_task(lend(owned, *await asyncio.open_connection(sock=here), queues))
        for number in range(3):
            await owned.publish(work, b"x", str(number))
        reader, writer = await asyncio.open_connection(sock=there)
        async with LentBroker(reader, writer) as borrowed:
            deliveries = borrowed.subscribe(work, 2)
            await deliveries.__aenter__()
            first, _ = await take(deliveries, 2)
            await first.ack()
            await depth_becomes(owned, work, 0)
            writer.transport.abort()
            await asyncio.wait_for(owner, PROMPT)
            await asyncio.wait_for(borrowed.gone.wait(), PROMPT)
            assert [delivery async for delivery in deliveries] == []
            with pytest.raises(BrokerUnavailable):
                await borrowed.publish(work, b"y", "late")
        assert await owned.depth(work) == 2
        async with owned.subscribe(work, 2) as others:
            assert [(one.message_id, one.redelivered) for one in await take(others, 2)] == [("1", True), ("2", True)]


async def test_the_embedded_broker_says_that_it_forgets() -> None:
    assert InProcessBroker.survives_restart is False
    assert LentBroker.survives_restart is False
    assert RabbitBroker.survives_restart is True


async def test_the_embedded_broker_has_the_queues_of_the_topology() -> None:
    async with InProcessBroker() as broker:
        assert [await broker.depth(queue) for queue in QUEUES] == [0] * len(QUEUES)


# --- only where there is a server to lose ---
async def test_a_broker_that_is_not_there_is_said_at_once_and_without_its_password() -> None:
    began = time.monotonic()
    with pytest.raises(BrokerUnavailable) as caught:
        await RabbitBroker("amqp://user:hunter2@127.0.0.1:1/").__aenter__()
    assert time.monotonic() - began < 1
    assert str(caught.value).startswith("no broker at 127.0.0.1:1")
    assert "hunter2" not in str(caught.value)


@pytest.mark.rabbitmq
async def test_a_wrong_password_is_said_without_it(rabbit: RabbitServer) -> None:
    with pytest.raises(BrokerUnavailable) as caught:
        await RabbitBroker(rabbit.url.replace("guest:guest", "guest:hunter2")).__aenter__()
    assert "hunter2" not in str(caught.value)


_HOLDS_UNTIL_KILLED = """
import asyncio, sys
from shared.broker.rabbitmq import RabbitBroker
from shared.topology import Queue

async def main():
    async with RabbitBroker(sys.argv[1], queues=()) as broker, broker.subscribe(Queue(sys.argv[2]), 1) as deliveries:
        async for delivery in deliveries:
            print(delivery.message_id, flush=True)

asyncio.run(main())
"""


@pytest.mark.rabbitmq
async def test_a_consumer_that_dies_hands_its_work_to_another(rabbit: RabbitServer) -> None:
    queues = make_queues()
    async with RabbitBroker(rabbit.url, queues=queues, settle=0) as survivor:
        await survivor.publish(queues[0], b"x", "a")
        victim = await asyncio.create_subprocess_exec(
            sys.executable, "-c", _HOLDS_UNTIL_KILLED, rabbit.url, queues[0].name, stdout=asyncio.subprocess.PIPE
        )
        assert victim.stdout is not None
        assert await asyncio.wait_for(victim.stdout.readline(), PROMPT) == b"a\n"
        victim.kill()
        await victim.wait()
        async with survivor.subscribe(queues[0], 1) as deliveries:
            (delivery,) = await take(deliveries, 1)
            assert delivery.redelivered
            await delivery.ack()


@pytest.mark.rabbitmq
async def test_a_queue_that_is_deleted_comes_back_with_the_next_connection(rabbit: RabbitServer) -> None:
    queues = make_queues()
    async with RabbitBroker(rabbit.url, queues=queues, settle=0) as broker:
        await broker.publish(queues[0], b"x", "a")
        async with broker.subscribe(queues[0], 1) as deliveries, asyncio.timeout(4 * PROMPT):
            (delivery,) = await take(deliveries, 1)
            async with await aio_pika.connect(rabbit.url) as connection:
                await (await connection.channel()).queue_delete(queues[0].name, timeout=PROMPT)
            await delivery.ack()
            with pytest.raises(BrokerUnavailable, match="no queue"):
                await broker.publish(queues[0], b"x", "a")
        with pytest.raises(BrokerUnavailable):
            await broker.depth(queues[0])
    async with RabbitBroker(rabbit.url, queues=queues, settle=0) as broker:
        await broker.publish(queues[0], b"x", "a")


@pytest.mark.rabbitmq
async def test_a_killed_broker_loses_nothing_that_it_confirmed_and_everyone_goes_on(rabbit: RabbitServer) -> None:
    """Publishers and a consumer run across a kill -9 of the node and its return."""
    async with (
        RabbitBroker(rabbit.url, patience=40, name="patient") as broker,
        RabbitBroker(rabbit.url, patience=0.5, name="impatient") as impatient,
    ):
        confirmed: set[str] = set()
        handled: set[str] = set()
        ending = asyncio.Event()

        async def publish(lane: int) -> None:
            number = 0
            while not ending.is_set():
                await broker.publish(WORK, b"x" * 15_000, f"{lane}.{number}")
                confirmed.add(f"{lane}.{number}")
                number += 1

        async def consume(deliveries: Any) -> None:
            async for delivery in deliveries:
                await asyncio.sleep(0)
                handled.add(delivery.message_id)
                await delivery.ack()  # the channel may have died: then it comes again

        async def until(true: Callable[[], bool]) -> None:
            deadline = time.monotonic() + 60
            while not true():
                assert time.monotonic() < deadline
                await asyncio.sleep(0.01)

        async with broker.subscribe(WORK, 20) as deliveries:
            consumer = asyncio.ensure_future(consume(deliveries))
            publishers = [asyncio.ensure_future(publish(lane)) for lane in range(8)]
            await until(lambda: len(confirmed) >= 300)
            await rabbit.kill()
            try:
                with pytest.raises(BrokerUnavailable, match="no confirm"):
                    await impatient.publish(DEAD, b"x", "a")
                with pytest.raises(BrokerUnavailable):
                    await impatient.check()
            finally:
                await rabbit.start()
            before = len(confirmed)
            await until(lambda: len(confirmed) >= before + 300)
            ending.set()
            await asyncio.wait_for(asyncio.gather(*publishers), 30)
            await until(lambda: confirmed <= handled)
            await deliveries.stop()
            await asyncio.wait_for(consumer, PROMPT)
        await impatient.check()
        await depth_becomes(broker, WORK, 0)
