"""Where a domain's mail goes (RFC 5321 section 5.1), within bounds that no zone can stretch.

One domain costs at most MAX_QUERIES questions and MAILVET_DNS_TIMEOUT seconds: the MX set, then A and AAAA of its
hosts by preference. At most MAX_HOSTS hosts and MAX_ADDRESSES addresses come back. Every address has been judged by the
guard; names that are odd literals are refused before anything is asked. A domain and a host name are each looked up
once at a time, whoever wants them, and remembered for their time to live within bounds.

What makes a domain undeliverable and what only makes it unknown: NXDOMAIN, nodata, null MX and MX hosts that do not
exist are facts. As soon as one look-up that could have found a host failed, and no other host was found, the whole is a
DNS_FAILURE.
"""

from __future__ import annotations

import asyncio
import random
import re
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple, Self

from prometheus_client import Counter

from shared.address_guard import allowed_networks, forbidden, is_ip_like
from shared.settings import Settings
from validator.dns import wire
from validator.dns.cache import Cache
from validator.dns.exchange import Exchange
from validator.dns.lookup import Answer, Budget, Ending, look_up
from validator.dns.nameservers import name_servers
from validator.dns.route import MailHost, MailRoute, Outcome

MAX_QUERIES = 20
MAX_HOSTS = 5
MAX_ADDRESSES = 8
MAX_MX_NAMES = 9  # hosts looked at when the first ones are of no use; 1 + 2 * 9 queries fit the budget
DOMAINS_IN_FLIGHT = 200  # the deadline of a domain runs from its turn, not from the queue
CACHE_SIZE = 20_000

SHORTEST, LONGEST = 60.0, 3_600.0  # seconds a positive answer is kept, whatever its TTL says
NEGATIVE = 300.0
FAILED = 15.0  # or half the time to the next look at an address, where that is shorter

ROUTES = Counter("mailvet_dns_routes_total", "Domains looked up, by what came of it", ["outcome"])

_HOST_NAME = re.compile(r"[a-z0-9_](?:[a-z0-9_-]*[a-z0-9_])?(?:\.[a-z0-9_](?:[a-z0-9_-]*[a-z0-9_])?)*\Z")


class HostAddresses(NamedTuple):
    """What is known of one host name. `usable` passed the guard, IPv4 first."""

    usable: tuple[str, ...]
    refused: bool  # it has addresses that the guard forbids, or is an odd literal
    failed: bool  # a look-up failed, so there may be more addresses
    temporary: bool
    missing: bool  # the name itself does not exist
    why: str
    expires: float


