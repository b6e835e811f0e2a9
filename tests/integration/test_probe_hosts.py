"""Mail hosts shared by batches: pooling, failover, catch-all once, deadlines, stopping."""

from __future__ import annotations

import asyncio
from itertools import pairwise

from services.maillab.world import World
from shared.verdict import Reason
from tests.integration.probe_lab import probing
from validator.evidence import CatchAll


def one_host(character: str = "accepts_rejects", **options: object) -> World:
    world = World()
    world.host("mx.lab.test", character, **options)
    world.domain("lab.test", mx=[(10, "mx.lab.test")])
    return world


def names(count: int, domain: str = "lab.test", local: str = "ann") -> list[str]:
    return [f"{local}{number}@{domain}" for number in range(count)]


def randoms(rcpts: list[str]) -> list[str]:
    return [rcpt for rcpt in rcpts if not rcpt.startswith(("ann", "missing"))]


async def test_a_hundred_addresses_of_one_host_need_two_connections_and_a_tenth_of_a_round_trip_each():
    async with probing(one_host()) as bench:
        assert set(await bench.reasons(*names(100))) == {"accepted"}
        sessions = bench.lab.log.sessions("mx.lab.test")
        assert len(sessions) <= 2
        assert all(session.quit for session in sessions)
        flights = sum(_flights(session) for session in sessions)
        assert flights <= 10


def _flights(session) -> int:
    """Turns of the client that wait for the server, plus connect."""
    turns = [line.who for line in session.lines]
    return 1 + sum(here == "C" and before == "S" for before, here in pairwise(turns))


async def test_batches_that_run_together_share_sessions():
    async with probing(one_host()) as bench:
        parts = [names(10, local=f"ann.{letter}") for letter in "abcdefgh"]
        found = await asyncio.gather(*(bench.reasons(*part) for part in parts))
        assert {reason for reasons in found for reason in reasons} == {"accepted"}
        assert len(bench.lab.log.sessions("mx.lab.test")) <= 3


async def test_domains_of_one_host_share_sessions_and_so_do_hosts_of_one_address():
    world = World()
    world.host("mx.lab.test", ip="127.3.0.1")
    world.domain("alias.lab.test", a=["127.3.0.1"])
    for number in range(20):
        world.domain(f"d{number}.test", mx=[(10, "mx.lab.test" if number % 2 else "alias.lab.test")])
    async with probing(world) as bench:
        assert set(await bench.reasons(*(f"ann@d{number}.test" for number in range(20)))) == {"accepted"}
        assert len(bench.lab.log.sessions()) <= 3


async def test_one_random_address_a_domain_after_a_real_one():
    async with probing(one_host()) as bench:
        await asyncio.gather(*(bench.reasons(*names(5, local=f"ann.{letter}")) for letter in "abcd"))
        await bench.reasons(*names(3, local="ann.z"))
        rcpts = bench.lab.log.rcpts("mx.lab.test")
        assert len(randoms(rcpts)) == 1
        assert rcpts[0].startswith("ann")
        assert await bench.memory.recall("lab.test") is CatchAll.NO


async def test_no_random_address_where_nobody_was_accepted():
    async with probing(one_host()) as bench:
        assert set(await bench.reasons(*names(5, local="missing"))) == {"mailbox_missing"}
        assert randoms(bench.lab.log.rcpts()) == []


async def test_what_the_fleet_remembers_is_not_asked_again():
    async with probing(one_host("catch_all")) as bench:
        await bench.memory.remember("lab.test", CatchAll.YES)
        assert set(await bench.reasons(*names(5))) == {"catch_all"}
        assert randoms(bench.lab.log.rcpts()) == []


async def test_while_another_validator_asks_its_answer_is_waited_for():
    async with probing(one_host()) as bench:
        assert await bench.memory.claim("lab.test")
        asking = asyncio.create_task(bench.reasons(*names(5)))
        while len(bench.lab.log.rcpts()) < 5:
            await asyncio.sleep(0.01)
        await bench.memory.remember("lab.test", CatchAll.YES)
        assert set(await asking) == {"catch_all"}
        assert randoms(bench.lab.log.rcpts()) == []


