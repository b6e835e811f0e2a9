"""From a receiver's host name to the one address that is contacted, judged at every delivery.

The name is looked up once, every address that comes back is judged, and the connection goes to the literal that was
judged; so a name that answers differently a moment later (rebinding) changes nothing. One forbidden address among
several refuses the name.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from ipaddress import ip_address

import dns.asyncresolver
import dns.exception
import dns.nameserver
import dns.resolver

from shared.address_guard import Network, forbidden, is_ip_like
from shared.errors import SettingsError
from shared.settings import PREFIX

Lookup = Callable[[str], Awaitable[list[str]]]


class NotContacted(Exception):
    """Why nothing was sent, for the owner of the endpoint."""


async def address_of(host: str, lookup: Lookup, allow: Sequence[Network]) -> str:
    """The literal to connect to. Raises NotContacted."""
    try:
        addresses = [str(ip_address(host))]
    except ValueError:
        if is_ip_like(host):
            raise NotContacted("the host is not a public name") from None
        addresses = await lookup(host)
    if not addresses:
        raise NotContacted("the host name has no address")
    for address in addresses:
        if forbidden(address, allow) is not None:
            raise NotContacted("the host's address is not public")
    return addresses[0]


def dns_lookup(nameservers: Sequence[str], timeout: float) -> Lookup:
    """Asks `nameservers` (host[:port]), or the system's where there are none. Raises SettingsError."""
    try:
        resolver = dns.asyncresolver.Resolver(configure=not nameservers)
        if nameservers:
            resolver.nameservers = [_server(entry) for entry in nameservers]
    except (dns.exception.DNSException, ValueError) as error:
        raise SettingsError(PREFIX + "DNS_NAMESERVERS", "names no DNS server that can be asked") from error

    async def ask(host: str, kind: str) -> list[str]:
        try:
            answer = await resolver.resolve(host, kind, lifetime=timeout, search=False)
        except (dns.resolver.NoAnswer, dns.resolver.NXDOMAIN):
            return []
        except dns.exception.DNSException as error:
            raise NotContacted("the host name could not be looked up") from error
        return [record.to_text() for record in answer]

    async def lookup(host: str) -> list[str]:
        return await ask(host, "A") or await ask(host, "AAAA")

    return lookup


def _server(entry: str) -> dns.nameserver.Nameserver:
    host, port = entry, "53"
    if entry.startswith("["):
        host, _, rest = entry[1:].partition("]")
        port = rest.removeprefix(":") or port
    elif entry.count(":") == 1:
        host, _, port = entry.partition(":")
    return dns.nameserver.Do53Nameserver(str(ip_address(host)), int(port))
