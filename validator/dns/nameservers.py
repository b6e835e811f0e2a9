"""Which name servers are asked: MAILVET_DNS_NAMESERVERS, or those of the system."""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import ip_address
from typing import NamedTuple

import dns.exception
import dns.resolver

from shared.errors import SettingsError
from shared.settings import PREFIX

DNS_PORT = 53
SETTING = PREFIX + "DNS_NAMESERVERS"


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
    host, port = entry, ""
    if entry.startswith("["):
        host, _, port = entry[1:].partition("]")
        port = port.removeprefix(":")
    elif entry.count(":") == 1:
        host, _, port = entry.partition(":")
    try:
        ip_address(host)
    except ValueError:
        raise SettingsError(SETTING, f"{entry!r} is not host[:port] with an IP address") from None
    if port and not (port.isascii() and port.isdigit() and 0 < int(port) < 65536):
        raise SettingsError(SETTING, f"{entry!r} has no valid port")
    return NameServer(host, int(port) if port else DNS_PORT)
