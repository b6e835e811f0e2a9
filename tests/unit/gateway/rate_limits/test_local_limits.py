"""The floor that every process has without Redis; and who counts as one client."""

from __future__ import annotations

import pytest
from redis.asyncio import Redis

from gateway.rate_limits.limiter import AWAY, WINDOW, RateLimiter, Standing, network_of, refuse
from shared.redis_keys import request_rate


class Hands:
    now = 60_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def hands() -> Hands:
    return Hands()


def alone(per_minute: int, hands: Hands) -> RateLimiter:
    """A limiter that takes its Redis for away, and asks nothing of it."""
    limiter = RateLimiter(Redis(), per_minute, clock=hands, ticks=hands)
    limiter._away_until = float("inf")
    return limiter


async def count(
    limiter: RateLimiter, times: int, actor: str | None = "key:a", address: str = "192.0.2.1"
) -> list[bool]:
    standings = [await limiter.count(actor, address) for _ in range(times)]
    return [standing is not None and standing.allowed for standing in standings]


async def test_a_quarter_of_the_limit_is_left_without_redis(hands: Hands) -> None:
    assert await count(alone(40, hands), 12) == [True] * 10 + [False] * 2


async def test_even_the_smallest_limit_lets_one_request_through(hands: Hands) -> None:
    assert await count(alone(1, hands), 2) == [True, False]


async def test_no_limit_means_no_counting(hands: Hands) -> None:
    assert await alone(0, hands).count("key:a", "192.0.2.1") is None


async def test_the_window_slides(hands: Hands) -> None:
    limiter = alone(40, hands)
    assert all(await count(limiter, 10))
    hands.now += WINDOW  # of the ten of the last minute, all still count
    assert await count(limiter, 1) == [False]
    hands.now += WINDOW / 2  # and now half of them
    assert await count(limiter, 6) == [True] * 5 + [False]
    hands.now += 2 * WINDOW
    assert all(await count(limiter, 10))


async def test_refused_requests_do_not_count(hands: Hands) -> None:
    limiter = alone(40, hands)
    await count(limiter, 1_000)
    hands.now += 1.5 * WINDOW
    assert await count(limiter, 6) == [True] * 5 + [False]


async def test_keys_have_windows_of_their_own_and_share_that_of_their_address(hands: Hands) -> None:
    limiter = alone(40, hands)
    for actor in "abcd":
        assert all(await count(limiter, 10, actor))
    assert await count(limiter, 1, "e") == [False]
    assert await count(limiter, 1, "e", "192.0.2.2") == [True]
    assert await count(limiter, 1, None) == [False]


async def test_the_tightest_window_is_the_one_told(hands: Hands) -> None:
    standing = await alone(40, hands).count("key:a", "192.0.2.1")
    assert standing == Standing(allowed=True, limit=10, left=9, reset=60)
    assert standing.headers() == {"RateLimit-Limit": "10", "RateLimit-Remaining": "9", "RateLimit-Reset": "60"}


def test_a_refusal_says_when_to_come_again() -> None:
    problem = refuse(Standing(allowed=False, limit=10, left=0, reset=12.2))
    assert (problem.status, problem.code, problem.headers["Retry-After"]) == (429, "too_many_requests", "13")


@pytest.mark.parametrize(
    ("address", "network"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("testclient", "unknown"),
    ],
)
def test_one_client_is_an_ipv4_address_or_an_ipv6_network(address: str, network: str) -> None:
    assert network_of(address) == network


async def test_a_redis_that_did_not_answer_is_left_alone_for_a_moment(hands: Hands) -> None:
    limiter = RateLimiter(Redis(port=1, socket_connect_timeout=0.2), 40, clock=hands, ticks=hands)
    asked = []

    class Counted:
        async def __call__(self, keys: list[str], _: list[int]) -> None:
            asked.append(keys)
            raise ConnectionRefusedError

    limiter._count = Counted()  # type: ignore[assignment]
    await count(limiter, 5)
    hands.now += AWAY
    await count(limiter, 5)
    assert asked == [[request_rate("key:a"), request_rate("address:192.0.2.1")]] * 2
