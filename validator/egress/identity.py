"""Who we are to a mail host, and the way to it: connections go to judged literals only.

The order of a `connect`: the literal is judged, the connection is made within the timeout, and the peer that the socket
really has is judged again; only then does the protocol get to live. SMTP lets the server speak first, so nothing has
been sent by then. By a SOCKS proxy the peer is the proxy, which is given the judged literal, never a name.

ConnectError           the connection did not come about
├── ConnectTimeout     no answer in time
├── ConnectRefused     the host refuses or resets
├── Unreachable        no route to the host
├── ForbiddenAddress   the guard forbids the address; nothing was sent (permanent)
└── NoWayOut           our side: proxy, source address, sockets; says nothing about the host
"""

from __future__ import annotations

import asyncio
import errno
import hashlib
import socket
from collections.abc import Callable, Sequence
from functools import lru_cache
from ipaddress import ip_address
from typing import ClassVar, TypeVar

from python_socks import ProxyConnectionError, ProxyError, ProxyTimeoutError, ProxyType, parse_proxy_url
from python_socks.async_.asyncio import Proxy

from shared.address_guard import allowed_networks, forbidden
from shared.errors import MailvetError, SettingsError
from shared.settings import PREFIX, Settings

P = TypeVar("P", bound=asyncio.Protocol)


class ConnectError(MailvetError):
    """The connection did not come about."""

    theirs: ClassVar[bool] = True  # counts against the host


class ConnectTimeout(ConnectError):
    pass


class ConnectRefused(ConnectError):
    pass


class Unreachable(ConnectError):
    pass


class ForbiddenAddress(ConnectError):
    temporary = False
    theirs = False


class NoWayOut(ConnectError):
    theirs = False


_BY_ERRNO: dict[int, type[ConnectError]] = {
    errno.ECONNREFUSED: ConnectRefused,
    errno.ECONNRESET: ConnectRefused,
    errno.ECONNABORTED: ConnectRefused,
    errno.ETIMEDOUT: ConnectTimeout,
    errno.EHOSTUNREACH: Unreachable,
    errno.EHOSTDOWN: Unreachable,
    errno.EACCES: Unreachable,  # a packet filter that says no
    errno.EPERM: Unreachable,
}  # the rest (no network, no such source address, no sockets left) is our side

# The reply codes of RFC 1928 section 6 that speak about the host; the others speak about the proxy and us.
_BY_SOCKS_REPLY: dict[int, type[ConnectError]] = {4: Unreachable, 5: ConnectRefused, 6: ConnectTimeout}


def check_sources(sources: Sequence[str]) -> None:
    """Raises SettingsError for an address that this machine does not have: every connection from it would fail."""
    for source in sources:
        family = socket.AF_INET if ip_address(source).version == 4 else socket.AF_INET6
        try:
            with socket.socket(family, socket.SOCK_STREAM) as tried:
                tried.bind((source, 0))
        except OSError as error:
            raise SettingsError(
                f"{PREFIX}PROBE_SOURCE_ADDRESSES", f"cannot connect from {source}: {error.strerror}"
            ) from error


class Identity:
    """Raises SettingsError when it is made, for a proxy URL that is none."""

    def __init__(self, settings: Settings) -> None:
        self.helo = settings.helo
        self.mail_from = settings.probe_mail_from.strip().removeprefix("<").removesuffix(">")  # "": the null sender
        self._sources = {
            version: tuple(a for a in settings.probe_source_addresses if ip_address(a).version == version)
            for version in (4, 6)
        }
        allow = allowed_networks(settings.probe_allow_networks)
        self._forbidden = lru_cache(maxsize=16_384)(lambda address: forbidden(address, allow))  # hosts come back
        self._has_sources = any(self._sources.values())
        self._proxy_url = settings.probe_proxy
        if self._proxy_url is not None:
            _check_proxy(self._proxy_url)

    def source_for(self, mail_domain: str, address: str) -> str | None:
        """The local address to show to `address` about `mail_domain`: always the same one, so that a retry after
        greylisting comes from the client that was put off. Of several, the highest score wins, so that a new source
        address moves only its share of the domains. None: the system chooses.
        """
        if not self._has_sources:
            return None
        sources = self._sources[ip_address(address).version]

        def score(source: str) -> bytes:
            return hashlib.blake2b(f"{mail_domain}|{source}".encode(), digest_size=8).digest()

        return max(sources, key=score, default=None)

    async def connect(
        self, address: str, port: int, timeout: float, protocol_factory: Callable[[], P], *, mail_domain: str = ""
    ) -> tuple[asyncio.Transport, P]:
        """`timeout`: seconds for all of it. Raises a ConnectError."""
        if (why := self._forbidden(address)) is not None:
            raise ForbiddenAddress(why)
        try:
            async with asyncio.timeout(timeout):
                if self._proxy_url is not None:
                    return await self._connect_by_proxy(address, port, protocol_factory)
                transport, protocol = await self._connect(address, port, protocol_factory, mail_domain)
        except TimeoutError as error:
            raise ConnectTimeout("no connection in time") from error
        except OSError as error:
            kind = _BY_ERRNO.get(error.errno or 0, NoWayOut)
            raise kind(errno.errorcode.get(error.errno or 0, "unknown")) from error
        self._check_peer(transport)
        return transport, protocol

    async def _connect(
        self, address: str, port: int, protocol_factory: Callable[[], P], mail_domain: str
    ) -> tuple[asyncio.Transport, P]:
        source = self.source_for(mail_domain, address)
        loop = asyncio.get_running_loop()
        local = (source, 0) if source is not None else None
        transport, protocol = await loop.create_connection(protocol_factory, address, port, local_addr=local)
        return transport, protocol

    async def _connect_by_proxy(
        self, address: str, port: int, protocol_factory: Callable[[], P]
    ) -> tuple[asyncio.Transport, P]:
        try:
            sock = await Proxy.from_url(str(self._proxy_url)).connect(address, port)
        except ProxyError as error:
            raise _BY_SOCKS_REPLY.get(error.error_code or 0, NoWayOut)("the proxy could not connect") from error
        except (ProxyConnectionError, ProxyTimeoutError) as error:
            raise NoWayOut("the proxy cannot be reached") from error
        loop = asyncio.get_running_loop()
        try:
            transport, protocol = await loop.create_connection(protocol_factory, sock=sock)
        except BaseException:
            sock.close()
            raise
        return transport, protocol

    def _check_peer(self, transport: asyncio.Transport) -> None:
        """A socket that ended up elsewhere than it was sent (NAT rules, 0.0.0.0, a changed route) is of no use."""
        peer = transport.get_extra_info("peername")
        if peer is not None and (why := self._forbidden(str(peer[0]))) is not None:
            transport.abort()
            raise ForbiddenAddress(why)


def _check_proxy(url: str) -> None:
    try:
        kind, *_ = parse_proxy_url(url)
    except ValueError as error:
        raise SettingsError(PREFIX + "PROBE_PROXY", "is not socks5://[user:password@]host:port") from error
    if kind is not ProxyType.SOCKS5:
        raise SettingsError(PREFIX + "PROBE_PROXY", "must be a SOCKS5 proxy")
