"""Long lists, short ones and single addresses at one mail host, in virtual time."""

from __future__ import annotations

import asyncio

from shared.verdict import Reason
from tests.unit.validator.smtp.probe_world import World, with_probe
from tests.unit.validator.smtp.scripted_peer import HONEST, Act, Peer
from tests.unit.validator.smtp.virtual_time import run_virtually

SLOW: Act = ((0.001, HONEST),)


def test_neither_one_urgent_address_nor_ten_wait_for_the_ten_thousand_before_them():
    many = [f"many{number}@a.test" for number in range(10_000)]
    few = [f"few{number}@b.test" for number in range(10)]
    now = ["now@c.test"]
    host = Peer(frozenset([*many, *few, *now]), acts=(SLOW,), again=True)
    world = World({f"{name}.test": (("mx.test", "192.0.2.1"),) for name in "abc"}, {"192.0.2.1": host})

    def asked() -> int:
        return sum(command.startswith(b"RCPT") for call in host.calls for command in call.commands)

    async def work(running):
        def check(emails, **more):
            return asyncio.create_task(
                running.probe.check_batch(emails, look=0, last_look=True, trace=False, deadline=3_000, **more)
            )

        long = [check(many[start : start + 500], file_id="long") for start in range(0, len(many), 500)]
        while asked() < 500:
            await asyncio.sleep(0.001)
        begun = asked()
        short, single = check(few, file_id="short"), check(now, urgent=True)
        await single
        after_single = asked() - begun
        await short
        after_short = asked() - begun
        assert not any(task.done() for task in long[5:])
        told = await asyncio.gather(*long)
        await running.come_to_rest()
        return after_single, after_short, [*told, await short, await single]

    after_single, after_short, told = run_virtually(with_probe(world, work))
    assert {verdict.reason for verdicts, _ in told for verdict in verdicts} == {Reason.ACCEPTED}
    assert after_single <= 300  # to the end of both sessions, because only then an answer counts
    assert after_short <= 500
    assert len(host.calls) <= 130  # as many as one queue needs


def busy_world(count: int, seconds: float) -> tuple[World, list[str]]:
    """A host that takes so long for every reply, and one command at a time."""
    emails = [f"user{number}@a.test" for number in range(count)]
    host = Peer(frozenset(emails), extensions=(), acts=(((seconds, HONEST),),), again=True)
    return World({"a.test": (("mx.test", "192.0.2.1"),)}, {"192.0.2.1": host}), emails


def test_whoever_had_no_turn_at_a_busy_host_was_not_looked_at_and_all_have_their_turn_in_the_end():
    world, emails = busy_world(700, 0.5)
    rounds: list[int] = []

    async def work(running):
        left = emails
        while left:
            verdicts, put_off = await running.probe.check_batch(left, look=3, last_look=True, trace=False, deadline=100)
            assert {verdict.reason for verdict in verdicts if verdict is not None} == {Reason.ACCEPTED}
            assert all(late.unasked for late in put_off)
            rounds.append(len(left) - len(put_off))
            left = [left[late.index] for late in put_off]
        await running.come_to_rest()

    run_virtually(with_probe(world, work))
    assert len(rounds) > 1
    assert all(rounds)


def test_a_host_that_answers_nobody_in_time_is_no_busy_one():
    world, emails = busy_world(5, 14)

    async def work(running):
        verdicts, put_off = await running.probe.check_batch(emails, look=3, last_look=True, trace=False, deadline=50)
        return list(verdicts), put_off

    verdicts, put_off = run_virtually(with_probe(world, work))
    assert put_off == []
    assert {verdict.reason for verdict in verdicts} == {Reason.PUT_OFF}
