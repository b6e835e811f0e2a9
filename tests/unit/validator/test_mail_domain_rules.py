"""What a probe makes of blocks, random addresses, shared addresses, moves and rates; scripted peers, virtual time."""

from __future__ import annotations

import asyncio
import itertools

import pytest

from shared.verdict import Reason
from tests.unit.validator.smtp.probe_world import World, probe_all, with_probe
from tests.unit.validator.smtp.scripted_peer import HONEST, Act, Peer
from tests.unit.validator.smtp.virtual_time import run_virtually

BLOCKED = b"550 5.7.1 Service unavailable; client host [192.0.2.9] blocked using zen.spamhaus.org\r\n"
WELL: Act = ((0.0, HONEST),)


def peer(*known: str, **more) -> Peer:
    return Peer(frozenset(known), **more)


def one_domain(host: Peer) -> World:
    return World({"a.test": (("mx.test", "192.0.2.1"),)}, {"192.0.2.1": host})


def reasons(results) -> list[Reason]:
    return [result.reason for result in results if result is not None]


@pytest.mark.parametrize(
    "reply", [b"503 5.5.1 Bad sequence\r\n", b"550 Greylisted, try again later\r\n", b"552 5.2.2 full\r\n", BLOCKED]
)
def test_a_random_address_that_was_not_said_to_be_missing_makes_nobody_valid(reply):
    host = peer("b@a.test", acts=(WELL, WELL, WELL, WELL, ((0.0, reply),)), extensions=())
    seen = probe_all(one_domain(host), ["b@a.test"])
    assert reasons(seen.batches[0][0]) == [Reason.PUT_OFF]


def test_names_of_one_address_share_its_sessions():
    emails = [f"e{number}@{name}.test" for number in range(60) for name in "abc"]
    host = peer(*emails)
    world = World({f"{name}.test": ((f"mx{name}.test", "192.0.2.1"),) for name in "abc"}, {"192.0.2.1": host})
    seen = probe_all(world, emails)
    assert set(reasons(seen.batches[0][0])) == {Reason.ACCEPTED}
    assert seen.wire.peak == {"192.0.2.1": 2}


def test_a_name_that_moves_away_from_a_shared_address_is_asked_where_it_is():
    old, new = peer("b@a.test", "b@b.test"), peer("c@b.test")
    world = World(
        {"a.test": (("mxa.test", "192.0.2.1"),), "b.test": (("mxb.test", "192.0.2.1"),)},
        {"192.0.2.1": old, "192.0.2.2": new},
    )

    async def work(running):
        await running.check("b@a.test", "b@b.test")
        world.routes["b.test"] = (("mxb.test", "192.0.2.2"),)
        moved, _ = await running.check("c@b.test")
        world.routes["a.test"] = (("mxa.test", "192.0.2.2"),)
        world.routes["c.test"] = (("mxc.test", "192.0.2.1"),)
        old.mailboxes |= {"b@c.test"}
        stayed, _ = await running.check("b@a.test", "b@c.test")
        await running.come_to_rest()
        return moved, stayed

    moved, stayed = run_virtually(with_probe(world, work))
    assert reasons(moved) == [Reason.ACCEPTED]
    assert reasons(stayed) == [Reason.MAILBOX_MISSING, Reason.ACCEPTED]


def test_a_block_is_told_to_all_of_the_batch_and_not_dodged_by_the_next_host():
    refusing = peer(acts=(((0.0, BLOCKED.replace(b"550", b"554")),),), again=True)
    other = peer("e1@a.test")
    world = World(
        {"a.test": (("mx1.test", "192.0.2.1"), ("mx2.test", "192.0.2.2"))}, {"192.0.2.1": refusing, "192.0.2.2": other}
    )

    async def work(running):
        first, _ = await running.check(*(f"e{number}@a.test" for number in range(150)))
        await asyncio.sleep(5)
        second, _ = await running.check("e1@a.test")
        asked = len(refusing.calls)
        refusing.acts, refusing.again = (), False
        refusing.mailboxes |= {"e1@a.test"}
        await asyncio.sleep(301)  # ten times the breaker's first pause
        third, _ = await running.check("e1@a.test")
        await running.come_to_rest()
        return first, second, third, asked

    first, second, third, asked = run_virtually(with_probe(world, work))
    assert set(reasons(first)) == {Reason.PROBER_BLOCKED}
    assert reasons(second) == [Reason.PROBER_BLOCKED]
    assert reasons(third) == [Reason.ACCEPTED]
    assert asked <= 2
    assert other.calls == []


@pytest.mark.parametrize(("setting", "hosts"), [("global_rps", 8), ("per_mx_rps_default", 1)])
def test_sessions_begin_no_faster_than_the_settings_allow(setting, hosts):
    peers = {f"192.0.2.{number}": peer(acts=(((0.0, b"421 4.3.2 busy\r\n"),),) * 3) for number in range(1, hosts + 1)}
    world = World({f"d{a[8:]}.test": ((f"mx{a[8:]}.test", a),) for a in peers}, peers)

    async def work(running):
        for _ in range(1 if hosts > 1 else 8):
            await running.check(*(f"e@{domain}" for domain in world.routes), deadline=60)
            await asyncio.sleep(1.5 if hosts == 1 else 0)
        await running.come_to_rest()

    run_virtually(with_probe(world, work, **{setting: 0.5}))
    began = sorted(call.began for each in peers.values() for call in each.calls)
    assert len(began) >= 4
    assert min(later - sooner for sooner, later in itertools.pairwise(began)) >= 1.99


def test_a_batch_that_is_cancelled_leaves_nothing_held():
    host = peer("b@a.test", acts=(((40.0, HONEST),),), again=True)

    async def work(running):
        asking = asyncio.create_task(running.check("b@a.test", "c@a.test"))
        await asyncio.sleep(3)
        asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)
        await running.come_to_rest()

    run_virtually(with_probe(one_domain(host), work))
    assert all(call.ended is not None for call in host.calls)


def test_where_whoever_asked_the_random_address_is_gone_somebody_else_asks_it():
    async def work(running):
        loop = asyncio.get_running_loop()
        running.probe._catch_all._claimed["a.test"] = loop.time() + 15  # as one that died does not give it back
        began = loop.time()
        results, put_off = await running.check("b@a.test", "gone@a.test", last_look=False)
        await running.come_to_rest()
        return reasons(results), put_off, loop.time() - began

    told, put_off, took = run_virtually(with_probe(one_domain(peer("b@a.test")), work))
    assert told == [Reason.ACCEPTED, Reason.MAILBOX_MISSING]
    assert put_off == []
    assert 15 <= took < 30
