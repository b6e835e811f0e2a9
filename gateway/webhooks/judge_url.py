"""Which URLs we deliver to, judged by their text alone; the address behind the name is judged at every delivery.

https on port 443 or 8443, a public host name, no user or password. An address in place of the name, and http, are for
those networks only that MAILVET_WEBHOOK_ALLOW_NETWORKS names (development).
"""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import ip_address

import httpx

from gateway.problem import Problem
from shared.address_guard import Network, is_ip_like

LONGEST = 2_000  # characters
PORTS = frozenset({None, 443, 8443})
_INSIDE = ("local", "internal", "localhost", "lan", "home", "corp", "intranet", "private", "home.arpa", "onion")


class UrlRefused(ValueError):
    """Why, for the user."""


def judge_url(given: str, allow: Sequence[Network] = ()) -> httpx.URL:
    """The URL as it will be called. Raises UrlRefused."""
    if len(given) > LONGEST or not given.isprintable() or any(letter in given for letter in ' \\"<>^`{|}'):
        raise UrlRefused("It is too long, or has characters that belong into no URL.")
    try:
        url = httpx.URL(given)
        host = url.raw_host.decode("ascii")
    except (httpx.InvalidURL, ValueError) as error:
        raise UrlRefused("It is not a URL.") from error
    if url.userinfo or url.fragment:
        raise UrlRefused("It may carry no user, password or fragment.")
    if url.scheme != "https" and not (url.scheme == "http" and allow):
        raise UrlRefused("It has to begin with https://.")
    if not _is_address_of(host, allow):
        _judge_name(host)
        if url.port not in PORTS and not allow:
            raise UrlRefused("The port has to be 443 or 8443.")
    return url


def _is_address_of(host: str, allow: Sequence[Network]) -> bool:
    try:
        address = ip_address(host)
    except ValueError:
        return False
    return any(address in network for network in allow)


def _judge_name(host: str) -> None:
    name = host.removesuffix(".").lower()
    if is_ip_like(host):
        raise UrlRefused("It has to name a host, not an address.")
    if "." not in name or any(name == inside or name.endswith("." + inside) for inside in _INSIDE):
        raise UrlRefused("It has to name a public host.")


def require_url(given: str, allow: Sequence[Network], field: str) -> str:
    """For routes: the URL, or Problem 422."""
    try:
        return str(judge_url(given, allow))
    except UrlRefused as error:
        raise Problem(422, "url_refused", f"{field}: {error}", field=field) from error
