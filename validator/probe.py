"""Addresses in, verdicts out.

An address goes: syntax -> lists -> DNS of its domain (once for each domain of a batch) -> provider's policy -> mail
hosts in MX order. Mail hosts are shared by all batches that run: that is what makes few connections serve many
addresses, and where both the speed and the manners come from. Facts are gathered, then judged once (`judge`). At the
deadline of a batch whatever has no answer is put off, or gets its last verdict if this was the last look.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable, Coroutine
from contextlib import AbstractAsyncContextManager
from functools import cache
from typing import Any, Final, Protocol

from shared.address import Address, Malformed, parse_address
from shared.logs import get_log
from shared.messages import PutOff
from shared.settings import Settings
from shared.verdicts import Verdicts
from validator.batch import Batch
from validator.dns.route import MailHost as Host
from validator.dns.route import MailRoute
from validator.egress.breaker import Breakers
from validator.egress.identity import Identity
from validator.evidence import DnsAnswer, Route
from validator.mail_domain import CatchAllMemory, Group, MailDomain
from validator.providers import Provider, Providers
from validator.smtp.approach import Terms
from validator.smtp.mail_host import MailHost
from validator.smtp.session import Timeouts

log = get_log("validator.probe")

REMEMBERED: Final = 20_000  # hosts, and domains, kept in mind while nothing is asked of them
_ONE_ARGUMENT: Final = frozenset("<>\r\n\0")  # never inside the angle brackets of RCPT TO; only quotes can bring them


class Routes(Protocol):
    """validator.dns.resolver.Resolver."""

    async def mail_route(self, domain: str) -> MailRoute: ...


class Limits(Protocol):
    """validator.egress.limits.Limits. Raises NoSlot when no slot came free in time."""

    def session(
        self, mail_host: str, provider: Provider | None = None, *, address: str | None = None, max_wait: float = 30.0
    ) -> AbstractAsyncContextManager[object]: ...


class Probe:
    """The engine. One for each process; `check_batch` runs many times at once."""

    def __init__(
        self,
        *,
        settings: Settings,
        routes: Routes,
        identity: Identity,
        limits: Limits,
        breakers: Breakers,
        catch_all: CatchAllMemory,
        providers: Providers,
    ) -> None:
        self._settings = settings
        self._routes = routes
        self._identity = identity
        self._limits = limits
        self._breakers = breakers
        self._catch_all = catch_all
        self._providers = providers
        self._hosts: dict[str, MailHost] = {}  # by their own name, and by their addresses, which names may share
        self._keys: dict[str, str] = {}  # by the name of a host: the addresses under which it stands there
        self._domains: dict[str, MailDomain] = {}
        self._side_tasks: set[asyncio.Task[None]] = set()

    async def check_batch(
        self,
        emails: list[str],
        *,
        look: int,
        last_look: bool,
        trace: bool,
        deadline: float,
        on_progress: Callable[[int], None] | None = None,
        file_id: str = "",
        urgent: bool = False,
    ) -> tuple[Verdicts, list[PutOff]]:
        """Verdicts, and none exactly where a PutOff names the position. `deadline`: seconds from now.
        At a mail host files have their turns, and `urgent` addresses come before all files.

        Never raises for what a server, a name server or an address does.
        """
        batch = Batch(
            emails,
            look=look,
            last_look=last_look,
            trace=trace,
            on_progress=on_progress,
            line=file_id,
            urgent=urgent,
        )
        groups: dict[str, Group] = {}
        for index, email in enumerate(emails):
            address = _parse(email)
            if isinstance(address, Malformed):
                batch.settle_malformed(index, address)
                continue
            group = groups.get(address.domain)
            if group is None:
                group = groups[address.domain] = Group(batch, address.domain)
            group.add(index, address)
        begun = [asyncio.create_task(self._begin(group), name=f"route-{domain}") for domain, group in groups.items()]
        try:
            await batch.wait(deadline)
        finally:
            for task in begun:
                task.cancel()
            for outcome in await asyncio.gather(*begun, return_exceptions=True):
                if isinstance(outcome, Exception):
                    log.error("route_fault", error=type(outcome).__name__, exc_info=outcome)
            for group in groups.values():
                group.give_up()
            batch.closed = True
        return batch.verdicts, batch.put_off

    async def drain(self, deadline: float) -> None:
        """Let sessions finish their flight and QUIT, for at most `deadline` seconds; cancel the rest. Repeatable."""
        hosts = set(self._hosts.values())
        closing = [asyncio.create_task(host.close(), name=f"close-{host.name}") for host in hosts if not host.idle]
        if closing:
            _, late = await asyncio.wait(closing, timeout=deadline)
            for host in hosts:
                host.abort()
            if late:
                log.warning("drain_gave_up", hosts=len(late))
                await asyncio.wait(late)
        if self._side_tasks:
            _, late_tasks = await asyncio.wait(set(self._side_tasks), timeout=1.0)
            for task in late_tasks:
                task.cancel()

    # --- inside ---

    async def _begin(self, group: Group) -> None:
        """Find out where the domain's mail goes and hand its addresses to the first host."""
        found = await self._routes.mail_route(group.name)
        provider = self._providers.find(found.hosts[0].name) if found.hosts else None
        route = self._route(found, provider)
        if route.answer is DnsAnswer.FOUND and route.probe_allowed:
            group.ask(await self._domain(group.name, provider), route, found.hosts, self._host)
        else:
            group.ask_nobody(route)

    def _route(self, found: MailRoute, provider: Provider | None) -> Route:
        return Route(
            answer=DnsAnswer(found.outcome),
            hosts=found.mx_names or tuple(host.name for host in found.hosts),
            implicit=found.implicit,
            provider=provider,
            probe_allowed=provider is None or provider.probe != "never",
        )

    async def _domain(self, name: str, provider: Provider | None) -> MailDomain:
        domain = self._domains.get(name)
        if domain is None:
            if len(self._domains) >= REMEMBERED:
                self._domains = {key: one for key, one in self._domains.items() if one.busy or one.undecided}
            domain = self._domains[name] = MailDomain(name, self._catch_all, self._spawn)
        await domain.prepare(provider)
        return domain

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work, name="catch-all")
        self._side_tasks.add(task)
        task.add_done_callback(self._side_task_ended)

    def _side_task_ended(self, task: asyncio.Task[None]) -> None:
        self._side_tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("side_task_fault", error=type(error).__name__, exc_info=error)

    def _host(self, host: Host) -> MailHost:
        """The one MailHost of a server: hosts with the very same addresses are one, whatever their names."""
        key = ",".join(sorted(host.addresses))
        known = self._hosts.get(host.name)
        if known is None:
            known = self._hosts.get(key)
            if known is None:
                self._forget_idle_hosts()
                known = self._hosts[host.name] = self._hosts[key] = self._new_host(host)
                self._keys[host.name] = key
        elif self._keys[host.name] != key:
            self._move(known, host, key)
        return known

    def _move(self, known: MailHost, host: Host, key: str) -> None:
        """The DNS names other addresses for it. Other names at the old ones are not taken along."""
        if self._hosts.get(self._keys[host.name]) is known:
            del self._hosts[self._keys[host.name]]
        self._hosts.setdefault(key, known)
        self._keys[host.name] = key
        known.move_to(host.addresses)

    def _new_host(self, host: Host) -> MailHost:
        provider = self._providers.find(host.name)
        patience = (provider.timeout if provider is not None else None) or self._settings.probe_timeout
        terms = Terms(
            identity=self._identity,
            port=self._settings.smtp_port,
            slot=lambda name, address: self._limits.session(name, provider, address=address),
            breakers=self._breakers,
            tls=_tls_context,
        )
        return MailHost(
            host.name,
            host.addresses,
            terms,
            slots=self._settings.per_mx_max_concurrency_default,
            timeouts=Timeouts(connect=self._settings.probe_timeout, banner=2 * patience, command=patience),
            recipients_per_session=provider.recipients_per_session if provider is not None else None,
        )

    def _forget_idle_hosts(self) -> None:
        if len(self._hosts) >= 2 * REMEMBERED:
            self._hosts = {key: host for key, host in self._hosts.items() if not host.idle}
            self._keys = {name: key for name, key in self._keys.items() if name in self._hosts}


def _parse(email: str) -> Address | Malformed:
    address = parse_address(email)
    if isinstance(address, Address) and address.local[0] == '"' and not _ONE_ARGUMENT.isdisjoint(address.local):
        return Malformed(email, "cannot be asked about safely")
    return address


@cache
def _tls_context() -> ssl.SSLContext:
    """One for all sessions: making one costs 19 ms. Certificates are not checked: mail hosts have what they have, the
    name came out of unsigned DNS, and nothing secret is said.
    """
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context
