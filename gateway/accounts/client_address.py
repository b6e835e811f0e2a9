"""From where a request comes: the peer, or what trusted proxies in front of us say of it.

`X-Forwarded-For` grows to the right, each proxy adding the peer it saw. Read from the right, every trusted proxy
vouches for the entry before its own; the first that is not a trusted proxy is the client, and whatever stands left of
it is his own claim.
"""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address

from fastapi import Request

Network = IPv4Network | IPv6Network


def client_address(request: Request, trusted: Sequence[Network]) -> str | None:
    """None where the peer has no address, as on a UNIX socket."""
    peer = _parsed(request.client.host if request.client else "")
    if peer is None:
        return None
    if trusted and _among(peer, trusted):
        said = ",".join(request.headers.getlist("x-forwarded-for")).split(",")
        for entry in reversed(said):
            before = _parsed(entry.strip())
            if before is None:
                break
            peer = before
            if not _among(peer, trusted):
                break
    return str(peer)


def _parsed(text: str) -> IPv4Address | IPv6Address | None:
    try:
        address = ip_address(text)
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address


def _among(address: IPv4Address | IPv6Address, networks: Sequence[Network]) -> bool:
    return any(address in network for network in networks)