async def test_a_claim_that_was_not_used_is_given_up():
    async with probing(one_host()) as bench:
        await bench.reasons(*names(2, local="missing"))
        await asyncio.sleep(0)
        assert await bench.memory.claim("lab.test")


async def test_the_random_address_stays_the_same_for_the_second_look():
    async with probing(one_host("defers_random")) as bench:
        _, put_off = await bench.check("ann@lab.test", last_look=False)
        assert [late.reason for late in put_off] == [Reason.PUT_OFF]
        await bench.check("ann@lab.test", look=1)
        asked = randoms(bench.lab.log.rcpts())
        assert len(asked) == 2
        assert len(set(asked)) == 1


async def test_greylisted_addresses_are_accepted_at_the_second_look_for_the_random_one_waited_with_them():
    async with probing(one_host("greylisting", wait=0)) as bench:
        results, put_off = await bench.check(*names(5), last_look=False)
        assert results == [None] * 5
        assert [late.index for late in sorted(put_off, key=lambda late: late.index)] == list(range(5))
        results, put_off = await bench.check(*names(5), look=1)
        assert {result.reason for result in results} == {Reason.ACCEPTED}
        assert len(set(randoms(bench.lab.log.rcpts()))) == 1


async def test_the_next_host_is_asked_when_the_first_is_down():
    world = World()
    world.host("mx1.lab.test", "down")
    world.host("mx2.lab.test")
    world.domain("lab.test", mx=[(10, "mx1.lab.test"), (20, "mx2.lab.test")])
    async with probing(world) as bench:
        results, _ = await bench.check(*names(10))
        assert {result.reason for result in results} == {Reason.ACCEPTED}
        assert results[0].details.smtp.host == "mx2.lab.test"


async def test_the_next_host_is_asked_when_the_first_keeps_silent_or_serves_nobody():
    for character in ("silent", "garbage", "drops"):
        world = World()
        world.host("mx1.lab.test", character)
        world.host("mx2.lab.test")
        world.domain("lab.test", mx=[(10, "mx1.lab.test"), (20, "mx2.lab.test")])
        async with probing(world, probe_timeout=0.2) as bench:
            assert set(await bench.reasons(*names(3), *names(3, local="missing"))) == {"accepted", "mailbox_missing"}


async def test_a_refusal_of_us_is_not_dodged_at_the_next_host():
    world = World()
    world.host("mx1.lab.test", "blocks_us")
    world.host("mx2.lab.test")
    world.domain("lab.test", mx=[(10, "mx1.lab.test"), (20, "mx2.lab.test")])
    async with probing(world) as bench:
        assert set(await bench.reasons(*names(3))) == {"prober_blocked"}
        assert bench.lab.log.sessions("mx2.lab.test") == []


async def test_one_bad_host_costs_only_its_own_addresses():
    world = World()
    world.host("mx.slow.test", "silent")
    world.domain("slow.test", mx=[(10, "mx.slow.test")])
    world.host("mx.lab.test")
    world.domain("lab.test", mx=[(10, "mx.lab.test")])
    async with probing(world, probe_timeout=0.2) as bench:
        reasons = await bench.reasons(*names(5), *names(5, "slow.test"))
        assert set(reasons[:5]) == {"accepted"}
        assert set(reasons[5:]) == {"timeout"}


async def test_at_the_deadline_what_has_no_answer_is_put_off():
    async with probing(one_host("silent"), probe_timeout=30) as bench:
        results, put_off = await bench.check(*names(3), "not an address", last_look=False, deadline=0.2)
        assert results[:3] == [None, None, None]
        assert results[3].reason is Reason.INVALID_SYNTAX
        assert {(late.index, late.reason) for late in put_off} == {(index, Reason.PUT_OFF) for index in range(3)}
        await bench.probe.drain(0.1)


