"""Limits shared by validators, on a real Valkey: never more than the cap, fair, and stricter when Redis is away."""

import asyncio
import contextlib
import time

import pytest

from shared import redis_keys
from shared.redis_client import connect_politeness
from shared.settings import Settings
from validator.egress import limits as limits_module
from validator.egress.limits import Limits, NoSlot
from validator.providers import Provider

HOST = "mx.example.com"


def settings(**values):
    return Settings(_env_file=None, **values)


@pytest.fixture
async def redis(valkey):
    client = connect_politeness(valkey.url.replace("/0", "/5"))
    await client.flushdb()
    yield client
    await client.aclose()


class Gauge:
    """How many sessions run at once."""

    def __init__(self):
        self.now = self.peak = self.total = 0

    @contextlib.contextmanager
    def running(self):
        self.now += 1
        self.total += 1
        self.peak = max(self.peak, self.now)
        try:
            yield
        finally:
            self.now -= 1


async def until(true, seconds=10):
    """Look until `true()`; fails after `seconds`."""
    async with asyncio.timeout(seconds):
        while not true():
            await asyncio.sleep(0.01)


async def run_sessions(limits, gauge, count, *, host=HOST, provider=None, hold=0.001, address=None):
    async def one():
        async with limits.session(host, provider, address=address):
            with gauge.running():
                await asyncio.sleep(hold)

    await asyncio.gather(*(one() for _ in range(count)))


async def test_two_validators_together_never_exceed_the_cap_of_a_host_and_use_it(redis):
    gauge = Gauge()
    async with Limits(settings(), redis) as ours, Limits(settings(), redis) as theirs:
        await asyncio.gather(run_sessions(ours, gauge, 40), run_sessions(theirs, gauge, 40))
    assert gauge.peak == 2
    assert gauge.total == 80


async def test_the_global_cap_holds_over_all_hosts_and_validators(redis):
    gauge = Gauge()
    made = settings(global_max_concurrency=5)
    async with Limits(made, redis) as ours, Limits(made, redis) as theirs:
        await asyncio.gather(
            *(run_sessions(limits, gauge, 3, host=f"mx{n}.example") for n in range(20) for limits in (ours, theirs))
        )
    assert gauge.peak == 5
    assert gauge.total == 120


async def test_the_cap_of_a_provider_holds_over_its_hosts(redis):
    gauge = Gauge()
    provider = Provider(name="big", mx=("big.example",), max_connections=3)
    async with Limits(settings(), redis) as limits:
        await asyncio.gather(
            *(run_sessions(limits, gauge, 3, host=f"mx{n}.big.example", provider=provider) for n in range(6))
        )
    assert gauge.peak == 3
    assert gauge.total == 18


async def test_many_names_for_one_public_address_share_a_cap_but_not_in_an_allowed_network(redis):
    for address, peak in (("192.31.10.1", 4), ("127.0.0.1", 20)):
        gauge = Gauge()
        made = settings(per_mx_max_concurrency_default=1, probe_allow_networks=("127.0.0.0/8",))
        async with Limits(made, redis) as limits:
            await asyncio.gather(
                *(run_sessions(limits, gauge, 1, host=f"n{n}.example", address=address, hold=0.05) for n in range(20))
            )
        assert gauge.peak == peak


async def test_new_sessions_keep_to_the_rate_over_all_validators(redis):
    gauge = Gauge()
    made = settings(per_mx_rps_default=20, per_mx_max_concurrency_default=50)
    began = time.monotonic()
    async with Limits(made, redis) as ours, Limits(made, redis) as theirs:
        await asyncio.gather(run_sessions(ours, gauge, 8), run_sessions(theirs, gauge, 8))
    assert 14 / 20 - 0.06 < time.monotonic() - began < 3


async def test_the_global_rate_holds(redis):
    gauge = Gauge()
    began = time.monotonic()
    async with Limits(settings(global_rps=100), redis) as limits:
        await asyncio.gather(*(run_sessions(limits, gauge, 1, host=f"mx{n}.example") for n in range(60)))
    assert (60 - 10) / 100 - 0.05 < time.monotonic() - began < 2


async def test_a_validator_that_comes_later_gets_its_share_of_a_busy_host(redis):
    made = settings(per_mx_max_concurrency_default=1)
    gauge = Gauge()
    async with Limits(made, redis) as busy, Limits(made, redis) as late:
        hog = asyncio.create_task(run_sessions(busy, gauge, 2_000, hold=0.005))
        await until(lambda: gauge.total >= 3)
        await asyncio.wait_for(run_sessions(late, gauge, 5, hold=0.005), 5)
        assert not hog.done()
        hog.cancel()
        await asyncio.gather(hog, return_exceptions=True)
    assert gauge.peak == 1


async def test_who_waits_too_long_is_told_which_scope_was_full(redis):
    async with Limits(settings(per_mx_max_concurrency_default=1), redis) as limits, limits.session(HOST):
        began = time.monotonic()
        with pytest.raises(NoSlot) as told:
            async with limits.session(HOST, max_wait=0.1):
                pass
        assert time.monotonic() - began < 5  # else it is for ever
    assert told.value.scope == f"mx:{HOST}"


async def test_a_host_that_is_full_does_not_hold_up_the_others(redis):
    async with Limits(settings(per_mx_max_concurrency_default=1), redis) as limits, limits.session(HOST):
        waiting = [asyncio.create_task(run_sessions(limits, Gauge(), 1)) for _ in range(100)]
        async with asyncio.timeout(1), limits.session("other.example"):
            pass
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)


