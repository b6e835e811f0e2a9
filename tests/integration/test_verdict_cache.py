"""Definite verdicts are reused, for the organisation that paid for them, and no address lies in Redis."""

import pytest
from redis.asyncio import Redis

from shared.verdict import Details, Reason, Result, RiskLevel, SmtpDetails, Status, VerifyStatus
from validator.verdict_cache import VerdictCache


def verdict(email, status=Status.INVALID, reason=Reason.MAILBOX_MISSING, text=""):
    return Result(
        email=email,
        normalized=email,
        status=status,
        is_valid=False,
        risk_level=RiskLevel.HIGH,
        reason=reason,
        verify_status=VerifyStatus.INVALID,
        score=2,
        details=Details(smtp=SmtpDetails(code=550, text=text, host="mx.a.test", attempts=1)),
    )


@pytest.fixture
async def redis(valkey):
    client = Redis.from_url(valkey.url)
    await client.flushall()
    yield client
    await client.aclose()


def cache_on(redis, ttl=60.0, secret="one secret"):
    return VerdictCache(redis, ttl=ttl, secret=secret)


async def test_a_definite_verdict_is_recalled_about_the_spelling_that_was_asked(redis):
    cache = cache_on(redis)
    await cache.remember("o1", [verdict("ann@a.test", text="5.1.1 <Ann@a.test>: user ann unknown"), None])
    found = await cache.recall("o1", ["ben@a.test", "ANN@A.test"])
    assert list(found) == [1]
    assert found[1].email == "ANN@A.test"
    assert found[1].normalized == "ANN@a.test"
    assert found[1].reason is Reason.MAILBOX_MISSING
    assert found[1].details.syntax["local"] == "ANN"
    assert "ANN@a.test" in found[1].details.smtp.text


async def test_no_byte_of_an_address_lies_in_redis(redis):
    await cache_on(redis).remember("o1", [verdict("canary.bird@a.test", text="<canary.bird@a.test> canary.bird gone")])
    keys = await redis.keys("*")
    values = [await redis.get(key) for key in keys]
    assert len(values) == 1
    assert b"canary" not in b"".join([*keys, *values])


async def test_another_organisation_learns_nothing(redis):
    cache = cache_on(redis)
    await cache.remember("o1", [verdict("ann@a.test")])
    assert await cache.recall("o2", ["ann@a.test"]) == {}
    assert await cache_on(redis, secret="another").recall("o1", ["ann@a.test"]) == {}


@pytest.mark.parametrize(
    ("status", "reason"),
    [
        (Status.UNKNOWN, Reason.PUT_OFF),
        (Status.INVALID, Reason.INVALID_SYNTAX),
        (Status.INVALID, Reason.DOMAIN_MISSING),
        (Status.RISKY, Reason.DISPOSABLE),
    ],
)
async def test_what_may_change_or_costs_nothing_to_find_again_is_not_kept(redis, status, reason):
    cache = cache_on(redis)
    await cache.remember("o1", [verdict("ann@a.test", status, reason)])
    assert await cache.recall("o1", ["ann@a.test"]) == {}


async def test_a_time_to_live_of_nought_turns_it_off(redis):
    cache = cache_on(redis, ttl=0)
    await cache.remember("o1", [verdict("ann@a.test")])
    assert await redis.dbsize() == 0


async def test_every_entry_ends_by_itself(redis):
    await cache_on(redis, ttl=60).remember("o1", [verdict("ann@a.test")])
    (key,) = await redis.keys("*")
    assert 0 < await redis.ttl(key) <= 60


async def test_without_redis_nothing_is_recalled_and_nothing_breaks():
    nowhere = Redis.from_url("redis://127.0.0.1:1", retry=None, socket_connect_timeout=1)
    cache = cache_on(nowhere)
    await cache.remember("o1", [verdict("ann@a.test")])
    assert await cache.recall("o1", ["ann@a.test"]) == {}
    await nowhere.aclose()


@pytest.mark.parametrize(
    ("email", "text", "kept"),
    [
        ("a@b.test", "mailbox unavailable, a user", "mailbox unavailable, <address> user"),
        ("jo.hn@b.test", "JO.HN@B.TEST: no jo.hnson here", "<address>: no jo.hnson here"),
        ("ann@b.test", "2.1.5 Ok", "2.1.5 Ok"),
        ("ann@b.test", "<ann@b.test>... ANN", "<<address>>... <address>"),
    ],
)
async def test_an_address_is_cut_out_as_a_word_and_nothing_else_is(redis, email, text, kept):
    cache = cache_on(redis)
    await cache.remember("o1", [verdict(email, text=text)])
    (key,) = await redis.keys("*")
    assert kept.encode() in await redis.get(key)


async def test_a_value_of_another_version_is_unknown(redis):
    cache = cache_on(redis)
    await redis.set(cache.key("o1", "ann@b.test"), b"\x91\x63")
    assert await cache.recall("o1", ["ann@b.test"]) == {}
