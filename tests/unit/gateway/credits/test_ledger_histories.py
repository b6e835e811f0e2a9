"""Random histories of a ledger: movements, repeats and crashes in any order, by two processes."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.collections import ALL
from gateway.credits.check import recompute
from gateway.credits.ledger import Ledger
from gateway.problem import Problem
from shared.documents import Documents
from shared.documents.sqlite import SqliteDocuments
from tests.interrupted import Crash, Interrupted

FILES = [f"file{number}" for number in range(4)]
CAUSES = ["a", "b", "c"]
AMOUNTS = {"file0": 10, "file1": 40, "file2": 70, "file3": 200, "a": 100, "b": 25, "c": 60}
MOVEMENT = st.one_of(
    st.tuples(st.sampled_from(["hold", "settle", "release"]), st.sampled_from(FILES)),
    st.tuples(st.sampled_from(["grant", "charge", "refund"]), st.sampled_from(CAUSES)),
)
CRASH = st.one_of(st.none(), st.tuples(st.integers(0, 6), st.booleans()))
HISTORIES = st.lists(st.tuples(MOVEMENT, CRASH), max_size=25)
ORGANISATIONS = itertools.count()


async def make(ledger: Ledger, org: str, movement: tuple[str, str]) -> None:
    kind, name = movement
    if kind == "hold":
        await ledger.hold(org, f"{org}-{name}", AMOUNTS[name])
    elif kind == "settle":
        await ledger.settle(org, f"{org}-{name}", AMOUNTS[name] // 2)
    elif kind == "release":
        await ledger.release(org, f"{org}-{name}")
    elif kind == "grant":
        await ledger.grant(org, AMOUNTS[name], f"{org}-{name}")
    elif kind == "charge":
        await ledger.charge(org, AMOUNTS[name] // 5, f"{org}-{name}")
    else:
        await ledger.refund(org, AMOUNTS[name] // 10, f"{org}-{name}")


async def live(documents: Documents, history: list[tuple[tuple[str, str], tuple[int, bool] | None]]) -> None:
    org = f"org{next(ORGANISATIONS)}"
    refunded = 0
    for movement, crash in history:
        at, after = crash or (None, False)
        with contextlib.suppress(Crash, Problem):  # the process died, or there was not enough
            await make(Ledger(Interrupted(documents, at, after=after), lambda: 1.0), org, movement)
        refunded += movement[0] == "refund"
        check = await recompute(documents, Ledger(documents, lambda: 1.0), org)
        assert check.differences == ()
        assert check.account.reserved >= 0
        assert refunded or check.account.available >= 0
    for movement, _ in history[::-1]:  # all of it again, backwards
        with contextlib.suppress(Problem):
            await make(Ledger(documents, lambda: 1.0), org, movement)
    final = await recompute(documents, Ledger(documents, lambda: 1.0), org)
    assert final.differences == ()
    again = Ledger(documents, lambda: 1.0)
    for name in FILES:
        await again.release(org, f"{org}-{name}")
    assert (await again.balance(org)).reserved == 0


def test_in_every_history_the_balance_follows_from_the_entries(tmp_path: Path) -> None:
    with asyncio.Runner() as runner:
        documents = SqliteDocuments(tmp_path / "documents.db", ALL)
        runner.run(documents.__aenter__())

        @settings(max_examples=150, deadline=None, database=None)
        @given(HISTORIES)
        def histories(history: list[tuple[tuple[str, str], tuple[int, bool] | None]]) -> None:
            runner.run(live(documents, history))

        try:
            histories()
        finally:
            runner.run(documents.__aexit__(None, None, None))
