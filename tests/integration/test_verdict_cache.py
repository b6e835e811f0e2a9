"""Definite verdicts are reused, for the organisation that paid for them, and no address lies in Redis."""

from datetime import UTC, datetime

import pytest
from redis.asyncio import Redis

from shared.verdict import Finding, Reason, RiskLevel, SmtpDetails, Status, Verdict
from shared.verdicts import Verdicts
from validator.verdict_cache import VerdictCache


def verdict(email, status=Status.INVALID, reason=Reason.MAILBOX_MISSING, text="", checked_at=None):
    finding = Finding(
        status=status,
        reason=reason,
        risk_level=RiskLevel.HIGH,
        score=2,
        smtp=SmtpDetails(code=550, text=text, host="mx.a.test", attempts=1),
    )
    now = datetime.now(UTC).isoformat(timespec="seconds")
    return Verdict(email=email, normalized=email, finding=finding, checked_at=checked_at or now)


def some(*verdicts):
    return Verdicts.of([verdict.email if verdict is not None else "x" for verdict in verdicts], verdicts)


async def everything(redis):
    """Every byte that lies there."""
    return [
        part
        for key in await redis.keys("*")
        for part in (key, *(byte for pair in (await redis.hgetall(key)).items() for byte in pair))
    ]


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
    await cache.remember("o1", some(verdict("ann@a.test", text="5.1.1 <Ann@a.test>: user ann unknown"), None))
    found = await cache.recall("o1", ["ben@a.test", "ANN@A.test"])
    assert list(found) == [1]
    assert found[1].email == "ANN@A.test"
    assert found[1].normalized == "ANN@a.test"
    assert found[1].reason is Reason.MAILBOX_MISSING
    assert found[1].result().details.smtp.text == "5.1.1 <ANN@a.test>: user ANN@a.test unknown"


async def test_no_byte_of_an_address_lies_in_redis(redis):
    await cache_on(redis).remember(
        "o1", some(verdict("canary.bird@a.test", text="<canary.bird@a.test> canary.bird gone"))
    )
    parts = await everything(redis)
    assert len(parts) == 5  # the key, the address, what it points to, and that
    assert b"canary" not in b"".join(parts)


async def test_another_organisation_learns_nothing(redis):
    cache = cache_on(redis)
    await cache.remember("o1", some(verdict("ann@a.test")))
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
    await cache.remember("o1", some(verdict("ann@a.test", status, reason)))
    assert await cache.recall("o1", ["ann@a.test"]) == {}


async def test_a_time_to_live_of_nought_turns_it_off(redis):
    cache = cache_on(redis, ttl=0)
    await cache.remember("o1", some(verdict("ann@a.test")))
    assert await redis.dbsize() == 0


async def test_every_entry_ends_by_itself(redis):
    await cache_on(redis, ttl=60).remember("o1", some(verdict("ann@a.test")))
    (key,) = await redis.keys("*")
    assert 0 < await redis.ttl(key) <= 2 * 60


async def test_without_redis_nothing_is_recalled_and_nothing_breaks():
    nowhere = Redis.from_url("redis://127.0.0.1:1", retry=None, socket_connect_timeout=1)
    cache = cache_on(nowhere)
    await cache.remember("o1", some(verdict("ann@a.test")))
    assert await cache.recall("o1", ["ann@a.test"]) == {}
    await nowhere.aclose()


@pytest.mark.parametrize(
    ("email", "text", "kept"),
    [
        ("a@b.test", "mailbox unavailable, a user", "mailbox unavailable, \x1a user"),
        ("jo.hn@b.test", "JO.HN@B.TEST: no jo.hnson here", "\x1a: no jo.hnson here"),
        ("ann@b.test", "2.1.5 Ok", "2.1.5 Ok"),
        ("ann@b.test", "<ann@b.test>... ANN", "<\x1a>... \x1a"),
    ],
)
async def test_an_address_is_cut_out_as_a_word_and_nothing_else_is(redis, email, text, kept):
    cache = cache_on(redis)
    await cache.remember("o1", some(verdict(email, text=text)))
    assert kept.encode() in b"".join(await everything(redis))


async def test_a_finding_of_another_version_is_unknown(redis):
    cache = cache_on(redis)
    await cache.remember("o1", some(verdict("ann@b.test")))
    (key,) = await redis.keys("*")
    for name, value in (await redis.hgetall(key)).items():
        await redis.hset(key, name, value if len(value) == 12 else b"\x92\x63\x80")
    assert await cache.recall("o1", ["ann@b.test"]) == {}


async def test_a_verdict_is_known_for_its_time_to_live_and_not_a_moment_longer(redis):
    clock = [1_000_000_030.0]
    cache = VerdictCache(redis, ttl=60, secret="s", clock=lambda: clock[0])
    then = datetime.fromtimestamp(clock[0], UTC).isoformat()
    await cache.remember("o1", some(verdict("ann@b.test", checked_at=then)))
    clock[0] += 59
    found = await cache.recall("o1", ["ann@b.test"])
    assert datetime.fromisoformat(found[0].checked_at) == datetime.fromisoformat(then)
    clock[0] += 1
    assert await cache.recall("o1", ["ann@b.test"]) == {}


async def test_what_was_found_last_counts(redis):
    clock = [1_000_000_030.0]
    cache = VerdictCache(redis, ttl=60, secret="s", clock=lambda: clock[0])
    for later in (0, 55):
        clock[0] += later
        then = datetime.fromtimestamp(clock[0], UTC).isoformat()
        await cache.remember("o1", some(verdict("ann@b.test", text=f"after {later}", checked_at=then)))
    assert len(await redis.keys("*")) == 2
    assert (await cache.recall("o1", ["ann@b.test"]))[0].finding.smtp.text == "after 55"


async def test_thousands_of_one_domain_and_thousands_of_domains_come_back_each_in_its_place(redis):
    cache = cache_on(redis)
    told = [verdict(f"u{i}@one.test", text=f"kind {i % 3}") for i in range(4_500)]
    told += [verdict(f"u@d{i}.test", text=f"of d{i}") for i in range(500)]
    await cache.remember("o1", some(*told))
    emails = [one.email for one in reversed(told)] + ["nobody@one.test", "not an address"]
    found = await cache.recall("o1", emails)
    assert [found[at].email for at in range(len(told))] == emails[:-2]
    assert [found[at].finding.smtp.text for at in range(len(told))] == [one.finding.smtp.text for one in reversed(told)]
    assert len(found) == len(told)
