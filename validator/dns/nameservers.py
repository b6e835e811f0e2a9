"""Which name servers are asked: MAILVET_DNS_NAMESERVERS, or those of the system."""

from __future__ import annotations

import re
from collections.abc import Sequence
from ipaddress import ip_address
from typing import NamedTuple

import dns.exception
import dns.resolver

from shared.errors import SettingsError
from shared.settings import PREFIX

DNS_PORT = 53
SETTING = PREFIX + "DNS_NAMESERVERS"
_ENTRY = re.compile(
    r"\[(?P<bracketed>[^\]]+)\](?::(?P<port6>[0-9]{1,5}))?|(?P<plain>[^:\[]+)(?::(?P<port>[0-9]{1,5}))?|(?P<bare>[^\[]+)"
)


class NameServer(NamedTuple):
    address: str
    port: int = DNS_PORT


def name_servers(configured: Sequence[str]) -> tuple[NameServer, ...]:
    """`configured`: `1.2.3.4`, `1.2.3.4:5353`, `::1`, `[::1]:53`; empty: the system's. Raises SettingsError."""
    if configured:
        return tuple(_parse(entry) for entry in configured)
    try:
        system = dns.resolver.Resolver()  # reads resolv.conf, the registry on Windows
    except dns.exception.DNSException as error:
        raise SettingsError(SETTING, "is unset and the system names no DNS server") from error
    if not system.nameservers:
        raise SettingsError(SETTING, "is unset and the system names no DNS server")
    return tuple(NameServer(str(server), system.port) for server in system.nameservers)


def _parse(entry: str) -> NameServer:
    found = _ENTRY.fullmatch(entry)
    parts = found.groupdict() if found is not None else {}
    host = parts.get("bracketed") or parts.get("plain") or parts.get("bare") or ""
    try:
        ip_address(host)
    except ValueError:
        raise SettingsError(SETTING, f"{entry!r} is not host[:port] with an IP address") from None
    port = int(parts["port"] or parts["port6"] or DNS_PORT)
    if not 0 < port < 65536:
        raise SettingsError(SETTING, f"{entry!r} has no valid port")
    return NameServer(host, port)
