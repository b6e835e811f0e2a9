"""Breakers shared by validators on a real Valkey: opened together, probed by exactly one, stricter without Redis."""

import asyncio
import json
import sys
import time

import pytest

from shared import redis_keys
from shared.redis_client import connect_politeness
from validator.egress import breaker as breaker_module
from validator.egress.breaker import Breakers, Trouble
from validator.egress.circuit import FAIL_MAX, FIRST_PAUSE

HOST = "mx.example.com"
LATER = FIRST_PAUSE + 1


class Clock:
    """Monotonic seconds that can be moved on; Redis keeps its own time."""

    def __init__(self):
        self.ahead = 0.0

    def __call__(self):
        return time.monotonic() + self.ahead


async def until(true, seconds=10):
    """Look until `true()`; fails after `seconds`."""
    async with asyncio.timeout(seconds):
        while not true():
            await asyncio.sleep(0.001)


async def listeners(redis, count):
    """Until so many validators hear of changes."""
    async with asyncio.timeout(10):
        while (await redis.pubsub_numsub(redis_keys.BREAKER_CHANGES))[0][1] != count:
            await asyncio.sleep(0.005)


@pytest.fixture
def url(valkey):
    return valkey.url.replace("/0", "/6")


@pytest.fixture
async def redis(url):
    client = connect_politeness(url)
    await client.flushdb()
    yield client
    await client.aclose()


@pytest.fixture
async def pair(url, redis):
    async with Breakers(url) as ours, Breakers(url) as theirs:
        await listeners(redis, 2)
        yield ours, theirs


def fail(breakers, times=FAIL_MAX, trouble=Trouble.CONNECT_TIMEOUT):
    for _ in range(times):
        breakers.report_failure(HOST, trouble)


def state(breakers):
    circuit = breakers._circuits.get(HOST)
    return circuit.state if circuit is not None else "closed"


async def make_due(redis, *all_breakers):
    """As if the pause were over, in Redis and in every validator."""
    await until(
        lambda: all(
            state(b) == "open" and b._circuits[HOST].version and not b._circuits[HOST].unsent for b in all_breakers
        )
    )
    await redis.hset(redis_keys.breaker(HOST), "until", "0")
    for breakers in all_breakers:
        breakers._circuits[HOST].hold_off(0)


async def test_a_failure_row_in_one_validator_opens_the_breaker_in_the_other(pair):
    ours, theirs = pair
    fail(ours)
    assert state(ours) == "open"
    await until(lambda: state(theirs) == "open")
    assert not theirs.allows(HOST)
    assert await theirs.admit(HOST) is None
    assert await theirs.admit("other.example") is not None


async def test_failures_of_two_validators_add_up(pair):
    ours, theirs = pair
    fail(ours, 3)
    await until(lambda: HOST in theirs._circuits and theirs._circuits[HOST].failures == 3)
    fail(theirs, 2)
    await until(lambda: state(ours) == "open" and state(theirs) == "open")


async def test_a_success_in_between_starts_the_count_again(pair):
    ours, theirs = pair
    fail(ours, FAIL_MAX - 1)
    await until(lambda: HOST in theirs._circuits and theirs._circuits[HOST].failures == FAIL_MAX - 1)
    theirs.report_success(HOST)
    await until(lambda: ours._circuits[HOST].failures == 0)
    fail(ours, FAIL_MAX - 1)
    assert state(ours) == "closed"


async def test_a_block_of_us_opens_at_once_and_for_longer(pair):
    ours, _ = pair
    fail(ours, 1, Trouble.BLOCKED)
    assert state(ours) == "open"
    (row,) = await ours.snapshot()
    assert row["kind"] == "blocked"
    assert row["retryIn"] > 5 * FIRST_PAUSE


@pytest.mark.parametrize("success", [True, False])
async def test_half_open_lets_exactly_one_session_of_the_fleet_through(redis, pair, success):
    ours, theirs = pair
    fail(ours)
    await make_due(redis, ours, theirs)
    leases = await asyncio.gather(*(breakers.admit(HOST) for breakers in pair for _ in range(40)))
    (lease,) = [lease for lease in leases if lease is not None]
    assert lease.is_probe
    async with lease:
        if success:
            lease.succeeded()
        else:
            lease.failed(Trouble.REFUSED)
    expected = "closed" if success else "open"
    await until(lambda: state(ours) == state(theirs) == expected)


