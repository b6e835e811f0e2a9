"""What the DNS says about where a domain's mail goes: facts, no verdict."""

from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple


class Outcome(StrEnum):
    HOSTS = "hosts"  # at least one host with an address that may be contacted
    NULL_MX = "null_mx"  # the domain says that it takes no mail (RFC 7505)
    DOMAIN_MISSING = "domain_missing"  # NXDOMAIN
    NO_MAIL_HOST = "no_mail_host"  # neither MX nor address, or no MX host exists
    PRIVATE_ADDRESS = "private_address"  # every address is one that the guard forbids
    DNS_FAILURE = "dns_failure"  # the DNS did not say: SERVFAIL, refused, timeout, loop, nonsense


class MailHost(NamedTuple):
    """`addresses` are literals that passed the address guard, IPv4 first; connect to them, never to `name`."""

    name: str  # lower case, no trailing dot
    preference: int
    addresses: tuple[str, ...]


class MailRoute(NamedTuple):
    """The answer for one domain. `hosts` is filled only for Outcome.HOSTS, in the order to try them."""

    outcome: Outcome
    hosts: tuple[MailHost, ...] = ()
    implicit: bool = False  # no MX; the domain's own address (RFC 5321 section 5.1)
    mx_names: tuple[str, ...] = ()  # MX host names by preference, also where they are of no use
    expires: float = 0.0  # by the resolver's clock; the route may be used until then
    temporary: bool = False  # a failure that another look may heal
    why: str = ""  # a few words for the trace, never for the verdict
