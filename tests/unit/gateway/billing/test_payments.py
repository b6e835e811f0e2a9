"""Facts about a payment, joined in any order; and the process that dies between any two of its steps."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.billing.payments import Payments, credits_taken
from gateway.collections import ALL
from gateway.credits.ledger import Ledger
from shared.documents import Documents
from shared.documents.sqlite import SqliteDocuments
from tests.interrupted import Crash, Interrupted

ORG = "org_pays"
Fact = Callable[[Payments], Awaitable[None]]


def paid(payments: Payments) -> Awaitable[None]:
    return payments.paid("pi_1", org_id=ORG, credits_=1_000, amount=300, cause="stripe:cs_1")


def refunded(amount: int) -> Fact:
    return lambda payments: payments.refunded("pi_1", amount)


def disputed(status: str, dispute: str = "dp_1") -> Fact:
    return lambda payments: payments.disputed("pi_1", dispute, status)


FACTS: list[Fact] = [
    paid,
    refunded(100),
    refunded(200),
    disputed("needs_response"),
    disputed("under_review"),
    disputed("won"),
    disputed("warning_closed", "dp_2"),
]


@settings(max_examples=25, deadline=None)
@given(st.permutations(FACTS), st.lists(st.sampled_from(FACTS), max_size=6))
def test_any_order_and_any_repetition_ends_in_the_same_balance(order: list[Fact], more: list[Fact]) -> None:
    async def run() -> int:
        with TemporaryDirectory() as folder:
            async with SqliteDocuments(Path(folder) / "documents.db", ALL) as documents:
                ledger = Ledger(documents, lambda: 1.0)
                payments = Payments(documents, ledger)
                for fact in [*order, *more]:
                    await fact(payments)
                return (await ledger.balance(ORG)).balance

    # A dispute that is won before its opening is heard of stays won.
    with asyncio.Runner() as runner:
        assert runner.run(run()) == 1_000 - 1_000 * 200 // 300


@pytest.mark.parametrize("after", [False, True])
async def test_a_process_that_dies_at_any_call_leaves_what_a_repeat_completes(tmp_path: Path, *, after: bool) -> None:
    async def tell(documents: Documents) -> None:
        payments = Payments(documents, Ledger(documents, lambda: 1.0))
        for fact in (paid, refunded(100), disputed("needs_response"), disputed("won"), refunded(300)):
            await fact(payments)

    at = 0
    while True:
        async with SqliteDocuments(tmp_path / f"{at}{after}.db", ALL) as documents:
            door = Interrupted(documents, at, after=after)
            try:
                await tell(door)  # type: ignore[arg-type]
            except Crash:
                await tell(documents)
                done = False
            else:
                done = True
            ledger = Ledger(documents, lambda: 1.0)
            assert (await ledger.balance(ORG)).balance == 0
        if done:
            break
        at += 1
    assert at > 20


async def test_facts_told_side_by_side_are_joined_as_well(tmp_path: Path) -> None:
    async with SqliteDocuments(tmp_path / "documents.db", ALL) as documents:
        ledger = Ledger(documents, lambda: 1.0)
        payments = Payments(documents, ledger)
        await asyncio.gather(*(fact(payments) for fact in FACTS * 8))
        assert (await ledger.balance(ORG)).balance == 1_000 - 666


@pytest.mark.parametrize(
    ("refund", "disputes", "taken"),
    [
        (0, {}, 0),
        (1, {}, 3),
        (299, {}, 996),
        (300, {}, 1_000),
        (900, {}, 1_000),
        (0, {"a": "lost"}, 1_000),
        (0, {"a": "won", "b": "under_review"}, 1_000),
        (0, {"a": "warning_needs_response"}, 0),
        (30, {"a": "won"}, 100),
    ],
)
def test_what_is_taken_back_follows_from_the_facts(refund: int, disputes: dict[str, str], taken: int) -> None:
    facts = {"credits": 1_000, "amount": 300, "cause": "c", "refunded": refund, "disputes": disputes}
    assert credits_taken(facts) == taken
    assert credits_taken({**facts, "cause": ""}) == 0
