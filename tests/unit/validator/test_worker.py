"""The worker: batches in, confirmed results out, and only then the acknowledgement."""

import asyncio

import pytest

from shared.broker.inprocess import InProcessBroker
from shared.errors import BrokerUnavailable
from shared.messages import PutOff, ResultMessage, WorkMessage
from shared.topology import DEAD, RESULTS, WORK
from shared.verdict import Finding, Reason, RiskLevel, Status, Verdict
from shared.verdicts import Verdicts
from validator.worker import Worker

FOUND = Finding(status=Status.VALID, reason=Reason.ACCEPTED, risk_level=RiskLevel.LOW, score=90)


def verdict_about(email):
    return Verdict(email=email, normalized=email, finding=FOUND, checked_at=f"about {email}")


class ScriptedProbe:
    """The other side of the probe's interface: accepts all but `later*`, and can wait or fail."""

    def __init__(self):
        self.asked = []
        self.files = []
        self.gate = asyncio.Event()
        self.gate.set()
        self.failures = 0

    async def check_batch(self, emails, *, look, last_look, trace, deadline, on_progress=None, file_id=""):
        self.asked.append(list(emails))
        self.files.append(file_id)
        await self.gate.wait()
        if self.failures:
            self.failures -= 1
            raise RuntimeError("a bug of ours")
        results = [None if email.startswith("later") else verdict_about(email) for email in emails]
        put_off = [PutOff(index=i, reason=Reason.PUT_OFF, after=9.0) for i, r in enumerate(results) if r is None]
        return Verdicts.of(emails, results), put_off


class NoCache:
    def __init__(self, known=()):
        self.known = {email: verdict_about(email) for email in known}
        self.remembered = []

    async def recall(self, org_id, emails):
        return {i: self.known[e] for i, e in enumerate(emails) if e in self.known}

    async def remember(self, org_id, results):
        self.remembered += [r.email for r in results if r is not None]


class Progress:
    def of_batch(self, file_id, batch_id, attempt, *, already):
        return lambda done: None

    def forget(self, batch_id):
        pass


@pytest.fixture
async def broker():
    async with InProcessBroker() as opened:
        yield opened


def work(*emails, batch_id="f1:0"):
    return WorkMessage(batch_id=batch_id, file_id="f1", org_id="o1", attempt=2, look=1, emails=list(emails))


def worker_on(broker, probe, cache=None):
    return Worker(
        broker=broker,
        probe=probe,
        cache=cache or NoCache(),
        progress=Progress(),
        prefetch=4,
        batch_deadline=5,
        fault_pause=0.01,
    )


async def next_result(broker):
    async with asyncio.timeout(5), broker.subscribe(RESULTS, 1) as deliveries:
        async for delivery in deliveries:
            await delivery.ack()
            return ResultMessage.decode(delivery.body)


async def stopped(worker, task):
    worker.stop()
    async with asyncio.timeout(5):
        await task


async def test_a_batch_comes_back_with_a_result_or_a_put_off_for_each_address(broker):
    worker = worker_on(broker, ScriptedProbe())
    task = asyncio.create_task(worker.run())
    await broker.publish(WORK, work("ann@a.test", "later@a.test").encode(), "f1:0:2")
    message = await next_result(broker)
    await stopped(worker, task)
    assert (message.batch_id, message.attempt, message.look) == ("f1:0", 2, 1)
    assert message.checked_at == ["about ann@a.test", ""]
    assert [(p.index, p.after) for p in message.put_off] == [(1, 9.0)]
    assert await broker.depth(WORK) == 0


async def test_cached_verdicts_are_not_asked_again_and_keep_their_place(broker):
    probe, cache = ScriptedProbe(), NoCache(known=["ben@a.test"])
    worker = worker_on(broker, probe, cache)
    task = asyncio.create_task(worker.run())
    await broker.publish(WORK, work("later@a.test", "ben@a.test", "cy@a.test").encode(), "f1:0:2")
    message = await next_result(broker)
    await stopped(worker, task)
    assert probe.asked == [["later@a.test", "cy@a.test"]]
    assert message.checked_at == ["", "about ben@a.test", "about cy@a.test"]
    assert [p.index for p in message.put_off] == [0]
    assert cache.remembered == ["cy@a.test"]


async def test_bytes_that_are_no_message_go_to_the_dead_letters(broker):
    worker = worker_on(broker, ScriptedProbe())
    task = asyncio.create_task(worker.run())
    await broker.publish(WORK, b'{"schema": 99}', "odd")
    await broker.publish(WORK, work("ann@a.test").encode(), "f1:0:2")
    await next_result(broker)
    await stopped(worker, task)
    assert await broker.depth(DEAD) == 1


async def test_a_fault_of_ours_hands_the_batch_back_and_it_is_done_the_next_time(broker):
    probe = ScriptedProbe()
    probe.failures = 2
    worker = worker_on(broker, probe)
    task = asyncio.create_task(worker.run())
    await broker.publish(WORK, work("ann@a.test").encode(), "f1:0:2")
    message = await next_result(broker)
    await stopped(worker, task)
    assert len(probe.asked) == 3
    assert message.checked_at[0] == "about ann@a.test"


async def test_stopping_lets_running_batches_finish(broker):
    probe = ScriptedProbe()
    probe.gate.clear()
    worker = worker_on(broker, probe)
    task = asyncio.create_task(worker.run())
    await broker.publish(WORK, work("ann@a.test").encode(), "f1:0:2")
    while not probe.asked:
        await asyncio.sleep(0)
    worker.stop()
    await asyncio.sleep(0)
    assert not task.done()
    probe.gate.set()
    async with asyncio.timeout(5):
        await task
    assert await broker.depth(RESULTS) == 1
    assert await broker.depth(WORK) == 0


class NoResults(InProcessBroker):
    """A broker that never confirms results."""

    async def publish(self, queue, body, message_id):
        if queue is RESULTS:
            raise BrokerUnavailable("no confirm")
        await super().publish(queue, body, message_id)


async def test_work_whose_results_were_not_confirmed_is_never_acknowledged():
    async with NoResults() as broker:
        probe = ScriptedProbe()
        worker = worker_on(broker, probe)
        task = asyncio.create_task(worker.run())
        await broker.publish(WORK, work("ann@a.test").encode(), "f1:0:2")
        while len(probe.asked) < 2:
            await asyncio.sleep(0)
        probe.gate.clear()
        worker.stop()
        probe.gate.set()
        async with asyncio.timeout(5):
            await task
        assert await broker.depth(WORK) + await broker.depth(DEAD) == 1
