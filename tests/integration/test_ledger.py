"""The ledger on both document stores, with several clients that race."""

from __future__ import annotations

import asyncio
import secrets
import sys
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from gateway.collections import ALL, CREDIT_ACCOUNTS, CREDIT_ENTRIES, ORGANISATIONS
from gateway.credits.check import recompute, recompute_all
from gateway.credits.ledger import Balance, Ledger
from gateway.problem import Problem
from shared.documents import Documents
from shared.documents.mongodb import MongoDocuments
from shared.documents.sqlite import SqliteDocuments
from tests.servers import MongoServer

COLLECTIONS = (CREDIT_ACCOUNTS, CREDIT_ENTRIES, ORGANISATIONS)
ORG = "org_one"


@pytest.fixture(params=["sqlite", pytest.param("mongodb", marks=pytest.mark.mongodb)])
def server(request: pytest.FixtureRequest) -> MongoServer | None:
    return request.getfixturevalue("mongo") if request.param == "mongodb" else None


@pytest.fixture
async def clients(server: MongoServer | None, tmp_path: Path) -> AsyncIterator[list[Documents]]:
    """Four clients of a real MongoDB; elsewhere one for all: SQLite has one process, and FerretDB's updates are atomic
    on one connection only."""
    async with AsyncExitStack() as stack:
        if server is None:
            one = await stack.enter_async_context(SqliteDocuments(tmp_path / "documents.db", COLLECTIONS))
            yield [one] * 4
            return
        url = server.url_of("t" + secrets.token_hex(6))
        opened = [
            await stack.enter_async_context(MongoDocuments(url, COLLECTIONS)) for _ in range(4 if server.is_real else 1)
        ]
        yield opened * (4 // len(opened))


async def attempt(ledger: Ledger, number: int, amount: int) -> bool:
    try:
        await ledger.hold(ORG, f"file{number}", amount)
    except Problem as problem:
        if problem.status != 402:
            raise
        return False
    return True


async def test_a_hundred_uploads_race_for_a_thousand_credits_and_never_overspend(clients: list[Documents]) -> None:
    gateways = [Ledger(documents, time.time) for documents in clients]
    assert sum(await asyncio.gather(*(gateway.grant(ORG, 1_000, "bootstrap") for gateway in gateways * 2))) == 1
    won = await asyncio.gather(*(attempt(gateways[number % 4], number, 30) for number in range(100)))
    assert sum(won) == 33
    assert await gateways[0].balance(ORG) == Balance(1_000, 990, 10)

    # Each is settled three times at once, by different gateways, and what remains is exactly what was not charged.
    await asyncio.gather(
        *(gateways[(number + turn) % 4].settle(ORG, f"file{number}", 20) for turn in range(3) for number in range(100))
    )
    assert await gateways[0].balance(ORG) == Balance(340, 0, 340)
    check = await recompute(clients[0], gateways[0], ORG)
    assert check.differences == ()
    assert check.entries == Balance(340, 0, 340)


async def test_a_hundred_repeats_of_one_paid_session_credit_it_once(clients: list[Documents]) -> None:
    gateways = [Ledger(documents, time.time) for documents in clients]
    done = await asyncio.gather(
        *(gateways[number % 4].purchase(ORG, 500, f"stripe:cs_{number % 2}") for number in range(100))
    )
    assert sum(done) == 2
    assert await gateways[0].balance(ORG) == Balance(1_000, 0, 1_000)
    checks = [check async for check in recompute_all(clients[1], gateways[1])]
    assert [(check.org_id, check.differences) for check in checks] == [(ORG, ())]


# A gateway that moves credits until it is killed, and says after each round how many it began.
BUSY = """
import asyncio, itertools, sys, time
from pathlib import Path
from gateway.collections import ALL
from gateway.credits.ledger import Ledger
from shared.documents.sqlite import SqliteDocuments

async def main(path, life):
    async with SqliteDocuments(Path(path), ALL) as documents:
        ledger = Ledger(documents, time.time)
        await ledger.sweep()
        for number in itertools.count():
            print(number, flush=True)
            file = f"life{life}-{number}"
            await ledger.grant("org_one", 100, file)
            await asyncio.gather(
                ledger.hold("org_one", file, 60), ledger.charge("org_one", 3, file), ledger.refund("org_one", 1, file)
            )
            await asyncio.gather(ledger.settle("org_one", file, 50), ledger.settle("org_one", file, 50))

asyncio.run(main(*sys.argv[1:]))
"""


async def test_whenever_a_gateway_is_killed_the_balance_follows_from_the_entries(tmp_path: Path) -> None:
    path = tmp_path / "documents.db"
    for life in range(3):
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-c",
            BUSY,
            str(path),
            str(life),
            cwd=Path(__file__).parents[2],
            stdout=asyncio.subprocess.PIPE,
        )
        assert process.stdout is not None
        for _ in range(10 + 3 * life):
            await process.stdout.readline()
        process.kill()
        await process.communicate()
        async with SqliteDocuments(path, ALL) as documents:
            ledger = Ledger(documents, time.time)
            check = await recompute(documents, ledger, ORG)
            assert check.differences == ()
            for number in range(10 + 3 * life):  # what the dead one may have left half done is done again, once
                file_id = f"life{life}-{number}"
                await ledger.grant(ORG, 100, file_id)
                await ledger.charge(ORG, 3, file_id)
                await ledger.refund(ORG, 1, file_id)
                await ledger.hold(ORG, file_id, 60)
                await ledger.settle(ORG, file_id, 50)
    rounds = sum(10 + 3 * life for life in range(3))
    async with SqliteDocuments(path, ALL) as documents:
        final = await recompute(documents, Ledger(documents, time.time), ORG)
    assert final.differences == ()
    assert final.account.balance >= rounds * 46