async def test_at_the_deadline_of_the_last_look_the_verdict_is_unknown():
    async with probing(one_host("silent"), probe_timeout=30) as bench:
        results, put_off = await bench.check(*names(3), deadline=0.2)
        assert put_off == []
        assert {result.status.value for result in results} == {"unknown"}
        await bench.probe.drain(0.1)


async def test_addresses_of_a_batch_that_is_over_are_not_asked_any_more():
    async with probing(one_host("tarpit", delay=0.05), per_mx_max_concurrency_default=1) as bench:
        await bench.check(*names(60), deadline=0.3)
        asked = len(bench.lab.log.rcpts())
        await bench.check("missing@lab.test")
        assert len(bench.lab.log.rcpts()) <= asked + 26


async def test_a_cancelled_batch_leaves_the_others_alone():
    async with probing(one_host("tarpit", delay=0.02)) as bench:
        doomed = asyncio.create_task(bench.check(*names(20, local="ann.a")))
        kept = asyncio.create_task(bench.reasons(*names(20, local="ann.b")))
        while not bench.lab.log.rcpts():
            await asyncio.sleep(0.01)
        doomed.cancel()
        await asyncio.gather(doomed, return_exceptions=True)
        assert doomed.cancelled()
        assert set(await kept) == {"accepted"}


async def test_draining_ends_every_session_with_quit():
    async with probing(one_host("tarpit", delay=0.05)) as bench:
        running = asyncio.create_task(bench.check(*names(100), deadline=3))
        while not bench.lab.log.rcpts():
            await asyncio.sleep(0.01)
        await bench.probe.drain(5)
        assert all(session.quit for session in bench.lab.log.sessions())
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


async def test_progress_counts_up_to_the_whole_batch():
    counts: list[int] = []
    async with probing(one_host()) as bench:
        await bench.probe.check_batch(
            names(10), look=0, last_look=True, trace=False, deadline=10, on_progress=counts.append
        )
    assert counts == sorted(counts)
    assert counts[-1] == 10


async def test_a_trace_names_host_address_commands_and_replies():
    async with probing(one_host()) as bench:
        results, _ = await bench.check("ann@lab.test", trace=True)
    trace = results[0].details.trace
    sent = [line["sent"] for line in trace]
    assert sent[:4] == ["", "EHLO probe.mailvet.test", "MAIL FROM:<>", "RCPT TO:<ann@lab.test>"]
    assert any(line.startswith("RCPT TO:<n") for line in sent)
    assert all(line["host"] == "mx.lab.test" and line["address"].startswith("127.") for line in trace)
    assert all(line["reply"] for line in trace)


async def test_a_trace_tells_why_nobody_could_be_asked():
    async with probing(one_host("down")) as bench:
        results, _ = await bench.check("ann@lab.test", trace=True)
    assert [line["reply"] for line in results[0].details.trace] == ["(unreachable)"]


async def test_international_addresses_are_asked_with_smtputf8_and_nowhere_else():
    world = one_host("smtputf8", known="all")
    world.host("mx.old.test", "no_smtputf8", known="all")
    world.domain("old.test", mx=[(10, "mx.old.test")])
    async with probing(world) as bench:
        reasons = await bench.reasons("jürgen@lab.test", "ann@lab.test", "jürgen@old.test", "ann@old.test")
        assert reasons[0] == reasons[1] == reasons[3] == "catch_all"
        assert reasons[2] == "protocol_error"
        commands = [line for session in bench.lab.log.sessions() for line in session.commands]
        assert "MAIL FROM:<> SMTPUTF8" in commands
        assert "MAIL FROM:<>" in commands


async def test_what_the_dns_decides_needs_no_connection():
    world = World()
    world.domain("null.test", null_mx=True)
    world.domain("txt.test", txt=["no mail here"])
    world.domain("broken.test", rcode="SERVFAIL")
    async with probing(world) as bench:
        reasons = await bench.reasons("a@null.test", "a@txt.test", "a@nowhere.test", "a@broken.test")
        assert reasons == ["null_mx", "no_mail_host", "domain_missing", "dns_failure"]
        assert bench.lab.log.sessions() == []
