"""Circuit breakers of mail hosts, shared by all validators: a host in trouble, or one that blocks us, is left alone.

It opens after FAIL_MAX failures in a row of the host itself (no connection, dropped, not SMTP), at once when the host
blocks us, and never for what a host says about a mailbox. After a pause that doubles each time, exactly one session in
the whole fleet may try (half-open). Its success closes the breaker, its failure opens it again; when it is cancelled,
nothing is known and the next one may try.

Where what happens: `admit` on a closed breaker, and every report, touch memory only. One task sends the reports to
Redis in order (breaker.lua decides there, and tells everyone), one listens to what others changed, and one reads the
index of troubled hosts every REFRESH seconds, because a message can be lost. Only a claim of the half-open session
waits for Redis.

Without Redis the local state machines go on. When it comes back, what opened meanwhile is opened there too. After a
wipe the validators restore the breakers that they know to be open. In both cases a breaker may stay open too long; none
is closed too early.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import time
from collections import deque
from collections.abc import Callable
from enum import StrEnum
from importlib.resources import files
from typing import Any, Self

import msgspec
from prometheus_client import Counter, Gauge
from redis.asyncio import Redis
from redis.exceptions import RedisError

from shared import redis_keys
from shared.logs import get_log
from shared.redis_client import Heard, Listener, connect_politeness
from validator.egress.circuit import FAIL_MAX, FIRST_PAUSE, LONGEST_PAUSE, Circuit, Seen

REFRESH = 2.0  # seconds
ASK_AGAIN = 1.0  # seconds after a claim that another validator had made already
PROBE_LEASE = 120.0  # seconds; longer than the longest session
IDLE = 600.0  # seconds after which a closed breaker forgets its failures, as in breaker.lua
BLOCKED_FACTOR = 10.0  # a block of us lasts; the pause is so many times longer
_STATE = msgspec.json.Decoder(Seen)

OPENINGS = Counter("mailvet_breaker_openings_total", "Breakers that a report of this process opened", ["kind"])
TROUBLED = Gauge("mailvet_breakers_troubled", "Mail hosts whose breaker is not closed, as this process knows it")

log = get_log("breaker")


class Trouble(StrEnum):
    """What counts against a mail host."""

    CONNECT_TIMEOUT = "connect_timeout"
    REFUSED = "refused"
    UNREACHABLE = "unreachable"
    DROPPED = "dropped"  # the session ended without an answer
    SILENT = "silent"  # connected, then nothing
    PROTOCOL = "protocol"
    TLS = "tls"
    BLOCKED = "blocked"  # it refuses us: block list, policy, rate


class Lease:
    """Permission for one session. Report once inside `async with`; without a report nothing is known about the host."""

    def __init__(self, breakers: Breakers, mail_host: str, token: str = "") -> None:
        self._breakers = breakers
        self.mail_host = mail_host
        self.token = token  # of the half-open session; empty on a closed breaker
        self._reported = False

    @property
    def is_probe(self) -> bool:
        """True: the one session of the fleet that finds out whether the host is well again."""
        return bool(self.token)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        if self.token and not self._reported:
            self._breakers.abandon(self)

    def succeeded(self) -> None:
        self._reported = True
        self._breakers.report_success(self.mail_host, self.token)

    def failed(self, trouble: Trouble) -> None:
        self._reported = True
        self._breakers.report_failure(self.mail_host, trouble, self.token)


class Breakers:
    """Open it with `async with`. `redis_url` None: this process is alone."""

    def __init__(self, redis_url: str | None, clock: Callable[[], float] = time.monotonic) -> None:
        self._redis_url = redis_url
        self._redis = connect_politeness(redis_url) if redis_url is not None else None
        self._clock = clock
        source = (files("validator.egress") / "breaker.lua").read_text("utf-8")
        self._script = self._redis.register_script(source) if self._redis is not None else None
        self._circuits: dict[str, Circuit] = {}
        self._reports: deque[tuple[str, str, tuple[Any, ...]]] = deque(maxlen=10_000)
        self._news = asyncio.Event()
        self._alone = redis_url is None
        self._stopping = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self._listening: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        await self._refresh()
        self._tasks = [asyncio.create_task(self._keep_fresh(), name="breaker-refresh")]
        if self._redis_url is not None:
            self._tasks.append(asyncio.create_task(self._send(), name="breaker-reports"))
            self._listening = asyncio.create_task(self._listen(self._redis_url), name="breaker-changes")
        return self

    async def __aexit__(self, *_: object) -> None:
        """Tasks that use the pool are told to end, not cancelled: that would leave a connection half-way."""
        self._stopping.set()
        self._news.set()
        await asyncio.gather(*self._tasks)
        if self._listening is not None:
            self._listening.cancel()
            await asyncio.gather(self._listening, return_exceptions=True)
        if self._redis is not None:
            await self._redis.aclose()

    # --- what sessions use ---

    def allows(self, mail_host: str) -> bool:
        """Whether `admit` has a chance; no I/O."""
        circuit = self._circuits.get(mail_host)
        return circuit is None or circuit.closed or (circuit.wait <= 0 and not circuit.probing)

    def blocked(self, mail_host: str) -> bool:
        """Whether it is open because the host blocks us; no I/O."""
        circuit = self._circuits.get(mail_host)
        return circuit is not None and not circuit.closed and circuit.kind == Trouble.BLOCKED

    async def admit(self, mail_host: str) -> Lease | None:
        """None: the breaker is open. Waits for Redis only where a half-open session may be due."""
        circuit = self._circuits.get(mail_host)
        if circuit is None or circuit.closed:
            return Lease(self, mail_host)
        if circuit.wait > 0 or circuit.probing:
            return None
        circuit.used = self._clock()
        circuit.probing = True
        lease = Lease(self, mail_host, secrets.token_hex(8))
        claim = asyncio.create_task(self._claim(circuit, lease.token), name="breaker-claim")
        try:
            granted = await asyncio.shield(claim)
        except asyncio.CancelledError:
            claim.add_done_callback(lambda _: self.abandon(lease))
            raise
        except Exception:
            self.abandon(lease)  # a fault of ours; the claim may have been granted before it
            raise
        if granted:
            return lease
        circuit.probing = False
        if circuit.state == "closed":  # Redis knew better
            return Lease(self, mail_host)
        circuit.hold_off(max(ASK_AGAIN, circuit.wait))
        return None

    def report_success(self, mail_host: str, token: str = "") -> None:
        circuit = self._circuits.get(mail_host)
        if circuit is None or (not circuit.closed and not token):
            return  # a session from before it opened says nothing new
        if circuit.closed and not circuit.failures:
            return
        circuit.probing = circuit.probing and not token
        circuit.succeeded()
        self._report("success", mail_host, token)
        if self._alone:
            circuit.changed_alone = True

    def report_failure(self, mail_host: str, trouble: Trouble, token: str = "") -> None:
        circuit = self._circuits.get(mail_host)
        if circuit is None:
            circuit = self._circuits[mail_host] = Circuit(mail_host, self._clock)
        if not circuit.closed and not token:
            return
        blocked = trouble is Trouble.BLOCKED
        weight, factor = (FAIL_MAX, BLOCKED_FACTOR) if blocked else (1, 1.0)
        known = circuit.failures
        circuit.used = self._clock()
        circuit.probing = circuit.probing and not token
        circuit.failed(trouble, weight, factor)
        if not circuit.closed:
            OPENINGS.labels(trouble.value).inc()
        self._report("failure", mail_host, weight, token, str(trouble), known, factor)
        if self._alone:
            circuit.changed_alone = True

    def abandon(self, lease: Lease) -> None:
        """The half-open session ended without saying anything about the host."""
        circuit = self._circuits.get(lease.mail_host)
        if circuit is not None:
            circuit.probing = False
        self._report("abandon", lease.mail_host, lease.token)

    def _report(self, operation: str, mail_host: str, *arguments: Any) -> None:
        if self._alone:
            return
        self._reports.append((operation, mail_host, arguments))
        self._news.set()
        circuit = self._circuits.get(mail_host)
        if circuit is not None:
            circuit.unsent += 1

    # --- Redis ---

    async def _call(self, operation: str, mail_host: str, *arguments: Any, client: Any = None) -> Any:
        if self._script is None:
            raise AssertionError("no Redis")
        keys = [redis_keys.breaker(mail_host), redis_keys.breaker_probe(mail_host), redis_keys.BREAKER_INDEX]
        bounds = (FAIL_MAX, int(FIRST_PAUSE * 1000), int(LONGEST_PAUSE * 1000), int(PROBE_LEASE * 1000))
        args = [operation, mail_host, redis_keys.BREAKER_CHANGES, *bounds, *arguments]
        return await self._script(keys=keys, args=args, client=client)

    async def _claim(self, circuit: Circuit, token: str) -> bool:
        if not self._alone:
            try:
                told, granted = await self._call("claim", circuit.host, token)
            except (RedisError, OSError) as error:
                self._go_alone(error)
            else:
                self._apply(told)
                if granted and circuit.state != "half-open":
                    circuit.half_open()
                return bool(granted)
        circuit.half_open()
        return True

    async def _send(self) -> None:
        while not (self._stopping.is_set() and (self._alone or not self._reports)):
            await self._news.wait()
            self._news.clear()
            await self._send_reports()

    async def _send_reports(self) -> None:
        """In order; what Redis answers is the new truth here."""
        while self._reports and not self._alone:
            operation, mail_host, arguments = self._reports.popleft()
            try:
                told, _ = await self._call(operation, mail_host, *arguments)
            except (RedisError, OSError) as error:
                self._go_alone(error)
            else:
                circuit = self._circuits.get(mail_host)
                if circuit is not None and circuit.unsent:
                    circuit.unsent -= 1
                self._apply(told)

    def _go_alone(self, error: Exception) -> None:
        if self._alone:
            return
        log.warning("breakers_alone", cause=type(error).__name__)
        self._alone = True
        for circuit in self._circuits.values():
            circuit.changed_alone = True  # reports under way may be lost
            circuit.unsent = 0
        self._reports.clear()

    def _apply(self, told: str | bytes) -> None:
        seen = _STATE.decode(told)
        circuit = self._circuits.get(seen.host)
        if circuit is None:
            if seen.state == "closed" and not seen.failures:
                return
            circuit = self._circuits[seen.host] = Circuit(seen.host, self._clock)
        if not circuit.unsent:  # else the answer to what was reported since tells more than this
            circuit.apply(seen)

    async def _listen(self, redis_url: str) -> None:
        async with Listener(redis_url, redis_keys.BREAKER_CHANGES) as changes:
            async for heard in changes:
                if not isinstance(heard, Heard):
                    continue  # what the gap swallowed comes with the refresh
                try:
                    self._apply(heard.data)
                except msgspec.DecodeError:  # anybody may publish; a stranger's message must not end the listening
                    log.warning("breaker_change_not_understood")

    async def _keep_fresh(self) -> None:
        while not self._stopping.is_set():
            await self._rest()
            await self._refresh()

    async def _rest(self) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(REFRESH):
                await self._stopping.wait()

    async def _refresh(self) -> None:
        """Read what changed elsewhere, restore what Redis lost, forget what is idle."""
        if self._redis is not None:
            try:
                await self._exchange(self._redis)
            except (RedisError, OSError) as error:
                self._go_alone(error)
                return
            if self._alone:
                self._alone = False
                log.info("breakers_shared_again")
        self._forget_idle()

    async def _exchange(self, redis: Redis) -> None:
        rows: Any = await redis.zrange(redis_keys.BREAKER_INDEX, 0, -1, withscores=True)
        index = {host.decode(): int(version) for host, version in rows}
        for host, version in index.items():
            circuit = self._circuits.get(host)
            if circuit is None or (circuit.version < version and not circuit.changed_alone):
                self._apply((await self._call("read", host))[0])
        for circuit in list(self._circuits.values()):
            if not circuit.closed and (circuit.changed_alone or circuit.host not in index):
                wait = int(circuit.wait * 1000)
                self._apply((await self._call("restore", circuit.host, wait, circuit.opens, circuit.kind))[0])
            circuit.changed_alone = False

    def _forget_idle(self) -> None:
        now = self._clock()
        TROUBLED.set(sum(not circuit.closed for circuit in self._circuits.values()))
        for host, circuit in list(self._circuits.items()):
            if circuit.closed and (not circuit.failures or now - circuit.used > IDLE):
                del self._circuits[host]

    # --- for people ---

    async def snapshot(self) -> list[dict[str, Any]]:
        """`[{"mailHost", "state", "failures", "opens", "retryIn", "kind"}]`, those that are not closed first."""
        rows = [_row(circuit) for circuit in self._circuits.values()]
        return sorted(rows, key=lambda row: (row["state"] == "closed", row["mailHost"]))

    async def explain(self, mail_host: str) -> dict[str, Any]:
        """The row of one host, with `shared`: whether the state is the fleet's."""
        circuit = self._circuits.get(mail_host)
        if not self._alone:
            with contextlib.suppress(RedisError, OSError):
                self._apply((await self._call("read", mail_host))[0])
                circuit = self._circuits.get(mail_host)
        row = _row(circuit or Circuit(mail_host, self._clock))
        return {**row, "shared": not self._alone}


def _row(circuit: Circuit) -> dict[str, Any]:
    return {
        "mailHost": circuit.host,
        "state": circuit.state,
        "failures": circuit.failures,
        "opens": circuit.opens,
        "retryIn": round(circuit.wait, 1),
        "kind": circuit.kind,
    }