async def test_a_cancelled_half_open_session_neither_opens_nor_closes_and_the_next_may_try(redis, pair):
    ours, theirs = pair
    fail(ours)
    await make_due(redis, ours, theirs)
    admitted = asyncio.Event()

    async def session():
        async with await ours.admit(HOST):
            admitted.set()
            await asyncio.sleep(60)

    task = asyncio.create_task(session())
    await admitted.wait()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert state(ours) == "half-open"
    await until(lambda: not ours._reports)
    theirs._circuits[HOST].hold_off(0)
    async with asyncio.timeout(5):
        while (lease := await theirs.admit(HOST)) is None:
            theirs._circuits[HOST].hold_off(0)
            await asyncio.sleep(0.01)
    assert lease.is_probe


async def test_a_claim_that_is_cancelled_while_redis_is_asked_leaves_the_way_free(redis, pair):
    ours, _ = pair
    fail(ours)
    await make_due(redis, ours)
    task = asyncio.create_task(ours.admit(HOST))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    async with asyncio.timeout(5):
        while (lease := await ours.admit(HOST)) is None:
            if not ours._circuits[HOST].probing:
                ours._circuits[HOST].hold_off(0)
            await asyncio.sleep(0.01)
    assert lease.is_probe


async def test_each_opening_in_a_row_pauses_twice_as_long(redis, pair):
    ours, _ = pair
    fail(ours)
    await make_due(redis, ours)
    lease = await ours.admit(HOST)
    lease.failed(Trouble.REFUSED)
    await until(lambda: state(ours) == "open" and not ours._reports)
    told = await ours.explain(HOST)
    assert told["opens"] == 2
    assert FIRST_PAUSE * 1.5 < told["retryIn"] <= FIRST_PAUSE * 2


async def test_late_reports_of_sessions_from_before_it_opened_change_nothing(pair):
    ours, _ = pair
    fail(ours)
    ours.report_success(HOST)
    fail(ours, 3)
    assert state(ours) == "open"
    assert ours._circuits[HOST].opens == 1


async def test_the_closed_path_asks_nobody_and_keeps_nothing(pair, redis):
    ours, _ = pair
    before = (await redis.info("stats"))["total_commands_processed"]
    for number in range(2_000):
        lease = await ours.admit(f"mx{number}.example")
        lease.succeeded()
    assert not ours._circuits
    assert not ours._reports
    assert (await redis.info("stats"))["total_commands_processed"] - before < 50


async def test_a_validator_that_starts_later_knows_what_is_open(url, pair):
    ours, _ = pair
    fail(ours)
    await until(lambda: not ours._reports and ours._circuits[HOST].version)
    async with Breakers(url) as late:
        assert state(late) == "open"


async def test_after_a_wipe_open_breakers_stay_open_and_are_restored(url, redis, pair):
    ours, theirs = pair
    fail(ours)
    await until(lambda: state(theirs) == "open")
    await redis.flushdb()
    assert await ours.admit(HOST) is None
    await ours._refresh()
    assert await redis.hget(redis_keys.breaker(HOST), "state") == b"open"
    assert state(ours) == "open"
    async with Breakers(url) as late:
        assert state(late) == "open"


async def test_a_lost_message_is_made_up_by_the_refresh(url, redis, monkeypatch):
    async def deaf(self, redis_url):
        return

    monkeypatch.setattr(Breakers, "_listen", deaf)
    monkeypatch.setattr(breaker_module, "REFRESH", 0.05)
    async with Breakers(url) as ours, Breakers(url) as theirs:
        fail(ours)
        await until(lambda: state(theirs) == "open")


async def test_a_message_that_is_none_is_ignored(redis, pair):
    ours, theirs = pair
    for nonsense in (
        b"",
        b"{}",
        b'{"host": "x"}',
        b"\xff",
        b'{"host":"x","state":"ajar","failures":0,"opens":0,"kind":"","wait":0,"version":"1"}',
    ):
        await redis.publish(redis_keys.BREAKER_CHANGES, nonsense)
    fail(ours)
    await until(lambda: state(theirs) == "open")


