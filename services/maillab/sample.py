"""The sample: a small mail internet, and a list of about a thousand rows with the verdict each must get.

The world is `sample_sites.toml`; the list is `sample.csv`, written by `write_sample`, the same on every machine. At a
site without a verdict of its own the local part decides: `missing*`, `unknown*`, `bad*` and random-looking ones are
invalid/mailbox_missing, `full*` risky/mailbox_full, `disabled*` invalid/mailbox_disabled, role names
risky/role_account, the rest valid/accepted (some only at the second look: greylists).
"""

from __future__ import annotations

import csv
import datetime as dt
import random
import tomllib
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from services.maillab.big import big_list, big_world
from services.maillab.mailboxes import kind_of, listed_words
from services.maillab.world import Style, World, plain_name
from shared.address import Malformed, parse_address

__all__ = ["SAMPLE_LIST", "SAMPLE_SETTINGS", "big_list", "big_world", "expected", "sample_world", "write_sample"]

SAMPLE_LIST = Path(__file__).with_name("sample.csv")
# Patience for a laptop, not for the Internet: the sample is done in half a minute.
SAMPLE_SETTINGS = {"MAILVET_RETRY_DELAYS": "2,3", "MAILVET_PROBE_TIMEOUT": "3", "MAILVET_DNS_TIMEOUT": "2"}
HEADER = ("name", "email", "company", "signed_up")
ROLES = ("info", "sales", "support", "admin", "billing", "contact")
MALFORMED = (
    "anna.berg", "anna.berg@", "@northwind.example", "anna berg@northwind.example", "anna@@northwind.example",
    "anna..berg@northwind.example", ".anna@northwind.example", "anna.@acorn-books.example", "anna@northwind",
    "anna@northwind..example", "anna@-northwind.example", "anna,berg@northwind.example", "anna(at)northwind.example",
    "anna@north_wind.example", "n/a", "none", "anna@[127.0.0.1", '"anna@northwind.example',
    "anna<at>acorn-books.example",
    "anna@acorn-books.example;ben@acorn-books.example", "mailto:", "x" * 70 + "@northwind.example",
)  # fmt: skip
KIND_VERDICTS = {
    "known": ("valid", "accepted"),
    "grey": ("valid", "accepted"),
    "missing": ("invalid", "mailbox_missing"),
    "random": ("invalid", "mailbox_missing"),
    "full": ("risky", "mailbox_full"),
    "disabled": ("invalid", "mailbox_disabled"),
}


class Verdict(NamedTuple):
    status: str
    reason: str


@dataclass(frozen=True)
class Site:
    """A row of sample_sites.toml."""

    domain: str
    company: str
    rows: int
    character: str = "accepts_rejects"
    style: Style = "postfix"
    options: dict[str, Any] = field(default_factory=dict)
    cap: int = 2
    max_rejects: int = 10
    mx: list[str] = field(default_factory=list)
    down: list[str] = field(default_factory=list)
    dns: dict[str, Any] | None = None
    address_of: dict[str, str] = field(default_factory=dict)
    expect: tuple[str, str] | None = None
    accepted_as: tuple[str, str] | None = None
    listed: list[str] = field(default_factory=list)  # local parts, whatever the rule for them says


@cache
def _sites() -> dict[str, Site]:
    told = tomllib.loads(Path(__file__).with_name("sample_sites.toml").read_text(encoding="utf-8"))
    return {plain_name(row["domain"]): Site(**row) for row in told["site"]}


def sample_world() -> World:
    """The hosts and domains that the sample list is about."""
    world = World()
    for domain, site in _sites().items():
        for name, address in site.address_of.items():
            world.domain(name, a=[address])
        if site.dns is not None:
            world.domain(domain, **site.dns)
            continue
        hosts = site.mx or [f"mx1.{domain}"]
        for name in hosts:
            world.host(
                name,
                "down" if name in site.down else site.character,
                style=site.style,
                cap=site.cap,
                max_rejects=site.max_rejects or None,
                **site.options,
            )
        for local in site.listed:
            world.mailbox(f"{local}@{domain}")
        world.domain(domain, mx=[(10 * place, name) for place, name in enumerate(hosts, 1)], txt=["v=spf1 mx -all"])
    return world


def expected(email: str) -> Verdict:
    """The verdict that `email` must get in the sample world; blanks around a cell do not count."""
    address = parse_address(email.strip())
    if isinstance(address, Malformed):
        return Verdict("invalid", "invalid_syntax")
    site = _sites().get(address.domain)
    if site is None:
        return Verdict("invalid", "domain_missing")
    if site.expect is not None:
        return Verdict(*site.expect)
    local = address.local.lower()
    kind = "known" if local in site.listed else kind_of(local, "names")
    if kind in ("known", "grey") and site.accepted_as is not None:
        return Verdict(*site.accepted_as)
    if local in ROLES:
        return Verdict("risky", "role_account")
    return Verdict(*KIND_VERDICTS[kind])


def write_sample(path: Path) -> int:
    """Write the sample list; returns the number of its rows, header not counted."""
    chance = random.Random(20)  # noqa: S311 - the list is to be the same each time
    rows = [row for site in _sites().values() for row in _rows_at(chance, site)]
    rows += [_row(chance, "", email, "") for email in MALFORMED]
    duplicates = [_spelt_otherwise(chance, row) for row in chance.sample(rows, 40)]
    rows += duplicates
    chance.shuffle(rows)
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(HEADER)
        writer.writerows(rows)
    return len(rows)


def _rows_at(chance: random.Random, site: Site) -> list[tuple[str, ...]]:
    people: set[str] = set()
    rows = [_row(chance, local.title(), f"{local}@{site.domain}", site.company) for local in site.listed]
    while len(rows) < site.rows:
        name, local = _someone(chance)
        if local in people:
            continue
        people.add(local)
        rows.append(_row(chance, name, f"{local}@{site.domain}", site.company))
    return rows


def _someone(chance: random.Random) -> tuple[str, str]:
    """A name and a local part; about one in five does not exist, is full, disabled or a role."""
    words = listed_words()
    first, last = chance.choice(words.first_names), chance.choice(words.last_names)
    name = f"{first} {last}".title()
    draw = chance.random()
    if draw < 0.09:
        return name, f"missing.{first}{chance.randrange(10, 99)}"
    if draw < 0.12:
        return name, "".join(chance.choices("bcdfghjklmnpqrstvwxz0123456789", k=12))
    if draw < 0.15:
        return name, f"full.{last}"
    if draw < 0.18:
        return name, f"disabled.{last}"
    if draw < 0.22:
        return "", chance.choice(ROLES)
    return name, chance.choice((f"{first}.{last}", f"{first[0]}.{last}", f"{first}{chance.randrange(1, 99)}", first))


def _row(chance: random.Random, name: str, email: str, company: str) -> tuple[str, ...]:
    signed_up = dt.date(2024, 1, 1) + dt.timedelta(days=chance.randrange(900))
    return name, email, company, signed_up.isoformat()


def _spelt_otherwise(chance: random.Random, row: tuple[str, ...]) -> tuple[str, ...]:
    """The same address once more, as lists have them: capitals, blanks around it, another date."""
    name, email, company, _ = row
    spelling = chance.choice((email, email.title(), email.upper(), f" {email} "))
    return _row(chance, name, spelling, company)
