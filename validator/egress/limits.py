"""How many sessions there are at once, and how many begin in a second: global, per provider, MX host and address.

The slots live in Redis, for all validators together, as members of a sorted set with their expiry; a validator renews
those it holds, and those of one that crashed run out after LEASE seconds. A session counts from before its connect
until the caller leaves the `with`, which is after 221 or the end of the connection.

One task per process, the clerk, asks Redis for everything that is wanted at this moment in one call of one script, all
or nothing for each session; so a session costs a share of a call, and callers never touch Redis. What this process
holds is also counted here, so a full scope is not asked about. Which validator is next in a full scope is Redis'
business too (limits.lua).

When Redis is away, this process goes on alone with the floor: one session per MX host and a quarter of the rates. When
it comes back, what is held is registered first. When it comes back empty, the script notices (its epoch is another
one), and nothing new begins until all have registered. Stricter for a while, never looser.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import secrets
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Callable
from importlib.resources import files
from typing import Any, Self

import msgspec
from prometheus_client import Counter, Gauge
from redis.asyncio import Redis
from redis.exceptions import RedisError

from shared import redis_keys
from shared.address_guard import allowed_networks
from shared.errors import MailvetError
from shared.logs import get_log
from shared.settings import Settings
from validator.egress.scopes import Line, Lines, Scope, Want
from validator.providers import Provider

LEASE = 15.0  # seconds
RENEWAL = 2.0
PAUSE = 3.0  # after a wipe; all holders have registered again by then
POLL = 0.05  # seconds between two questions about a scope that other validators fill
TICK = 0.001  # seconds: event loops wake up to that much too early
GATHER = 0.02  # seconds a slot that nobody here wants may wait for company on its way back
REST = 1.0  # seconds without Redis before it is tried again
MOST = 64  # sessions asked for in one call
SLOW = 4  # without Redis, rates are divided by this: there may be so many of us
ADDRESS_FACTOR = 4  # an address that many MX names point at gets so many times one MX host's sessions

GRANTED = Counter("mailvet_limit_slots_total", "Sessions that got a slot")
WAITED_IN_VAIN = Counter(
    "mailvet_limit_timeouts_total", "Sessions that got no slot in time, by kind of scope", ["scope"]
)
ALONE = Gauge("mailvet_limits_alone", "1 while Redis is away and the floor holds")

log = get_log("limits")


class NoSlot(MailvetError):
    """No slot came free in time. `scope` held the session up."""

    def __init__(self, scope: str) -> None:
        super().__init__(f"no free slot in {scope}")
        self.scope = scope


class Slot(msgspec.Struct, eq=False):
    """A session that may run."""

    id: str
    scopes: tuple[Scope, ...]
    registered: bool  # Redis knows of it


class Limits:
    """Open it with `async with`. `redis` comes from `connect_politeness`; None: this process is alone, and the caps are
    all its own.
    """

    def __init__(self, settings: Settings, redis: Redis | None, clock: Callable[[], float] = time.monotonic) -> None:
        self._settings = settings
        self._allow = allowed_networks(settings.probe_allow_networks)
        self._redis = redis
        self._clock = clock
        source = (files("validator.egress") / "limits.lua").read_text("utf-8")
        self._script = redis.register_script(source) if redis is not None else None
        self._me = secrets.token_hex(6)
        self._count = 0
        self._scopes: dict[str, Scope] = {}
        self._lines: dict[tuple[str, ...], Line] = {}
        self._turns = Lines()
        self._held: dict[str, Slot] = {}
        self._returned: list[Slot] = []
        self._news = asyncio.Event()
        self._epoch = ""
        self._renew_at = 0.0
        self._back_at = 0.0  # by the clock; Redis is not tried before
        self._alone = False
        self._clerk: asyncio.Task[None] | None = None
        self._stopping = False
        self._gathering: asyncio.TimerHandle | None = None

    async def __aenter__(self) -> Self:
        self._renew_at = self._clock() + RENEWAL
        self._clerk = asyncio.create_task(self._work(), name="limits-clerk")
        return self

    @property
    def _on_my_own(self) -> bool:
        return self._alone or self._redis is None

    async def __aexit__(self, *_: object) -> None:
        """Give back what is held; sessions must be over by now."""
        self._stopping = True
        self._news.set()
        for alarm in (self._gathering, *(scope.alarm for scope in self._scopes.values())):
            if alarm is not None:
                alarm.cancel()
        if self._clerk is not None:
            await self._clerk  # it is not cancelled: that would leave a connection of the pool half-way
        self._returned += self._held.values()
        self._held.clear()
        if self._returned and not self._alone:
            await self._ask_redis([])

    @contextlib.asynccontextmanager
    async def session(
        self, mail_host: str, provider: Provider | None = None, *, address: str | None = None, max_wait: float = 30.0
    ) -> AsyncIterator[Slot]:
        """Run one session inside. `max_wait`: seconds to wait for a slot; raises NoSlot after them."""
        slot = await self._acquire(self._line(mail_host, provider, address), max_wait)
        try:
            yield slot
        finally:
            self._release(slot)

    async def _acquire(self, line: Line, max_wait: float) -> Slot:
        if self._clerk is None or self._clerk.done():
            raise RuntimeError("the limits are not open")
        loop = asyncio.get_running_loop()
        self._count += 1
        want = Want(f"{self._me}:{self._count}", line, loop.create_future())
        self._turns.join(want)
        self._news.set()
        alarm = loop.call_later(max_wait, _give_up, want)
        try:
            if not await want.granted:
                obstacle = self._obstacle(line)
                WAITED_IN_VAIN.labels(obstacle.partition(":")[0]).inc()
                raise NoSlot(obstacle)
        except asyncio.CancelledError:
            if want.id in self._held:  # granted in the same moment
                self._release(self._held[want.id])
            raise
        finally:
            alarm.cancel()
        return self._held[want.id]

    def _release(self, slot: Slot) -> None:
        if self._held.pop(slot.id, None) is None:
            return
        if slot.registered:
            self._returned.append(slot)
        self._turns.give_back(slot.scopes, self._clock(), alone=self._on_my_own)
        if self._turns.ready:
            self._news.set()
        elif self._gathering is None:
            self._gathering = asyncio.get_running_loop().call_later(GATHER, self._gathered)

    def _gathered(self) -> None:
        self._gathering = None
        self._news.set()

    def _line(self, mail_host: str, provider: Provider | None, address: str | None) -> Line:
        name = provider.name if provider is not None else ""
        key = (mail_host, name, address or "")
        line = self._lines.get(key)
        if line is None:
            line = self._lines[key] = Line(key, tuple(self._scopes_for(mail_host, provider, address)))
        return line

    def _scopes_for(self, mail_host: str, provider: Provider | None, address: str | None) -> list[Scope]:
        settings = self._settings
        per_host = settings.per_mx_max_concurrency_default
        cap = settings.global_max_concurrency
        scopes = [self._scope("global", cap, max(1, cap // 4), settings.global_rps)]
        if provider is not None and (provider.max_connections or provider.connections_per_second):
            cap = provider.max_connections or settings.global_max_concurrency
            rate = provider.connections_per_second or 0.0
            scopes.append(self._scope(f"provider:{provider.name}", cap, max(1, cap // 4), rate))
        scopes.append(self._scope(f"mx:{mail_host}", per_host, 1, settings.per_mx_rps_default))
        if address is not None and not any(ipaddress.ip_address(address) in net for net in self._allow):
            scopes.append(self._scope(f"address:{address}", ADDRESS_FACTOR * per_host, 1, 0.0))
        return scopes

    def _scope(self, name: str, cap: int, floor: int, rate: float) -> Scope:
        scope = self._scopes.get(name)
        if scope is None:
            if self._redis is None:
                scope = Scope(name, cap, cap, rate, patience=1)
            else:
                scope = Scope(name, cap, floor, rate, patience=SLOW)
            self._scopes[name] = scope
        return scope

    # --- the clerk ---

    async def _work(self) -> None:
        while not self._stopping:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(max(0.0, self._renew_at - self._clock())):
                    await self._news.wait()
            self._news.clear()
            now = self._clock()
            if self._redis is not None and self._alone and now >= self._back_at:
                self._come_back()
            if now >= self._renew_at:
                self._renew_at = now + RENEWAL
                self._forget_idle()
                await self._ask_redis([], renew=True)
            await self._serve()

    async def _serve(self) -> None:
        alone = self._on_my_own
        wants, full = self._turns.pick(MOST, self._clock(), alone=alone)
        for scope in full:
            self._wake_later(scope)
        if alone:
            for want in wants:
                self._grant(want)
        elif wants or self._returned:
            await self._ask_redis(wants)
        if self._turns.ready:
            self._news.set()

    async def _ask_redis(self, wants: list[Want], *, renew: bool = False) -> None:
        """Give back, renew and ask in one call. Without an answer this process goes on alone."""
        if self._script is None or self._alone:
            return
        returned, self._returned = self._returned, []
        body = {
            "me": self._me,
            "epoch": self._epoch,
            "lease": int(LEASE * 1000),
            "pause": int(PAUSE * 1000),
            "renew": self._renewals() if renew else [],
            "release": [[slot.id, [scope.slots_key for scope in slot.scopes]] for slot in returned],
            "want": [[want.id, [scope.asked() for scope in want.line.scopes]] for want in wants],
        }
        try:
            keys = [redis_keys.LIMIT_EPOCH, redis_keys.LIMIT_SETTLING]
            named, *answers = await self._script(keys=keys, args=[msgspec.json.encode(body)])
        except (RedisError, OSError) as error:
            self._returned += returned  # once more when Redis is back; giving back twice does nothing
            self._go_alone(wants, error)
            return
        epoch = named.decode()
        if self._epoch not in ("", epoch):
            log.warning("limits_registered_again", held=len(self._held))
            self._renew_at = 0.0  # the data was wiped: register what is held before anything else
            self._news.set()
        self._epoch = epoch
        ALONE.set(0)
        for want, (number, wait_ms) in zip(wants, answers, strict=True):
            if number:
                self._refuse(want, want.line.scopes[int(number) - 1], int(wait_ms) / 1000)
            else:
                self._grant(want)

    def _renewals(self) -> list[list[Any]]:
        held: defaultdict[str, list[str]] = defaultdict(list)
        for slot in self._held.values():
            slot.registered = True
            for scope in slot.scopes:
                held[scope.slots_key].append(slot.id)
        return [list(item) for item in held.items()]

    def _grant(self, want: Want) -> None:
        slot = Slot(want.id, want.line.scopes, not self._on_my_own)
        self._held[slot.id] = slot
        if want.granted.done():  # cancelled or out of time while Redis was asked
            self._release(slot)
            return
        want.granted.set_result(True)
        GRANTED.inc()
        self._turns.pass_on(slot.scopes, self._clock(), alone=self._on_my_own)  # there was room; perhaps there is more
        if self._on_my_own:
            for scope in slot.scopes:
                if scope.parked:  # this start made them wait for the next one's time
                    self._wake_later(scope)

    def _refuse(self, want: Want, scope: Scope, wait: float) -> None:
        scope.blocked_until = self._clock() + (wait or POLL)
        self._turns.put_back(want, scope)
        self._turns.pass_on(want.line.scopes, self._clock(), alone=self._on_my_own)
        self._wake_later(scope)

    def _wake_later(self, scope: Scope) -> None:
        """A scope that is full here is woken by what is given back; one that is full elsewhere is woken by an alarm.

        Its time may have come since its lines were parked a moment ago, and nobody may ever give anything back here:
        then the alarm is due at once.
        """
        now, alone = self._clock(), self._on_my_own
        delay = (scope.opens_alone if alone else scope.blocked_until) - now
        overdue = bool(scope.parked) and scope.room(now, alone=alone) > 0
        if scope.alarm is None and (delay > 0 or overdue):
            scope.alarm = asyncio.get_running_loop().call_later(max(delay, TICK), self._wake, scope)

    def _wake(self, scope: Scope) -> None:
        scope.alarm = None
        self._turns.wake(scope, scope.burst)
        if not scope.parked and not self._turns.ready:
            return
        self._news.set()

    def _go_alone(self, wants: list[Want], error: Exception) -> None:
        log.warning("limits_alone", cause=type(error).__name__)
        self._alone = True
        ALONE.set(1)
        self._back_at = self._clock() + REST
        asyncio.get_running_loop().call_later(REST, self._news.set)
        for want in reversed(wants):
            self._turns.put_back(want, want.line.scopes[0])
        for scope in self._scopes.values():
            self._turns.wake(scope, len(scope.parked))

    def _come_back(self) -> None:
        """Try Redis again; what is held is registered before anything is asked for."""
        self._alone = False
        self._renew_at = 0.0
        for scope in self._scopes.values():
            self._turns.wake(scope, len(scope.parked))

    def _forget_idle(self) -> None:
        now = self._clock()
        idle = {name for name, scope in self._scopes.items() if scope.idle and scope.due <= now}
        lines = [
            key for key, line in self._lines.items() if not line.wants and any(s.name in idle for s in line.scopes)
        ]
        for key in lines:
            del self._lines[key]
        in_use = {scope.name for line in self._lines.values() for scope in line.scopes}
        for name in idle - in_use:
            del self._scopes[name]

    # --- for people ---

    def _obstacle(self, line: Line) -> str:
        scope = line.hindrance(self._clock(), alone=self._on_my_own)
        return scope.name if scope is not None else line.scopes[0].name

    async def explain(self, mail_host: str) -> dict[str, Any]:
        """`{"alone", "scopes": [{"scope", "cap", "held", "waiting", "heldByAll"}]}`; `heldByAll` None without Redis."""
        named = self._scopes_for(mail_host, None, None)
        named += [scope for key, line in self._lines.items() if key[0] == mail_host for scope in line.scopes[1:]]
        rows = list(dict.fromkeys(named))
        counts: list[int | None] = [None] * len(rows)
        if self._redis is not None and not self._alone:
            with contextlib.suppress(RedisError, OSError):
                counts = [await self._redis.zcard(scope.slots_key) for scope in rows]
        return {
            "alone": self._alone,
            "scopes": [
                {
                    "scope": scope.name,
                    "cap": scope.floor if self._alone else scope.cap,
                    "held": scope.held,
                    "waiting": scope.wanted,
                    "heldByAll": count,
                }
                for scope, count in zip(rows, counts, strict=True)
            ],
        }


def _give_up(want: Want) -> None:
    if not want.granted.done():
        want.granted.set_result(False)
