"""How many requests a minute: a sliding window per caller and per client address, counted in Redis for all gateways.

The window is two counters, this minute's and the last one's; the last one's counts by the share of it that still lies
within 60 s. One script judges and counts all of a request's windows in one round trip, with Redis's own clock, and
counts nothing when it refuses: who keeps knocking is let in as soon as the minute allows.

Without Redis every process counts for itself and allows LOCAL_SHARE of the limit: stricter with up to four gateways,
never unlimited. A Redis that did not answer is left alone for AWAY seconds, so that requests do not wait for it.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from ipaddress import IPv6Address, ip_address, ip_network
from typing import TYPE_CHECKING

from redis.exceptions import RedisError

from gateway.problem import Problem
from shared.logs import get_log
from shared.redis_keys import request_rate

if TYPE_CHECKING:
    from redis.asyncio import Redis

log = get_log("gateway.rate_limits")

WINDOW = 60  # seconds
ADDRESS_FACTOR = 4  # a client address may make this many times the requests of one key: offices share one
LOCAL_SHARE = 0.25
AWAY = 1.0  # seconds
_ANSWER_IN = 0.25  # seconds Redis has to answer
_MOST = 50_000  # windows kept in process

# KEYS: a window each. ARGV: seconds, then a limit each. Answer, of the window with the least left:
# {allowed 0|1, limit, left, milliseconds until it is renewed, or until the next request is allowed}.
_COUNT = """
local clock = redis.call('TIME')
local now = clock[1] + clock[2] / 1000000
local width = tonumber(ARGV[1])
local number = math.floor(now / width)
local passed = now - number * width
local answer = nil
local counts = {}
for i, key in ipairs(KEYS) do
  local limit = tonumber(ARGV[i + 1])
  local kept = redis.call('HMGET', key, 'n', 'c', 'p')
  local n, c, p = tonumber(kept[1]), tonumber(kept[2]) or 0, tonumber(kept[3]) or 0
  if n == number - 1 then p, c = c, 0 elseif n ~= number then p, c = 0, 0 end
  counts[i] = {c + 1, p}
  local left = limit - (p * (1 - passed / width) + c) - 1
  local one = nil
  if left >= 0 then
    one = {1, limit, math.floor(left), math.ceil((width - passed) * 1000)}
  elseif c + 1 > limit then
    one = {0, limit, 0, math.ceil((width - passed + width * (1 - (limit - 1) / c)) * 1000)}
  else
    one = {0, limit, 0, math.ceil((width * (1 - (limit - 1 - c) / p) - passed) * 1000)}
  end
  if not answer or one[1] < answer[1] or (one[1] == answer[1] and one[3] < answer[3]) then answer = one end
end
if answer[1] == 1 then
  for i, key in ipairs(KEYS) do
    redis.call('HSET', key, 'n', number, 'c', counts[i][1], 'p', counts[i][2])
    redis.call('EXPIRE', key, width * 2)
  end
end
return answer
"""


@dataclass(frozen=True, slots=True)
class Standing:
    """Where a caller stands after a request. `reset`: seconds until the window is renewed; refused: until a retry."""

    allowed: bool
    limit: int
    left: int
    reset: float

    def headers(self) -> dict[str, str]:
        return {
            "RateLimit-Limit": str(self.limit),
            "RateLimit-Remaining": str(self.left),
            "RateLimit-Reset": str(max(1, math.ceil(self.reset))),
        }


class RateLimiter:
    """`per_minute` 0: no limit. `clock`: seconds since the epoch; `ticks`: seconds that never go back."""

    def __init__(
        self,
        redis: Redis,
        per_minute: int,
        *,
        clock: Callable[[], float] = time.time,
        ticks: Callable[[], float] = time.monotonic,
    ) -> None:
        self._count = redis.register_script(_COUNT)
        self._per_minute = per_minute
        self._clock = clock
        self._ticks = ticks
        self._away_until = -math.inf
        self._local: dict[str, tuple[int, int, int]] = {}

    async def count(self, actor: str | None, address: str | None) -> Standing | None:
        """Count one request of `actor` (None: not identified) from `address`. None: there is no limit."""
        windows = self._windows(actor, address)
        if not windows:
            return None
        standing = await self._shared(windows)
        return standing if standing is not None else self._alone(windows)

    def _windows(self, actor: str | None, address: str | None) -> list[tuple[str, int]]:
        if not self._per_minute:
            return []
        windows = [] if actor is None else [(request_rate(actor), self._per_minute)]
        if address is not None:
            windows.append((request_rate(f"address:{network_of(address)}"), self._per_minute * ADDRESS_FACTOR))
        return windows

    async def _shared(self, windows: Sequence[tuple[str, int]]) -> Standing | None:
        """None when Redis does not answer."""
        if self._ticks() < self._away_until:
            return None
        try:
            async with asyncio.timeout(_ANSWER_IN):
                allowed, limit, left, milliseconds = await self._count(
                    [key for key, _ in windows], [WINDOW, *(limit for _, limit in windows)]
                )
        except (RedisError, OSError):  # TimeoutError is an OSError
            self._away_until = self._ticks() + AWAY
            log.warning("rate_limits_local")
            return None
        return Standing(bool(allowed), int(limit), int(left), milliseconds / 1000)

    def _alone(self, windows: Sequence[tuple[str, int]]) -> Standing:
        now = self._clock()
        number = int(now // WINDOW)
        passed = now - number * WINDOW
        tightest: Standing | None = None
        counted = {}
        for key, whole in windows:
            limit = max(1, int(whole * LOCAL_SHARE))
            n, c, p = self._local.get(key, (number, 0, 0))
            c, p = (c, p) if n == number else (0, c if n == number - 1 else 0)
            counted[key] = (number, c + 1, p)
            left = limit - (p * (1 - passed / WINDOW) + c) - 1
            one = Standing(left >= 0, limit, max(0, int(left)), WINDOW - passed)
            if tightest is None or (one.allowed, one.left) < (tightest.allowed, tightest.left):
                tightest = one
        assert tightest is not None  # noqa: S101 - `windows` is never empty
        if tightest.allowed:
            if len(self._local) > _MOST:
                self._local.clear()
            self._local.update(counted)
        return tightest


def refuse(standing: Standing) -> Problem:
    return Problem(429, "too_many_requests", "Too many requests; slow down.", retry_after=standing.reset)


def network_of(address: str) -> str:
    """What counts as one client: an IPv4 address, or the /64 that one IPv6 subscriber has to himself."""
    try:
        parsed = ip_address(address)
    except ValueError:
        return "unknown"  # a UNIX socket, or a test's client
    if not isinstance(parsed, IPv6Address):
        return str(parsed)
    return str(parsed.ipv4_mapped or ip_network((parsed, 64), strict=False).network_address)
