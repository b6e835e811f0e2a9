"""The machine killed between any two of its steps: every address gets one verdict, every file ends, money once."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from gateway.batches.dispatch import PUBLISH_LEASE
from gateway.batches.repair import MOST_LOST
from gateway.batches.store import RECEIVING_LEASE
from gateway.collections import BATCHES, FILES
from shared.topology import RESULTS, WORK
from tests.integration.machine_pieces import CREDITS, Pieces
from tests.integration.scripted_validator import answer, arrived
from tests.servers import ValkeyServer

THIRTY = [f"ok{n}@a.example.com" for n in range(28)] + ["no@b.example.com", "dunno@b.example.com"]


@pytest.fixture
async def pieces(tmp_path, valkey: ValkeyServer) -> AsyncIterator[Pieces]:
    async with Pieces(tmp_path, valkey.url) as made:
        yield made


async def run_to_the_end(pieces: Pieces, file_id: str, rounds: int = 20) -> None:
    """Turn every wheel until the file has ended."""
    for _ in range(rounds):
        await pieces.machine.dispatcher.round()
        for work in await pieces.take():
            await pieces.machine.recorder.record(arrived(work))
        await pieces.machine.tally.count(file_id)
        if (await pieces.file(file_id))["status"] in ("completed", "cancelled", "failed"):
            return
        pieces.now += 301
        pieces.machine.dispatcher.wake(file_id)
        await pieces.machine.repair.sweep()
    raise AssertionError(await pieces.file(file_id))


async def check_ended(pieces: Pieces, file_id: str, charged: int, results: int) -> None:
    file = await pieces.file(file_id)
    assert (file["status"], file["creditsCharged"], file["settled"]) == ("completed", charged, True)
    assert file["processed"] == results
    rows = [result["row"] for batch in await pieces.batches(file_id) for result in batch["results"]]
    assert sorted(rows) == sorted(set(rows))
    assert len(rows) == results
    assert await pieces.reserved() == 0
    assert await pieces.owned() == CREDITS - charged


async def test_killed_after_the_lease_and_before_the_publish(pieces: Pieces) -> None:
    await pieces.add("f", THIRTY)
    pieces.broker.away = True
    dispatcher = pieces.machine.dispatcher
    chosen = await dispatcher._choose()
    pieces.broker.publish = killed  # type: ignore[method-assign]
    with pytest.raises(Killed):
        await dispatcher._send(chosen[0])
    del pieces.broker.publish
    pieces.broker.away = False
    pieces.restart()
    assert (await pieces.statuses("f")).count("dispatched") == 1
    await pieces.machine.repair.sweep()
    assert (await pieces.statuses("f")).count("dispatched") == 1  # its short lease still runs
    pieces.now += PUBLISH_LEASE
    await pieces.machine.repair.sweep()
    assert await pieces.statuses("f") == ["pending"] * 3
    await run_to_the_end(pieces, "f")
    await check_ended(pieces, "f", charged=29, results=30)


class Killed(BaseException):
    pass


async def killed(*_: object) -> None:
    raise Killed


async def test_the_broker_is_away_and_comes_back(pieces: Pieces) -> None:
    from shared.errors import BrokerUnavailable

    await pieces.add("f", THIRTY)
    pieces.broker.away = True
    with pytest.raises(BrokerUnavailable):
        await pieces.machine.dispatcher.round()
    assert await pieces.statuses("f") == ["pending"] * 3
    pieces.broker.away = False
    await run_to_the_end(pieces, "f")
    await check_ended(pieces, "f", charged=29, results=30)


async def test_a_lost_confirm_sends_twice_and_counts_once(pieces: Pieces) -> None:
    from shared.errors import BrokerUnavailable

    await pieces.add("f", THIRTY)
    pieces.broker.loses_confirms = True
    with pytest.raises(BrokerUnavailable):
        await pieces.machine.dispatcher.round()
    pieces.broker.loses_confirms = False
    first = await pieces.take()
    assert len(first) == 3
    assert await pieces.statuses("f") == ["pending"] * 3
    assert await pieces.machine.recorder.record(arrived(first[0]))  # of a batch that is pending again
    assert sorted(await pieces.statuses("f")) == ["done", "pending", "pending"]
    await pieces.machine.dispatcher.round()
    second = await pieces.take()
    assert len(second) == 2
    for work in [*second, *first]:
        await pieces.machine.recorder.record(arrived(work))
    await pieces.machine.tally.count("f")
    await check_ended(pieces, "f", charged=29, results=30)


async def test_the_same_result_ten_times_is_one_result(pieces: Pieces) -> None:
    await pieces.add("f", ["later1@a.example.com", *THIRTY[:5]])
    await pieces.machine.dispatcher.round()
    [work] = await pieces.take()
    recorded = [await pieces.machine.recorder.record(arrived(work)) for _ in range(10)]
    assert recorded == [True] + [False] * 9
    [batch] = await pieces.batches("f")
    assert (batch["status"], batch["look"], batch["processedEmails"]) == ("pending", 1, 5)
    pieces.now += 60
    pieces.machine.dispatcher.wake("f")
    await pieces.machine.dispatcher.round()
    assert not await pieces.machine.recorder.record(arrived(work))  # of the look before
    [again] = await pieces.take()
    assert (again.emails, again.look, again.last_look) == (["later1@a.example.com"], 1, False)
    assert await pieces.machine.recorder.record(arrived(again))
    await pieces.machine.tally.count("f")
    await check_ended(pieces, "f", charged=6, results=6)


async def test_killed_between_recording_and_counting(pieces: Pieces) -> None:
    await pieces.add("f", THIRTY)
    await pieces.machine.dispatcher.round()
    for work in await pieces.take():
        await pieces.machine.recorder.record(arrived(work))
    pieces.restart()
    await pieces.machine.repair.at_start()
    for file_id in list(pieces.machine.tally._touched):
        await pieces.machine.tally.count(file_id)
    await check_ended(pieces, "f", charged=29, results=30)


@pytest.mark.parametrize("step", ["decided", "recounted", "paid"])
async def test_killed_while_settling(pieces: Pieces, step: str) -> None:
    await pieces.add("f", THIRTY)
    await pieces.machine.dispatcher.round()
    for work in await pieces.take():
        await pieces.machine.recorder.record(arrived(work))
    finisher = pieces.machine.finisher
    decided = await finisher._decide("f", "completed")
    assert decided is not None
    if step in ("recounted", "paid"):
        totals, _ = await finisher._recount("f")
    if step == "paid":
        await pieces.ledger.settle("org_a", "f", totals.billable)
    pieces.restart()
    await pieces.machine.repair.at_start()
    assert (await pieces.file("f"))["status"] == "settling"  # another gateway may be at it
    pieces.now += 60
    await pieces.machine.repair.sweep()
    await check_ended(pieces, "f", charged=29, results=30)
    assert await pieces.machine.finisher.complete("f") is None


async def test_a_broker_that_forgot_everything_with_its_process(tmp_path, valkey: ValkeyServer) -> None:
    async with Pieces(tmp_path, valkey.url, survives=False) as pieces:
        await pieces.add("f", THIRTY)
        for _ in range(MOST_LOST + 2):
            assert await pieces.machine.dispatcher.round() == 3
            await pieces.take()  # lost
            pieces.restart()
            await pieces.machine.repair.at_start()
            assert await pieces.statuses("f") == ["pending"] * 3
        await run_to_the_end(pieces, "f")
        await check_ended(pieces, "f", charged=29, results=30)


async def test_a_message_that_still_waits_is_not_sent_again(pieces: Pieces) -> None:
    await pieces.add("f", THIRTY)
    await pieces.machine.dispatcher.round()
    for _ in range(10):  # the validators are away for hours
        pieces.now += 900
        await pieces.machine.repair.sweep()
        await pieces.machine.dispatcher.round()
    assert await pieces.broker.depth(WORK) == 3
    await run_to_the_end(pieces, "f")
    await check_ended(pieces, "f", charged=29, results=30)


async def test_a_message_overtaken_by_a_later_one_was_lost(pieces: Pieces) -> None:
    await pieces.add("f", THIRTY[:10])
    await pieces.machine.dispatcher.round()
    [lost] = await pieces.take()
    pieces.now += 1
    await pieces.add("g", THIRTY)
    await pieces.machine.dispatcher.round()
    overtaking, *_ = await pieces.take()
    await pieces.broker.publish(WORK, overtaking.encode(), "something still waits")
    pieces.now += 900
    await pieces.machine.recorder.record(arrived(overtaking))
    await pieces.machine.repair.sweep()
    [batch] = await pieces.batches("f")
    assert (batch["status"], batch["attempt"], batch["lost"]) == ("pending", lost.attempt, 1)


async def test_a_batch_that_always_vanishes_becomes_unknown_and_costs_nothing(pieces: Pieces) -> None:
    await pieces.add("f", THIRTY[:10])
    for _ in range(MOST_LOST):
        pieces.machine.dispatcher.wake("f")
        assert await pieces.machine.dispatcher.round() == 1
        await pieces.take()
        pieces.now += 901
        await pieces.machine.repair.sweep()
    await pieces.machine.tally.count("f")
    await check_ended(pieces, "f", charged=0, results=10)
    assert (await pieces.file("f"))["reasons"] == {"timeout": 10}


async def test_two_gateways_send_each_batch_once_and_finish_once(pieces: Pieces) -> None:
    import asyncio

    await pieces.add("f", [f"ok{n}@d{n // 10:02}.example.com" for n in range(200)])
    other = pieces.build()
    sent = await asyncio.gather(pieces.machine.dispatcher.round(), other.dispatcher.round())
    assert sum(sent) == 20
    works = await pieces.take()
    assert len({work.batch_id for work in works}) == len(works) == 20
    for work in works:
        await asyncio.gather(pieces.machine.recorder.record(arrived(work)), other.recorder.record(arrived(work)))
    await asyncio.gather(pieces.machine.tally.count("f"), other.tally.count("f"))
    await check_ended(pieces, "f", charged=200, results=200)


async def test_a_file_that_was_being_stored_when_the_gateway_died_leaves_nothing(pieces: Pieces) -> None:
    await pieces.add("f", THIRTY, accept=False)
    assert await pieces.reserved() == 30
    pieces.restart()
    await pieces.machine.repair.at_start()
    assert await pieces.documents.get(FILES, "f") is not None  # another gateway may be storing it
    pieces.now += RECEIVING_LEASE
    await pieces.machine.repair.sweep()
    assert await pieces.documents.get(FILES, "f") is None
    assert await pieces.documents.count(BATCHES, {"fileId": "f"}) == 0
    assert await pieces.reserved() == 0


async def test_results_of_an_erased_file_are_dropped(pieces: Pieces) -> None:
    await pieces.add("f", THIRTY)
    await pieces.machine.dispatcher.round()
    works = await pieces.take()
    await pieces.machine.recorder.record(arrived(works[0]))
    await pieces.machine.eraser.erase(await pieces.file("f"))
    for work in works:
        assert not await pieces.machine.recorder.record(arrived(work))
    file = await pieces.file("f")
    assert (file["status"], file["processed"], file["eraseState"]) == ("cancelled", 10, "done")
    assert await pieces.documents.count(BATCHES, {"fileId": "f"}) == 0
    assert (await pieces.reserved(), await pieces.owned()) == (0, CREDITS - file["creditsCharged"])


async def test_killed_in_the_middle_of_erasing(pieces: Pieces) -> None:
    await pieces.add("f", THIRTY)
    await pieces.machine.dispatcher.round()
    await pieces.machine.finisher.begin_cancel("f")
    pieces.restart()
    file = await pieces.file("f")
    from shared.documents import Change

    await pieces.documents.update(FILES, "f", Change(set={"eraseState": "running", "erasedAt": pieces.now}))
    await pieces.machine.repair.sweep()
    file = await pieces.file("f")
    assert (file["status"], file["eraseState"]) == ("cancelled", "done")
    assert await pieces.reserved() == 0


async def test_a_file_whose_time_is_over_is_erased(pieces: Pieces) -> None:
    await pieces.add("f", THIRTY)
    await run_to_the_end(pieces, "f")
    from shared.documents import Change

    await pieces.documents.update(FILES, "f", Change(set={"expiresAt": pieces.now + 5}))
    await pieces.machine.repair.sweep()
    assert len(await pieces.batches("f")) == 3
    pieces.now += 5
    await pieces.machine.repair.sweep()
    assert await pieces.batches("f") == []
    assert (await pieces.file("f"))["valid"] == 28


async def test_batches_that_are_missing_end_the_file_as_failed(pieces: Pieces) -> None:
    await pieces.add("f", THIRTY)
    await pieces.machine.dispatcher.round()
    works = await pieces.take()
    for work in works[1:]:
        await pieces.machine.recorder.record(arrived(work))
    await pieces.documents.delete(BATCHES, works[0].batch_id)
    closed = await pieces.machine.finisher.complete("f")
    assert closed is not None
    assert (closed["status"], closed["failure"] is not None) == ("failed", True)
    assert await pieces.reserved() == 0


async def test_what_is_no_result_goes_to_the_dead_letters(pieces: Pieces) -> None:
    from shared.topology import DEAD
    from tests.integration.machine_pieces import drain

    await pieces.add("f", THIRTY[:10])
    await pieces.machine.dispatcher.round()
    [work] = await pieces.take()
    short = answer(work)
    short.found.pop()
    for body in (b"not json", b'{"schema": 99}', short.encode()):
        await pieces.broker.publish(RESULTS, body, "bad")
    async with pieces.broker.subscribe(RESULTS, 3) as deliveries:
        seen = 0
        async for delivery in deliveries:
            await pieces.machine.recorder._handle(delivery)
            seen += 1
            if seen == 3:
                break
    assert len(await drain(pieces.broker, DEAD)) == 3
    assert await pieces.statuses("f") == ["dispatched"]
