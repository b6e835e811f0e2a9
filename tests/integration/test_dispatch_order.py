"""Which batches of a list are under way together."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise

import pytest

from gateway.collections import BATCHES
from shared.documents import Change
from tests.integration.machine_pieces import Pieces


@pytest.fixture
async def pieces(tmp_path, valkey):
    settings = {"batches_in_flight_per_file": 8, "batches_in_flight_per_domain": 2}
    async with Pieces(tmp_path, valkey.url, **settings) as pieces:
        yield pieces


async def sent(pieces: Pieces) -> list[str]:
    """The domains of the batches that are sent now; a batch of several counts as its first."""
    await pieces.machine.dispatcher.round()
    return [work.emails[0].partition("@")[2] for work in await pieces.take()]


async def test_a_domain_that_fills_batches_leaves_room_for_others(pieces):
    big = [f"user{n}@big.example" for n in range(200)]
    small = [f"user{n}@small{n % 25}.example" for n in range(50)]
    await pieces.add("f", big + small)
    first = Counter(await sent(pieces))
    assert first["big.example"] == 2
    assert first.total() == 2 + 5
    assert await sent(pieces) == []  # the others of the big domain wait, though the file has room
    await answered(pieces, 1, "big.example")
    pieces.machine.dispatcher.wake("f")
    assert await sent(pieces) == ["big.example"]


async def test_what_is_under_way_is_a_sample_of_the_whole_list(pieces):
    await pieces.add("f", [f"user{n}@d{d:02}.example" for d in range(64) for n in range(10)])
    places = sorted(int(domain[1:3]) for domain in await sent(pieces))
    assert len(places) == 8
    gaps = [b - a for a, b in pairwise(places)]
    assert max(gaps) <= 3 * 64 / 8
    assert min(gaps) >= 64 / 8 / 3


async def test_two_files_share_what_a_domain_bears(pieces):
    for name in ("f", "g"):
        await pieces.add(name, [f"{name}{n}@big.example" for n in range(60)])
    assert await sent(pieces) == ["big.example"] * 2
    assert await sent(pieces) == []
    pieces.now += 2  # nobody wakes a file for another one's results
    await answered(pieces, 2, "big.example")
    assert await sent(pieces) == ["big.example"] * 2


async def answered(pieces: Pieces, count: int, domain: str) -> None:
    """So many batches of the domain are done."""
    dispatched = {"status": "dispatched", "domain": domain}
    async for batch in pieces.documents.scan(BATCHES, dispatched, limit=count):
        assert await pieces.documents.update(BATCHES, batch["_id"], Change(set={"status": "done"}))


async def test_what_was_put_off_goes_before_what_was_never_sent_and_not_before_its_time(pieces):
    await pieces.add("f", [f"user{n}@d{n // 10:02}.example" for n in range(300)])
    first = (await pieces.batches("f"))[0]
    await pieces.documents.update(BATCHES, first["_id"], Change(set={"look": 1, "dueAt": pieces.now + 60}))
    domain = first["emails"][0].partition("@")[2]
    assert domain not in await sent(pieces)
    for batch in await pieces.batches("f"):
        if batch["status"] == "dispatched":
            await pieces.documents.update(BATCHES, batch["_id"], Change(set={"status": "done"}))
    pieces.now += 61
    assert (await sent(pieces))[0] == domain
