"""Hosts that give the random address no clear answer: when what they said of others may stand in for it."""

from __future__ import annotations

import time

import pytest

from services.maillab.world import World
from shared.verdict import Reason, Status
from tests.integration.probe_lab import Bench, probing
from validator.mail_domain import GREYLISTS_WAIT

DODGERS = ["defers_random", "disconnects_on_random"]


def world_of(character: str, *domains: str, **options: object) -> World:
    world = World()
    world.host("mx.lab.test", character, **options)
    for domain in domains or ("lab.test",):
        world.domain(domain, mx=[(10, "mx.lab.test")])
    return world


async def verdict(bench: Bench, *emails: str) -> tuple[Status, Reason]:
    """Of the first one, at the last look."""
    results, put_off = await bench.check(*emails, look=3)
    assert put_off == []
    return results[0].status, results[0].reason


@pytest.mark.parametrize("character", DODGERS)
async def test_a_host_that_refused_a_listed_address_at_an_earlier_look_is_believed_at_the_last_one(character):
    async with probing(world_of(character), probe_timeout=0.4) as bench:
        results, put_off = await bench.check("ann@lab.test", "missing1@lab.test", last_look=False)
        assert [late.reason for late in put_off] == [Reason.PUT_OFF]
        assert results[1].reason is Reason.MAILBOX_MISSING
        results, _ = await bench.check("ann@lab.test", look=3)
        assert (results[0].status, results[0].reason) == (Status.VALID, Reason.ACCEPTED)
        sure = 95
        assert results[0].score < sure
        assert results[0].risk_level.value == "medium"
        assert not results[0].details.flags.catch_all


@pytest.mark.parametrize("character", DODGERS)
async def test_without_a_refusal_nothing_is_known(character):
    async with probing(world_of(character), probe_timeout=0.4) as bench:
        assert await verdict(bench, "ann@lab.test", "bob@lab.test") == (Status.UNKNOWN, Reason.PUT_OFF)


async def test_a_refusal_at_another_domain_of_the_host_says_nothing():
    async with probing(world_of("defers_random", "lab.test", "other.test")) as bench:
        told = await verdict(bench, "ann@lab.test", "missing1@other.test")
        assert told == (Status.UNKNOWN, Reason.PUT_OFF)


async def test_a_refusal_by_another_host_of_the_domain_says_nothing():
    world = world_of("defers_random")
    async with probing(world) as bench:
        await bench.check("missing1@lab.test")
        bench.probe._domains["lab.test"]._refused_by = "mx2.lab.test"
        assert await verdict(bench, "ann@lab.test") == (Status.UNKNOWN, Reason.PUT_OFF)


async def test_a_catch_all_that_refuses_some_by_name_stays_a_catch_all():
    async with probing(world_of("half_catch_all")) as bench:
        await bench.check("missing1@lab.test", "missing2@lab.test")
        assert await verdict(bench, "ann@lab.test") == (Status.RISKY, Reason.CATCH_ALL)


@pytest.mark.parametrize(
    "reply",
    [
        "450 4.2.0 Greylisted, come back later",  # a catch-all behind a greylist that knows the listed ones
        "450 4.7.1 Too much mail from you, slow down",
        "550 5.7.1 Service unavailable; client host blocked using zen.spamhaus.org",
    ],
)
async def test_a_refusal_by_name_proves_nothing_where_the_random_address_met_a_greylist_a_limit_or_a_block(reply):
    world = world_of("catch_all")
    async with probing(world) as bench:
        results, _ = await bench.check("missing1@lab.test", "ann@lab.test")
        random = next(rcpt for rcpt in bench.lab.log.rcpts() if rcpt.startswith("n"))
        assert {result.reason for result in results} == {Reason.CATCH_ALL}
    world = world_of("catch_all")
    world.mailbox(random, reply)
    world.mailbox("gone@lab.test", "550 5.1.1 No such user here")
    async with probing(world) as bench:
        assert await verdict(bench, "ann@lab.test", "gone@lab.test") == (Status.UNKNOWN, Reason.PUT_OFF)


async def test_a_random_address_that_is_put_off_for_longer_than_any_greylist_is_dodged():
    async with probing(world_of("catch_all")) as bench:
        await bench.check("ann@lab.test")
        random = next(rcpt for rcpt in bench.lab.log.rcpts() if rcpt.startswith("n"))
    world = world_of("accepts_rejects")
    world.mailbox(random, "450 4.2.0 Come back later")
    async with probing(world) as bench:
        _, put_off = await bench.check("missing1@lab.test", "ann@lab.test", last_look=False)
        assert len(put_off) == 1
        bench.probe._domains["lab.test"]._random_since = time.monotonic() - GREYLISTS_WAIT
        assert await verdict(bench, "ann@lab.test") == (Status.VALID, Reason.ACCEPTED)
