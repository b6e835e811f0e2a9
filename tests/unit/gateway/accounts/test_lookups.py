"""Look-ups are shared, short-lived and forgotten at a word."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from gateway.accounts.lookups import TRUSTED, Lookups
from shared.errors import DocumentsUnavailable


class Shelf:
    """What is looked up, by a clock of its own; `gate` holds readers up while it is cleared."""

    def __init__(self) -> None:
        self.now = 0.0
        self.there: dict[str, str] = {"a": "Ann"}
        self.reads = 0
        self.gate = asyncio.Event()
        self.gate.set()
        self.reading = asyncio.Event()

    async def load(self, id_: str) -> str | None:
        self.reads += 1
        found = self.there.get(id_)
        self.reading.set()
        await self.gate.wait()
        if found == "gone":
            raise DocumentsUnavailable("gone")
        return found

    def clock(self) -> float:
        return self.now


@pytest.fixture
def shelf() -> Shelf:
    return Shelf()


@pytest.fixture
async def lookups(shelf: Shelf) -> AsyncIterator[Lookups[str, str]]:
    lookups: Lookups[str, str] = Lookups(shelf.load, shelf.clock)
    yield lookups
    await lookups.close()


async def test_what_was_read_is_trusted_for_a_few_seconds(shelf: Shelf, lookups: Lookups[str, str]) -> None:
    assert await lookups.get("a") == "Ann"
    shelf.there.clear()
    shelf.now = TRUSTED - 0.01
    assert await lookups.get("a") == "Ann"
    shelf.now = TRUSTED
    assert await lookups.get("a") is None
    assert shelf.reads == 2


async def test_what_does_not_exist_is_asked_for_every_time(shelf: Shelf, lookups: Lookups[str, str]) -> None:
    assert await lookups.get("b") is None
    shelf.there["b"] = "Bob"
    assert await lookups.get("b") == "Bob"


async def test_those_who_ask_at_once_share_one_read(shelf: Shelf, lookups: Lookups[str, str]) -> None:
    assert await asyncio.gather(*(lookups.get("a") for _ in range(50))) == ["Ann"] * 50
    assert shelf.reads == 1


async def test_one_who_goes_away_does_not_take_the_answer_from_the_others(
    shelf: Shelf, lookups: Lookups[str, str]
) -> None:
    shelf.gate.clear()
    impatient, patient = (asyncio.create_task(lookups.get("a")) for _ in range(2))
    await shelf.reading.wait()
    impatient.cancel()
    shelf.gate.set()
    assert await patient == "Ann"


async def test_the_trust_begins_before_the_read_does(shelf: Shelf, lookups: Lookups[str, str]) -> None:
    shelf.gate.clear()
    slow = asyncio.create_task(lookups.get("a"))
    await shelf.reading.wait()
    shelf.now = 3.0
    shelf.gate.set()
    await slow
    shelf.now = TRUSTED
    await lookups.get("a")
    assert shelf.reads == 2


async def test_a_read_that_began_before_the_news_is_neither_kept_nor_joined(
    shelf: Shelf, lookups: Lookups[str, str]
) -> None:
    shelf.gate.clear()
    before = asyncio.create_task(lookups.get("a"))
    await shelf.reading.wait()
    shelf.there["a"] = "changed"
    lookups.clear()
    after = asyncio.create_task(lookups.get("a"))
    shelf.gate.set()
    assert (await before, await after) == ("Ann", "changed")
    assert await lookups.get("a") == "changed"
    assert shelf.reads == 2


async def test_a_read_that_fails_fails_for_all_who_wait_and_is_tried_again(
    shelf: Shelf, lookups: Lookups[str, str]
) -> None:
    shelf.there["a"] = "gone"
    answers = await asyncio.gather(*(lookups.get("a") for _ in range(3)), return_exceptions=True)
    assert [type(answer) for answer in answers] == [DocumentsUnavailable] * 3
    shelf.there["a"] = "Ann"
    assert await lookups.get("a") == "Ann"


async def test_known_things_are_not_trusted_longer_because_the_store_is_away(
    shelf: Shelf, lookups: Lookups[str, str]
) -> None:
    await lookups.get("a")
    shelf.there["a"] = "gone"
    shelf.now = TRUSTED
    with pytest.raises(DocumentsUnavailable):
        await lookups.get("a")


async def test_closing_ends_the_reads_under_way(shelf: Shelf, lookups: Lookups[str, str]) -> None:
    shelf.gate.clear()
    waiting = asyncio.create_task(lookups.get("a"))
    await shelf.reading.wait()
    await lookups.close()
    with pytest.raises(asyncio.CancelledError):
        await waiting
