"""AUTH_MODE=dev takes calls without a credential, but only from the machine itself, never on behalf of a web page.

A page from elsewhere that the user has open could otherwise post to the gateway (its `Origin` tells), or read from it
after pointing a name of its own at this address (DNS rebinding; the `Host` tells). Whoever presents a key needs none of
this.
"""

from __future__ import annotations

from ipaddress import ip_address
from urllib.parse import urlsplit

from fastapi import Request


def from_own_machine(request: Request, address: str | None, public_url: str | None) -> bool:
    """`address`: of the client, behind trusted proxies."""
    if address is None or not _is_loopback(address):
        return False
    host = urlsplit(f"//{request.headers.get('host', '')}").hostname or ""
    if not _is_own_name(host) and host != urlsplit(public_url or "").hostname:
        return False
    origin = request.headers.get("origin")
    return origin is None or urlsplit(origin).netloc == request.headers.get("host")


def _is_loopback(address: str) -> bool:
    try:
        return ip_address(address).is_loopback
    except ValueError:
        return False


def _is_own_name(host: str) -> bool:
    """An address, localhost, or a name of one label: nothing that somebody else's zone can point here."""
    try:
        ip_address(host)
    except ValueError:
        return "." not in host or host.endswith(".localhost")
    return True
