"""Which addresses may be contacted when a stranger chose the name: mail hosts, webhook targets.

One table, pure, no look-ups. The rule is default deny for IPv6 outside 2000::/3 and a closed list of special-purpose
blocks for IPv4 (IANA special-purpose registries, RFC 6890 and later). An IPv4 address that hides inside an IPv6 one is
unwrapped and judged too, because a tunnel or a translator on our side would contact exactly that address.
`ipaddress.is_global` is not used: it lets multicast, NAT64, 6to4 and platform addresses through.

How it is used: resolve once, judge every address, connect to that literal, judge the peer of the open socket again.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

NOT_AN_ADDRESS = "not an address"
OUTSIDE_GLOBAL_UNICAST = "outside global unicast"

# The first match names the range, so single addresses stand before the block around them.
_FORBIDDEN_V4: tuple[tuple[IPv4Network, str], ...] = tuple(
    (IPv4Network(cidr), name)
    for cidr, name in (
        ("169.254.169.254/32", "metadata"),  # AWS, Azure, GCP, DigitalOcean, ...
        ("169.254.170.2/32", "metadata"),  # AWS ECS task credentials
        ("168.63.129.16/32", "metadata"),  # Azure platform address; public by its number
        ("100.100.100.200/32", "metadata"),  # Alibaba
        ("192.0.0.192/32", "metadata"),  # Oracle
        ("255.255.255.255/32", "broadcast"),
        ("0.0.0.0/8", "this network"),  # RFC 791; Linux connects 0.0.0.0 to itself
        ("10.0.0.0/8", "private"),  # RFC 1918
        ("100.64.0.0/10", "carrier-grade NAT"),  # RFC 6598
        ("127.0.0.0/8", "loopback"),
        ("169.254.0.0/16", "link-local"),  # RFC 3927
        ("172.16.0.0/12", "private"),
        ("192.0.0.0/24", "protocol assignments"),  # RFC 6890
        ("192.0.2.0/24", "documentation"),  # RFC 5737
        ("192.31.196.0/24", "AS112"),  # RFC 7535
        ("192.52.193.0/24", "AMT relay"),  # RFC 7450
        ("192.88.99.0/24", "6to4 relay"),  # RFC 7526
        ("192.168.0.0/16", "private"),
        ("192.175.48.0/24", "AS112"),  # RFC 7534
        ("198.18.0.0/15", "benchmarking"),  # RFC 2544
        ("198.51.100.0/24", "documentation"),
        ("203.0.113.0/24", "documentation"),
        ("224.0.0.0/4", "multicast"),
        ("240.0.0.0/4", "reserved"),
    )
)

_V4_BITS: tuple[tuple[int, int, str], ...] = tuple(
    (int(network.network_address), int(network.netmask), name) for network, name in _FORBIDDEN_V4
)

_FORBIDDEN_V6: tuple[tuple[IPv6Network, str], ...] = tuple(
    (IPv6Network(cidr), name)
    for cidr, name in (
        ("::/128", "unspecified"),
        ("::1/128", "loopback"),
        ("fd00:ec2::254/128", "metadata"),  # AWS over IPv6
        ("fd20:ce::254/128", "metadata"),  # GCP over IPv6
        ("::/96", "IPv4-compatible"),  # deprecated, RFC 4291; what is inside was judged before
        ("64:ff9b:1::/48", "local NAT64"),  # RFC 8215: translates into this very network
        ("100::/64", "discard only"),  # RFC 6666
        ("2001::/23", "protocol assignments"),  # Teredo, benchmarking, ORCHID
        ("2001:db8::/32", "documentation"),
        ("2620:4f:8000::/48", "AS112"),
        ("3fff::/20", "documentation"),  # RFC 9637
        ("5f00::/16", "segment routing"),  # RFC 9602
        ("fc00::/7", "private"),  # RFC 4193
        ("fe80::/10", "link-local"),
        ("fec0::/10", "site-local"),  # RFC 3879
        ("ff00::/8", "multicast"),
    )
)

_GLOBAL_UNICAST = IPv6Network("2000::/3")
_MAPPED = IPv6Network("::ffff:0:0/96")
_COMPATIBLE = IPv6Network("::/96")
_NAT64 = IPv6Network("64:ff9b::/96")  # RFC 6052
_NAT64_LOCAL = IPv6Network("64:ff9b:1::/48")
_TEREDO = IPv6Network("2001::/32")  # RFC 4380
_SIX_TO_FOUR = IPv6Network("2002::/16")  # RFC 3056
_ISATAP_MARKS = (0x00005EFE, 0x02005EFE)  # RFC 5214 section 6.1, universal bit unset and set

# A last label that is a number makes the whole name an address for inet_aton and for URL parsers alike; no
# top-level domain is numeric.
_ENDS_IN_A_NUMBER = re.compile(r"(?:\A|\.)(?:\d+|0x[0-9a-f]*)\Z")
_OWN_NAMES = ("localhost", "localhost.localdomain", "ip6-localhost", "ip6-loopback")


def allowed_networks(cidrs: Iterable[str]) -> tuple[Network, ...]:
    """The networks of MAILVET_PROBE_ALLOW_NETWORKS. Raises ValueError for what is none."""
    return tuple(ip_network(cidr, strict=False) for cidr in cidrs)


def forbidden(ip: str | Address, allow: Sequence[Network] = ()) -> str | None:
    """None: may be contacted. Else the name of the range that forbids it. `allow` wins over every range."""
    if isinstance(ip, str):
        try:
            ip = ip_address(ip)
        except ValueError:
            return NOT_AN_ADDRESS
    if any(ip in network for network in allow):
        return None
    if isinstance(ip, IPv4Address):
        bits = int(ip)  # every new mail host comes by here, and asking 24 network objects takes 20 times as long
        return next((name for network, mask, name in _V4_BITS if bits & mask == network), None)
    return _forbidden_v6(ip, allow)


def _forbidden_v6(ip: IPv6Address, allow: Sequence[Network]) -> str | None:
    for inside in _embedded(ip):
        if (why := forbidden(inside, allow)) is not None:
            return why
    if ip in _MAPPED or ip in _NAT64:  # the ways a public IPv4 host is really reached from an IPv6 socket
        return None
    if (why := _range_of(ip, _FORBIDDEN_V6)) is not None:
        return why
    if ip.scope_id is not None or ip not in _GLOBAL_UNICAST:
        return OUTSIDE_GLOBAL_UNICAST
    return None


def _range_of(ip: Address, table: Iterable[tuple[Network, str]]) -> str | None:
    return next((name for network, name in table if ip in network), None)


def _embedded(ip: IPv6Address) -> tuple[IPv4Address, ...]:
    """Every IPv4 address that `ip` may stand for."""
    bits = int(ip)
    low = IPv4Address(bits & 0xFFFFFFFF)
    if ip in _MAPPED or ip in _NAT64:
        return (low,)
    if ip in _COMPATIBLE:
        return (low,) if bits > 1 else ()  # :: and ::1 have names of their own
    if ip in _NAT64_LOCAL:  # RFC 6052 section 2.2: the place depends on the prefix length, 48 or 96
        return (low, IPv4Address((bits >> 64 & 0xFFFF) << 16 | (bits >> 40 & 0xFFFF)))
    if ip in _TEREDO:  # the server, and the client with its bits inverted
        return (IPv4Address(bits >> 64 & 0xFFFFFFFF), IPv4Address(~bits & 0xFFFFFFFF))
    found: tuple[IPv4Address, ...] = ()
    if ip in _SIX_TO_FOUR:
        found += (IPv4Address(bits >> 80 & 0xFFFFFFFF),)
    if bits >> 32 & 0xFFFFFFFF in _ISATAP_MARKS:
        found += (low,)
    return found


def is_ip_like(name: str) -> bool:
    """True for a name that some resolver would read as an address or as this machine: `127.1`, `0x7f000001`,
    `2130706433`, `0177.0.0.1`, circled digits, `[::1]`, `localhost`, trailing dots. Never look such a name up.
    """
    plain = unicodedata.normalize("NFKC", name).strip().lower().replace("\u3002", ".")
    bare = plain.removesuffix(".")  # one trailing dot only marks a complete name
    if not bare or bare.endswith(".") or ":" in bare or "[" in bare:
        return True
    if bare in _OWN_NAMES or bare.endswith(".localhost"):
        return True
    return _ENDS_IN_A_NUMBER.search(bare) is not None
