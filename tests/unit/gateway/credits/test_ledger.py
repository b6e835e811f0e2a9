"""What the ledger promises, on the embedded store: no network."""

from __future__ import annotations

import asyncio
import contextlib

import pytest

from gateway.collections import CREDIT_ACCOUNTS, CREDIT_ENTRIES
from gateway.credits.check import recompute, recompute_all
from gateway.credits.ledger import MOST, Balance, Ledger
from gateway.problem import Problem
from shared.documents import Change, Documents
from tests.interrupted import Crash, Frozen, Interrupted

ORG = "org_one"


async def entries(documents: Documents) -> list[tuple[str, int, int, int]]:
    found = documents.scan(CREDIT_ENTRIES, {"orgId": ORG}, sort="at")
    return [(entry["_id"], entry["credits"], entry["amount"], entry["reserved"]) async for entry in found]


async def agrees(documents: Documents) -> Balance:
    """The account, once it was seen to follow from its entries."""
    check = await recompute(documents, Ledger(documents, lambda: 0.0), ORG)
    assert check.differences == ()
    return check.account


async def test_nobody_has_credits_until_they_are_given(ledger: Ledger) -> None:
    assert await ledger.balance(ORG) == Balance(0, 0, 0)


async def test_a_grant_counts_once_however_often_it_is_made(ledger: Ledger) -> None:
    assert await ledger.grant(ORG, 500, "welcome") is True
    assert await ledger.grant(ORG, 500, "welcome") is False
    assert await ledger.balance(ORG) == Balance(500, 0, 500)


async def test_a_hold_sets_credits_aside_and_leaves_the_balance(ledger: Ledger) -> None:
    await ledger.grant(ORG, 500, "welcome")
    await ledger.hold(ORG, "file1", 120)
    await ledger.hold(ORG, "file1", 120)
    assert await ledger.balance(ORG) == Balance(500, 120, 380)


async def test_settling_captures_the_charge_and_releases_the_rest(ledger: Ledger, documents: Documents) -> None:
    await ledger.grant(ORG, 500, "welcome")
    await ledger.hold(ORG, "file1", 120)
    await ledger.settle(ORG, "file1", 100)
    await ledger.settle(ORG, "file1", 100)
    assert await ledger.balance(ORG) == Balance(400, 0, 400)
    assert await entries(documents) == [
        ("grant:welcome", 500, 500, 0),
        ("hold:file1", 120, 0, 120),
        ("capture:file1", 100, -100, -100),
        ("release:file1", 20, 0, -20),
    ]


@pytest.mark.parametrize(("charge", "kinds"), [(0, ["release"]), (120, ["capture"]), (121, ["capture"])])
async def test_a_settlement_has_no_entries_of_zero_and_takes_no_more_than_was_held(
    ledger: Ledger, documents: Documents, charge: int, kinds: list[str]
) -> None:
    await ledger.grant(ORG, 500, "welcome")
    await ledger.hold(ORG, "file1", 120)
    await ledger.settle(ORG, "file1", charge)
    assert [entry[0].split(":")[0] for entry in await entries(documents)][2:] == kinds
    assert await ledger.balance(ORG) == Balance(500 - min(charge, 120), 0, 500 - min(charge, 120))


async def test_a_released_hold_gives_everything_back_and_is_not_made_again(ledger: Ledger) -> None:
    await ledger.grant(ORG, 500, "welcome")
    await ledger.hold(ORG, "file1", 120)
    await ledger.release(ORG, "file1")
    await ledger.release(ORG, "file1")
    await ledger.hold(ORG, "file1", 120)
    assert await ledger.balance(ORG) == Balance(500, 0, 500)


async def test_settling_what_was_never_held_does_nothing(ledger: Ledger) -> None:
    await ledger.settle(ORG, "file1", 10)
    await ledger.grant(ORG, 500, "welcome")
    await ledger.release(ORG, "file1")
    assert await ledger.balance(ORG) == Balance(500, 0, 500)


async def test_a_hold_above_what_is_available_is_402_leaves_no_trace_and_may_be_tried_again(
    ledger: Ledger, documents: Documents
) -> None:
    await ledger.grant(ORG, 100, "welcome")
    await ledger.hold(ORG, "file1", 60)
    with pytest.raises(Problem) as refused:
        await ledger.hold(ORG, "file2", 41)
    assert (refused.value.status, refused.value.code) == (402, "insufficient_credits")
    assert refused.value.extra == {"required": 41, "available": 40}
    assert len(await entries(documents)) == 2
    await ledger.grant(ORG, 1, "one more")
    await ledger.hold(ORG, "file2", 41)
    assert await ledger.balance(ORG) == Balance(101, 101, 0)


async def test_a_hold_of_nothing_needs_no_credits(ledger: Ledger) -> None:
    await ledger.hold(ORG, "file1", 0)
    await ledger.settle(ORG, "file1", 0)
    assert await ledger.balance(ORG) == Balance(0, 0, 0)