async def test_cancelled_waiters_and_holders_leave_no_slot_behind(redis):
    async with Limits(settings(), redis) as limits:
        tasks = [asyncio.create_task(run_sessions(limits, Gauge(), 1, hold=60)) for _ in range(50)]
        for delay in (0, 0.0005, 0.001, 0.003):
            await asyncio.sleep(delay)
            for task in tasks[::2]:
                task.cancel()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        async with asyncio.timeout(2):
            await run_sessions(limits, Gauge(), 10)
    assert await redis.zcard(redis_keys.limit_slots(f"mx:{HOST}")) == 0
    assert await redis.zcard(redis_keys.limit_slots("global")) == 0


async def test_every_key_has_a_time_to_live(redis):
    made = settings(global_rps=100, per_mx_rps_default=100, per_mx_max_concurrency_default=1)
    async with Limits(made, redis) as ours, Limits(made, redis) as theirs, ours.session(HOST):
        with pytest.raises(NoSlot):
            async with theirs.session(HOST, max_wait=0.1):
                pass
        keys = await redis.keys()
        assert redis_keys.limit_slots("global").encode() in keys
        for key in keys:
            assert await redis.pttl(key) > 0, key


async def test_slots_of_a_crashed_validator_run_out(redis):
    await redis.zadd(redis_keys.limit_slots(f"mx:{HOST}"), {"gone:1": (time.time() + 0.3) * 1000, "gone:2": 9e12})
    async with Limits(settings(), redis) as limits:
        began = time.monotonic()
        async with limits.session(HOST):
            assert 0.2 < time.monotonic() - began < 10  # a lease would be 15


async def test_held_slots_are_renewed(redis, monkeypatch):
    monkeypatch.setattr(limits_module, "LEASE", 0.4)
    monkeypatch.setattr(limits_module, "RENEWAL", 0.1)
    async with Limits(settings(), redis) as limits, limits.session(HOST):
        key = redis_keys.limit_slots(f"mx:{HOST}")
        ((_, first),) = await redis.zrange(key, 0, -1, withscores=True)
        async with asyncio.timeout(5):
            for _ in iter(int, 1):
                ((_, expiry),) = await redis.zrange(key, 0, -1, withscores=True)
                if expiry > first + 500:
                    break
                await asyncio.sleep(0.02)


async def test_after_a_wipe_nothing_begins_until_all_holders_have_registered_again(redis):
    made = settings(per_mx_max_concurrency_default=1)
    gauge = Gauge()
    async with Limits(made, redis) as ours, Limits(made, redis) as theirs:
        async with ours.session(HOST):
            with pytest.raises(NoSlot):
                async with theirs.session(HOST, max_wait=0.1):
                    pass
            await redis.flushdb()
            with pytest.raises(NoSlot):
                async with theirs.session(HOST, max_wait=2.5):
                    gauge.total += 1
        assert gauge.total == 0
        async with asyncio.timeout(5), theirs.session(HOST):
            pass


async def test_without_redis_each_validator_goes_on_alone_with_one_session_a_host_and_comes_back(own_valkey):
    redis = connect_politeness(own_valkey.url)
    gauge = Gauge()
    async with Limits(settings(), redis) as limits:
        await run_sessions(limits, gauge, 6)
        assert gauge.peak == 2
        await own_valkey.kill()
        alone = Gauge()
        began = time.monotonic()
        await run_sessions(limits, alone, 10)
        assert time.monotonic() - began < 2
        assert alone.peak == 1
        assert (await limits.explain(HOST))["alone"]
        await own_valkey.start()
        await until(lambda: not limits._alone)
        again = Gauge()
        await run_sessions(limits, again, 10)
        assert again.peak == 2
    await redis.aclose()


async def test_a_single_process_without_redis_uses_its_own_caps_in_full():
    gauge = Gauge()
    async with Limits(settings(global_rps=200), None) as limits:
        began = time.monotonic()
        await run_sessions(limits, gauge, 30)
        assert time.monotonic() - began >= 28 / 200
    assert gauge.peak == 2


async def test_explain_says_who_holds_and_who_waits(redis):
    async with Limits(settings(), redis) as limits, limits.session(HOST), limits.session(HOST):
        waiter = asyncio.create_task(run_sessions(limits, Gauge(), 1))
        await asyncio.sleep(0)
        told = await limits.explain(HOST)
        waiter.cancel()
        await asyncio.gather(waiter, return_exceptions=True)
    row = next(row for row in told["scopes"] if row["scope"] == f"mx:{HOST}")
    assert row == {"scope": f"mx:{HOST}", "cap": 2, "held": 2, "waiting": 1, "heldByAll": 2}


async def test_idle_hosts_are_forgotten():
    async with Limits(settings(), None) as limits:
        await asyncio.gather(*(run_sessions(limits, Gauge(), 1, host=f"mx{n}.example") for n in range(100)))
        limits._forget_idle()
        assert limits._lines == {}
        assert limits._scopes == {}


class Hesitant:
    """A clock that is read a moment too early every other time, as an event loop that wakes up early does."""

    def __init__(self):
        self.reads = 0

    def __call__(self):
        self.reads += 1
        return time.monotonic() - 0.004 * (self.reads % 2)


async def test_a_host_that_others_hold_is_asked_for_until_it_is_free_whatever_the_clocks_do(redis):
    made = settings(per_mx_max_concurrency_default=1)
    async with Limits(made, redis, Hesitant()) as ours, Limits(made, redis) as theirs:
        for _ in range(5):
            async with theirs.session(HOST):
                wanted = asyncio.create_task(run_sessions(ours, Gauge(), 1))
                await asyncio.sleep(0.4)  # several polls, each of which may meet the clock between two reads
                assert not wanted.done()
            async with asyncio.timeout(5):
                await wanted
