"""What exists in the mail lab: hosts, domains, mailboxes. Pure data; `services.maillab.lab` brings it to life.

Names are kept in lower case without a final dot. A host gets an address of its own in 127.1.0.0/16, 127.2.0.0/16, … in
the order of `World.host` calls, so the same script always builds the same world.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import idna

from services.maillab.mailboxes import Known
from shared.errors import MailvetError

Rcode = Literal["SERVFAIL", "NXDOMAIN", "REFUSED", "FORMERR", "NOTIMP", "timeout"]
Trick = Literal["truncate", "wrong_id", "wrong_question", "garbage", "tcp_closes"]
Style = Literal["postfix", "exim", "exchange", "gmail", "sendmail", "plain"]
HOSTS_PER_NET = 254 * 255


class WorldError(MailvetError):
    """The world as described cannot exist; the message says which name and why."""

    temporary = False


@dataclass
class Host:
    """One mail server. `options` go to its character (see services/maillab/characters)."""

    name: str
    ip: str
    character: str
    options: dict[str, object]
    style: Style  # whose wording its replies follow
    known: Known  # which local parts exist
    cap: int | None  # connections at once beyond which it complains
    max_rejects: int | None  # refused recipients in one session beyond which it complains
    any_domain: bool  # takes mail for every domain, not only for those the world's DNS sends here


@dataclass
class Domain:
    """The DNS records of one name."""

    name: str
    mx: list[tuple[int, str]] = field(default_factory=list)
    a: list[str] = field(default_factory=list)
    aaaa: list[str] = field(default_factory=list)
    cname: str | None = None
    txt: list[str] = field(default_factory=list)
    rcode: Mapping[str, Rcode] = field(default_factory=dict)  # by record type; "*" is every type
    rcode_times: int | None = None  # only so many first questions get `rcode`; None: all
    flip: list[list[str]] = field(default_factory=list)  # the n-th A question gets the n-th list; the last one repeats
    trick: Trick | None = None
    ttl: int = 300


class World:
    """Hosts, domains and mailboxes. `cap` and `max_rejects` are what hosts complain beyond unless told otherwise."""

    def __init__(self, *, cap: int | None = 2, max_rejects: int | None = 10, known: Known = "names") -> None:
        self.cap = cap
        self.max_rejects = max_rejects
        self.known = known
        self.hosts: dict[str, Host] = {}
        self.domains: dict[str, Domain] = {}
        self.mailboxes: dict[str, list[str]] = {}
        self.allowed: set[str] | None = None
        self.probes_per_domain = 2
        self.version = 0  # moves when DNS answers may have changed

    def host(
        self,
        name: str,
        character: str = "accepts_rejects",
        *,
        ip: str | None = None,
        style: Style = "postfix",
        known: Known | None = None,
        cap: int | Literal["world"] | None = "world",
        max_rejects: int | Literal["world"] | None = "world",
        any_domain: bool = False,
        **options: object,
    ) -> Host:
        """Add a mail server and its A or AAAA record. `ip`: `::1` or one of 127.0.0.0/8; default: the next free one."""
        name = plain_name(name)
        if name in self.hosts:
            raise WorldError(f"host {name} is there twice")
        host = Host(
            name=name,
            ip=ip or self._next_address(),
            character=character,
            options=options,
            style=style,
            known=known or self.known,
            cap=self.cap if cap == "world" else cap,
            max_rejects=self.max_rejects if max_rejects == "world" else max_rejects,
            any_domain=any_domain,
        )
        if not ipaddress.ip_address(host.ip).is_loopback:
            raise WorldError(f"host {name}: {host.ip} is not a loopback address")
        self.hosts[name] = host
        if name not in self.domains:
            v6 = ":" in host.ip
            self.domains[name] = Domain(name, a=[] if v6 else [host.ip], aaaa=[host.ip] if v6 else [])
        self.version += 1
        return host

    def domain(
        self,
        name: str,
        *,
        mx: Iterable[tuple[int, str]] = (),
        a: Iterable[str] = (),
        aaaa: Iterable[str] = (),
        cname: str | None = None,
        txt: Iterable[str] = (),
        rcode: Rcode | Mapping[str, Rcode] | None = None,
        rcode_times: int | None = None,
        null_mx: bool = False,
        flip: Sequence[Sequence[str]] = (),
        trick: Trick | None = None,
        ttl: int = 300,
    ) -> Domain:
        """Set the DNS records of `name`, replacing what it had. `null_mx` is the RFC 7505 record `0 .`"""
        records = [(preference, target if target == "." else target.rstrip(".")) for preference, target in mx]
        domain = Domain(
            plain_name(name),
            mx=[(0, ".")] if null_mx else records,
            a=list(a),
            aaaa=list(aaaa),
            cname=plain_name(cname) if cname else None,
            txt=list(txt),
            rcode={"*": rcode} if isinstance(rcode, str) else dict(rcode or {}),
            rcode_times=rcode_times,
            flip=[list(addresses) for addresses in flip],
            trick=trick,
            ttl=ttl,
        )
        self.domains[domain.name] = domain
        self.version += 1
        return domain

    def mailbox(self, address: str, replies: str | Sequence[str] = "250 2.1.5 Ok") -> None:
        r"""Script what RCPT of `address` is answered; a list is used up ask by ask and its last reply repeats.

        A reply is its text without CRLF; ``\n`` separates the lines of a longer one. After a 421 the server hangs up.
        ``!close`` hangs up, ``!reset`` resets the connection, ``!silence`` says nothing more in the session.
        """
        listed = [replies] if isinstance(replies, str) else list(replies)
        if not listed:
            raise WorldError(f"mailbox {address} has no reply")
        self.mailboxes[plain_address(address)] = listed

    def only_ask(self, addresses: Iterable[str], *, probes_per_domain: int = 2) -> None:
        """From now on a RCPT of any other address is bad manners, but for a few catch-all probes a domain."""
        self.allowed = {plain_address(address) for address in addresses}
        self.probes_per_domain = probes_per_domain

    def serves(self, host: Host, domain: str) -> bool:
        """Whether the world's DNS leads mail for `domain` to `host` (MX, CNAME, or its own address)."""
        if host.any_domain:
            return True
        found = self.follow(domain)
        if found is None:
            return False
        if found.mx:
            return any(self._is_at(target, host) for _, target in found.mx)
        return self._is_at(found.name, host)

    def follow(self, name: str) -> Domain | None:
        """The records at the end of `name`'s CNAME chain; None where there are none, or it never ends."""
        found = self.domains.get(plain_name(name))
        for _ in range(16):
            if found is None or found.cname is None:
                return found
            found = self.domains.get(found.cname)
        return None

    def _is_at(self, name: str, host: Host) -> bool:
        found = self.follow(name)
        if found is None:
            return name == host.ip
        return host.ip in found.a or host.ip in found.aaaa or any(host.ip in addresses for addresses in found.flip)

    def _next_address(self) -> str:
        net, place = divmod(sum(1 for host in self.hosts.values() if ":" not in host.ip), HOSTS_PER_NET)
        third, fourth = divmod(place, 254)
        return f"127.{net + 1}.{third}.{fourth + 1}"


def plain_name(name: str) -> str:
    """Lower case, no final dot, A-labels (RFC 5890) for what is outside ASCII."""
    name = name.rstrip(".").lower()
    if name.isascii():
        return name
    try:
        return idna.encode(name, uts46=True).decode()
    except idna.IDNAError:
        return name


def plain_address(address: str) -> str:
    """Lower case, and the domain as `plain_name` has it."""
    local, at, domain = address.lower().rpartition("@")
    return local + at + plain_name(domain)