async def test_a_charge_takes_at_once_once_and_only_what_is_there(ledger: Ledger) -> None:
    await ledger.grant(ORG, 2, "welcome")
    await ledger.charge(ORG, 1, "single:a")
    await ledger.charge(ORG, 1, "single:a")
    assert await ledger.balance(ORG) == Balance(1, 0, 1)
    with pytest.raises(Problem, match="needs 2 credits; 1 are available"):
        await ledger.charge(ORG, 2, "single:b")
    await ledger.charge(ORG, 0, "single:c")


async def test_one_cause_may_have_a_movement_of_every_kind(ledger: Ledger, documents: Documents) -> None:
    await ledger.grant(ORG, 100, "x")
    await ledger.purchase(ORG, 100, "x")
    await ledger.refund(ORG, 10, "x")
    await ledger.adjust(ORG, 1, "x")
    await ledger.charge(ORG, 7, "x")
    await ledger.hold(ORG, "x", 50)
    await ledger.settle(ORG, "x", 20)
    assert await agrees(documents) == Balance(164, 0, 164)


async def test_refunds_and_purchases_reach_the_same_balance_in_any_order(ledger: Ledger) -> None:
    await ledger.refund(ORG, 1_000, "stripe:re_1")
    with pytest.raises(Problem, match="0 are available"):
        await ledger.hold(ORG, "file1", 1)
    assert await ledger.purchase(ORG, 1_000, "stripe:cs_1")
    assert not await ledger.refund(ORG, 1_000, "stripe:re_1")
    assert await ledger.balance(ORG) == Balance(0, 0, 0)


async def test_an_adjustment_goes_either_way(ledger: Ledger, documents: Documents) -> None:
    await ledger.adjust(ORG, 10, "goodwill")
    await ledger.adjust(ORG, -4, "mistake")
    assert await agrees(documents) == Balance(6, 0, 6)


@pytest.mark.parametrize("amount", [0, -1, MOST + 1, 2**63])
async def test_amounts_that_are_none_are_refused(ledger: Ledger, amount: int) -> None:
    with pytest.raises(ValueError, match="amount"):
        await ledger.grant(ORG, amount, "x")
    if amount:
        with pytest.raises(ValueError, match="amount"):
            await ledger.hold(ORG, "file1", amount)


@pytest.mark.parametrize("file_id", ["", "a.b", "$a", "a" * 65, "a\n"])
async def test_a_file_id_that_would_be_a_field_path_is_refused(ledger: Ledger, file_id: str) -> None:
    with pytest.raises(ValueError, match="file id"):
        await ledger.hold(ORG, file_id, 1)


async def test_a_cause_belongs_to_one_organisation(ledger: Ledger) -> None:
    await ledger.purchase(ORG, 5, "stripe:cs_1")
    with pytest.raises(ValueError, match="one organisation"):
        await ledger.purchase("org_two", 5, "stripe:cs_1")
    assert await ledger.balance("org_two") == Balance(0, 0, 0)


async def test_a_hundred_holds_at_once_never_take_more_than_there_is(documents: Documents) -> None:
    gateways = [Ledger(documents, lambda: 1.0) for _ in range(4)]
    await gateways[0].grant(ORG, 1_000, "welcome")

    async def hold(number: int) -> bool:
        try:
            await gateways[number % 4].hold(ORG, f"file{number}", 30)
        except Problem as problem:
            assert problem.status == 402  # noqa: PT017 - anything else is an error of its own
            return False
        return True

    assert sum(await asyncio.gather(*(hold(number) for number in range(100)))) == 33
    assert await agrees(documents) == Balance(1_000, 990, 10)


async def test_what_is_done_in_several_processes_at_once_is_done_once(documents: Documents) -> None:
    gateways = [Ledger(documents, lambda: 1.0) for _ in range(4)]
    granted = await asyncio.gather(*(gateway.grant(ORG, 1_000, "welcome") for gateway in gateways * 5))
    assert sum(granted) == 1
    await asyncio.gather(*(gateway.hold(ORG, "file1", 30) for gateway in gateways * 5))
    await asyncio.gather(*(gateway.settle(ORG, "file1", 10 + number) for number, gateway in enumerate(gateways * 5)))
    balance = await agrees(documents)
    assert balance.reserved == 0
    assert 970 <= balance.balance <= 990


async def test_the_account_stays_small_and_forgets_no_movement(documents: Documents, ledger: Ledger) -> None:
    await ledger.grant(ORG, 1_000, "welcome")
    for number in range(100):
        await ledger.charge(ORG, 1, f"single:{number}")
    account = await documents.get(CREDIT_ACCOUNTS, ORG)
    assert account is not None
    assert len(account["recent"]) == len(account["outbox"]) < 32
    assert account["epoch"] >= 2
    for number in range(100):
        await ledger.charge(ORG, 1, f"single:{number}")
    assert await agrees(documents) == Balance(900, 0, 900)