async def test_every_key_has_a_time_to_live(redis, pair):
    ours, theirs = pair
    fail(ours)
    await make_due(redis, ours, theirs)
    async with await ours.admit(HOST):
        ours.report_failure("other.example", Trouble.REFUSED)
        await until(lambda: not ours._reports and ours._circuits["other.example"].version)
        keys = await redis.keys()
        assert len(keys) == 4
        for key in keys:
            assert await redis.pttl(key) > 0, key


async def test_without_redis_it_opens_here_at_once_without_delay_and_there_when_it_is_back(own_valkey):
    redis = connect_politeness(own_valkey.url)
    async with Breakers(own_valkey.url) as ours:
        fail(ours, 2)
        await until(lambda: ours._circuits[HOST].version)
        await own_valkey.kill()
        fail(ours, 3)
        with pytest.raises(StopIteration) as answered:  # at its first step: nothing is waited for
            ours.admit(HOST).send(None)
        assert answered.value.value is None
        await until(lambda: ours._alone)
        await own_valkey.start()
        await until(lambda: not ours._alone)
        assert await redis.hget(redis_keys.breaker(HOST), "state") == b"open"
    await redis.aclose()


async def test_alone_it_probes_once_and_closes():
    clock = Clock()
    async with Breakers(None, clock) as alone:
        fail(alone)
        assert await alone.admit(HOST) is None
        clock.ahead = LATER
        lease = await alone.admit(HOST)
        assert lease.is_probe
        assert await alone.admit(HOST) is None
        lease.succeeded()
        assert state(alone) == "closed"
        assert not (await alone.admit(HOST)).is_probe


async def test_idle_breakers_are_forgotten():
    clock = Clock()
    async with Breakers(None, clock) as alone:
        fail(alone, 1)
        alone._forget_idle()
        assert HOST in alone._circuits
        clock.ahead = breaker_module.IDLE + 1
        alone._forget_idle()
        assert not alone._circuits


_OTHER_PROCESS = """
import asyncio, json, sys
from validator.egress.breaker import Breakers, Trouble

async def main(url, host):
    async with Breakers(url) as breakers:
        print("ready", flush=True)
        loop = asyncio.get_running_loop()
        while True:
            order = (await loop.run_in_executor(None, sys.stdin.readline)).strip()
            if order == "fail":
                breakers.report_failure(host, Trouble.REFUSED)
                print(json.dumps(True), flush=True)
            elif order == "open":  # once everything reported is with Redis, and its answer here
                async with asyncio.timeout(10):
                    while not (c := breakers._circuits.get(host)) or c.state != "open" or not c.version or c.unsent:
                        await asyncio.sleep(0.005)
                print(json.dumps(True), flush=True)
            elif order == "due":
                breakers._circuits[host].hold_off(0)
                print(json.dumps(True), flush=True)
            elif order == "rush":
                leases = await asyncio.gather(*(breakers.admit(host) for _ in range(40)))
                print(json.dumps(sum(lease is not None for lease in leases)), flush=True)
            elif order == "state":
                rows = await breakers.snapshot()
                print(json.dumps(rows[0]["state"] if rows else "closed"), flush=True)
            else:
                break

asyncio.run(main(sys.argv[1], sys.argv[2]))
"""


async def test_two_processes_open_together_and_let_one_session_through(url, redis):
    other = await asyncio.create_subprocess_exec(
        sys.executable, "-c", _OTHER_PROCESS, url, HOST, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
    )

    async def order(word):
        other.stdin.write(word.encode() + b"\n")
        return json.loads(await asyncio.wait_for(other.stdout.readline(), 15))

    assert await asyncio.wait_for(other.stdout.readline(), 20) == b"ready\n"
    async with Breakers(url) as ours:
        await listeners(redis, 2)
        fail(ours, 3)
        await order("fail")
        await order("fail")
        await until(lambda: state(ours) == "open")
        assert await order("open")
        assert await order("state") == "open"
        await make_due(redis, ours)
        await order("due")
        here, there = await asyncio.gather(asyncio.gather(*(ours.admit(HOST) for _ in range(40))), order("rush"))
        assert sum(lease is not None for lease in here) + there == 1
    other.stdin.write(b"end\n")
    assert await asyncio.wait_for(other.wait(), 10) == 0