class Resolver:
    """`clock` drives the caches only, in seconds. Use as an async context manager, or call `close`.

    Raises SettingsError when it is made, for name servers that are none.
    """

    def __init__(self, settings: Settings, clock: Callable[[], float] = time.monotonic) -> None:
        self._exchange = Exchange(name_servers(settings.dns_nameservers))
        self._timeout = settings.dns_timeout
        self._allow = allowed_networks(settings.probe_allow_networks)
        self._clock = clock
        self._keep_failures = min([FAILED, *(delay / 2 for delay in settings.retry_delays)])
        self._routes: Cache[MailRoute] = Cache("dns-route", CACHE_SIZE, clock)
        self._hosts: Cache[HostAddresses] = Cache("dns-host", CACHE_SIZE, clock)
        self._turns = asyncio.Semaphore(DOMAINS_IN_FLIGHT)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        await self._routes.close()
        await self._hosts.close()
        self._exchange.close()

    async def mail_route(self, domain: str) -> MailRoute:
        """`domain` in lower-case ASCII (A-labels). Never raises for what the DNS says."""
        return self._routes.get(domain) or await self._routes.get_or_fetch(domain, self._find_route)

    async def host_addresses(self, name: str) -> HostAddresses:
        """The judged addresses of any host name, for callers that are given one."""
        return await self._host(_plain(name), self._budget())

    def _budget(self) -> Budget:
        return Budget(MAX_QUERIES, asyncio.get_running_loop().time() + self._timeout)

    async def _find_route(self, domain: str) -> MailRoute:
        route = await self._ask_for_route(domain)
        ROUTES.labels(route.outcome.value).inc()
        return route

    async def _ask_for_route(self, domain: str) -> MailRoute:
        if is_ip_like(domain):
            return self._route(Outcome.PRIVATE_ADDRESS, NEGATIVE, why="an address literal or this machine")
        async with self._turns:
            budget = self._budget()
            answer = await look_up(self._exchange, _plain(domain), wire.MX, budget)
            match answer.ending:
                case Ending.FAILURE:
                    return self._failure(f"MX: {answer.why}", temporary=answer.temporary)
                case Ending.NXDOMAIN:
                    return self._route(Outcome.DOMAIN_MISSING, NEGATIVE, why="NXDOMAIN")
                case Ending.NODATA:
                    return await self._implicit(_plain(domain), budget)
                case Ending.FOUND:
                    return await self._explicit(answer, budget)

    async def _implicit(self, domain: str, budget: Budget) -> MailRoute:
        """RFC 5321 section 5.1: no MX at all, so the domain itself is the host, with preference 0."""
        host = await self._host(domain, budget)
        if not (host.usable or host.failed or host.refused):
            outcome = Outcome.DOMAIN_MISSING if host.missing else Outcome.NO_MAIL_HOST
            return self._route(outcome, NEGATIVE, why="neither MX nor address")
        return self._judge([(0, domain)], [host], implicit=True, ttl=LONGEST, mx_names=())

    async def _explicit(self, answer: Answer, budget: Budget) -> MailRoute:
        ttl = float(answer.ttl or 0)
        exchanges = [value for value in answer.values if isinstance(value, wire.Mx)]
        if all(not mx.host for mx in exchanges):
            return self._route(Outcome.NULL_MX, _clamp(ttl), why="null MX")
        ordered = _by_preference(exchanges)
        names = tuple(name for _, name in ordered)
        tried: list[tuple[int, str]] = []
        found: list[HostAddresses] = []
        for group in (ordered[:MAX_HOSTS], ordered[MAX_HOSTS:MAX_MX_NAMES]):
            found += await self._hosts_of(group, budget)
            tried += group
            if any(host.usable for host in found):
                break
        route = self._judge(tried, found, implicit=False, ttl=ttl, mx_names=names[:MAX_MX_NAMES])
        if route.outcome is Outcome.NO_MAIL_HOST and len(names) > MAX_MX_NAMES:
            return self._failure("more MX hosts than are looked at", temporary=False, mx_names=names[:MAX_MX_NAMES])
        return route

    async def _hosts_of(self, group: Sequence[tuple[int, str]], budget: Budget) -> list[HostAddresses]:
        if len(group) == 1:  # nearly always; spares a task
            return [await self._host(group[0][1], budget)]
        return await asyncio.gather(*(self._host(name, budget) for _, name in group))

    async def _host(self, name: str, budget: Budget) -> HostAddresses:
        if is_ip_like(name):
            return self._host_known(NEGATIVE, refused=True, why="an address literal or this machine")
        if _HOST_NAME.match(name) is None:
            return self._host_known(NEGATIVE, missing=True, why="not a host name")

        async def find(key: str) -> HostAddresses:
            return await self._find_host(key, budget)

        known = self._hosts.get(name)
        if known is not None:
            return known
        try:
            async with asyncio.timeout_at(budget.deadline):  # another domain's fetch may have begun later than ours
                return await self._hosts.get_or_fetch(name, find)
        except TimeoutError:
            return self._host_known(self._keep_failures, failed=True, temporary=True, why="no reply in time")

    async def _find_host(self, name: str, budget: Budget) -> HostAddresses:
        over_ipv6 = asyncio.create_task(look_up(self._exchange, name, wire.AAAA, budget), name="dns-aaaa")
        try:
            answers = (await look_up(self._exchange, name, wire.A, budget), await over_ipv6)
        except asyncio.CancelledError:
            over_ipv6.cancel()
            raise
        literals = [str(value) for answer in answers for value in answer.values]
        usable = tuple(literal for literal in literals if forbidden(literal, self._allow) is None)
        failures = [answer for answer in answers if answer.ending is Ending.FAILURE]
        ttls = [answer.ttl or 0 for answer in answers if answer.ending is Ending.FOUND]
        keep = self._keep_failures if failures and not usable else _clamp(min(ttls)) if ttls else NEGATIVE
        return self._host_known(
            keep,
            usable=usable[:MAX_ADDRESSES],
            refused=len(usable) < len(literals),
            failed=bool(failures),
            temporary=any(failure.temporary for failure in failures),
            missing=all(answer.ending is Ending.NXDOMAIN for answer in answers),
            why="; ".join(failure.why for failure in failures),
        )

    def _host_known(
        self,
        keep: float,
        *,
        usable: tuple[str, ...] = (),
        refused: bool = False,
        failed: bool = False,
        temporary: bool = False,
        missing: bool = False,
        why: str = "",
    ) -> HostAddresses:
        return HostAddresses(usable, refused, failed, temporary, missing, why, self._clock() + keep)

    def _judge(
        self,
        tried: Sequence[tuple[int, str]],
        found: Sequence[HostAddresses],
        *,
        implicit: bool,
        ttl: float,
        mx_names: tuple[str, ...],
    ) -> MailRoute:
        pairs = [(place, host) for place, host in zip(tried, found, strict=True) if host.usable][:MAX_HOSTS]
        if pairs:
            expires = min(self._clock() + _clamp(ttl), *(host.expires for _, host in pairs))
            return MailRoute(Outcome.HOSTS, _share_out(pairs), implicit, mx_names, expires)
        failures = [host for host in found if host.failed]
        if failures:
            temporary = any(host.temporary for host in failures)
            return self._failure(
                f"address: {failures[0].why}", temporary=temporary, implicit=implicit, mx_names=mx_names
            )
        if any(host.refused for host in found):
            why = "only addresses that must not be contacted"
            return self._route(Outcome.PRIVATE_ADDRESS, NEGATIVE, implicit=implicit, mx_names=mx_names, why=why)
        return self._route(Outcome.NO_MAIL_HOST, NEGATIVE, mx_names=mx_names, why="no MX host has an address")

    def _route(
        self, outcome: Outcome, keep: float, *, implicit: bool = False, mx_names: tuple[str, ...] = (), why: str
    ) -> MailRoute:
        return MailRoute(outcome, (), implicit, mx_names, self._clock() + keep, why=why)

    def _failure(
        self, why: str, *, temporary: bool, implicit: bool = False, mx_names: tuple[str, ...] = ()
    ) -> MailRoute:
        expires = self._clock() + self._keep_failures
        return MailRoute(Outcome.DNS_FAILURE, (), implicit, mx_names, expires, temporary=temporary, why=why)


def _by_preference(exchanges: Sequence[wire.Mx]) -> list[tuple[int, str]]:
    """Each host once, at its best preference; equals in random order (RFC 5321 section 5.1 asks for it)."""
    best: dict[str, int] = {}
    for preference, host in exchanges:
        if host:
            best[host] = min(preference, best.get(host, preference))
    ordered = [(preference, host) for host, preference in best.items()]
    random.shuffle(ordered)
    ordered.sort(key=lambda place: place[0])
    return ordered


def _share_out(pairs: Sequence[tuple[tuple[int, str], HostAddresses]]) -> tuple[MailHost, ...]:
    """MAX_ADDRESSES over the hosts in order, at least one for each."""
    left = MAX_ADDRESSES
    hosts: list[MailHost] = []
    for number, ((preference, name), host) in enumerate(pairs, 1):
        addresses = host.usable[: left - (len(pairs) - number)]
        left -= len(addresses)
        hosts.append(MailHost(name, preference, addresses))
    return tuple(hosts)


def _clamp(ttl: float) -> float:
    return min(max(ttl, SHORTEST), LONGEST)


def _plain(name: str) -> str:
    return name.lower().removesuffix(".")