MOVEMENTS = {
    "grant": lambda ledger: ledger.grant(ORG, 7, "x"),
    "hold": lambda ledger: ledger.hold(ORG, "new", 7),
    "settle": lambda ledger: ledger.settle(ORG, "open", 7),
    "release": lambda ledger: ledger.release(ORG, "open"),
    "charge": lambda ledger: ledger.charge(ORG, 7, "x"),
    "refund": lambda ledger: ledger.refund(ORG, 7, "x"),
}
AFTER = {
    "grant": Balance(107, 50, 57),
    "hold": Balance(100, 57, 43),
    "settle": Balance(93, 0, 93),
    "release": Balance(100, 0, 100),
    "charge": Balance(93, 50, 43),
    "refund": Balance(93, 50, 43),
}


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("at", range(5))
@pytest.mark.parametrize("name", MOVEMENTS)
async def test_a_crash_at_any_step_costs_nothing_and_a_repeat_does_the_rest(
    documents: Documents, name: str, at: int, *, after: bool
) -> None:
    before = Ledger(documents, lambda: 1.0)
    await before.grant(ORG, 100, "start")
    await before.hold(ORG, "open", 50)
    dying = Ledger(Interrupted(documents, at, after=after), lambda: 2.0)
    with contextlib.suppress(Crash):
        await MOVEMENTS[name](dying)
    restarted = Ledger(documents, lambda: 3.0)
    await restarted.sweep()
    assert (await agrees(documents)) in (Balance(100, 50, 50), AFTER[name])
    await MOVEMENTS[name](restarted)
    assert await agrees(documents) == AFTER[name]


@pytest.mark.parametrize("at", range(8))
async def test_a_crash_while_the_outbox_is_folded_away_loses_no_entry(documents: Documents, at: int) -> None:
    ledger = Ledger(documents, lambda: 1.0)
    for number in range(31):
        await ledger.grant(ORG, 1, f"{number}")
    dying = Ledger(Interrupted(documents, at), lambda: 1.0)
    with contextlib.suppress(Crash):
        await dying.grant(ORG, 1, "31")
    for number in range(40):
        await ledger.grant(ORG, 1, f"{number}")
    assert await agrees(documents) == Balance(40, 0, 40)


async def test_the_sweep_copies_what_a_crash_left_in_the_outbox(documents: Documents) -> None:
    dying = Ledger(Interrupted(documents, 5), lambda: 1.0)
    with pytest.raises(Crash):  # get, insert, get of the account; get of the entry; the step; then the copy
        await dying.grant(ORG, 5, "start")
    assert await entries(documents) == []
    ledger = Ledger(documents, lambda: 1.0)
    assert await ledger.sweep() == 1
    assert await ledger.sweep() == 0
    assert await entries(documents) == [("grant:start", 5, 5, 0)]


@pytest.mark.parametrize("name", ["grant", "hold", "settle", "charge"])
async def test_a_process_that_stood_still_before_its_step_does_not_do_it_a_second_time(
    documents: Documents, name: str
) -> None:
    ledger = Ledger(documents, lambda: 1.0)
    await ledger.grant(ORG, 100, "start")
    await ledger.hold(ORG, "open", 50)
    frozen = Frozen(documents, before="update")
    zombie = asyncio.create_task(MOVEMENTS[name](Ledger(frozen, lambda: 1.0)))
    await frozen.frozen.wait()
    await MOVEMENTS[name](ledger)  # somebody else does it,
    for number in range(40):  # and so much happens that the account has forgotten the movement
        await ledger.grant(ORG, 1, f"later{number}")
        await ledger.charge(ORG, 1, f"later{number}")
    frozen.thaw.set()
    await zombie
    assert await agrees(documents) == AFTER[name]


async def test_the_check_reports_a_balance_that_does_not_follow_from_its_entries(
    documents: Documents, ledger: Ledger
) -> None:
    await ledger.grant(ORG, 100, "start")
    await ledger.hold(ORG, "open", 50)
    await documents.update(CREDIT_ACCOUNTS, ORG, Change(inc={"balance": 1}, set={"holds.other": 2}))
    checks = [check async for check in recompute_all(documents, ledger)]
    assert [check.org_id for check in checks] == [ORG]
    assert checks[0].differences == (
        "balance: the account says 101, its entries add up to 100",
        "hold of file other: the account says 2, its entries 0",
    )


async def test_the_check_of_an_account_that_keeps_moving_says_so(documents: Documents, ledger: Ledger) -> None:
    await ledger.grant(ORG, 100, "start")

    class Restless(Interrupted):
        async def get(self, *args: object) -> object:
            await documents.update(CREDIT_ACCOUNTS, ORG, Change(inc={"version": 1}))
            return await documents.get(*args)

    restless = Restless(documents)
    check = await recompute(restless, Ledger(restless, lambda: 1.0), ORG)
    assert check.differences == ("the account never stood still; check again when it is quieter",)
