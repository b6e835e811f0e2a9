"""Worlds from TOML files, for `mailvet lab --world FILE` and `python -m services.maillab --world FILE`.

    [world]                         # all optional, see services.maillab.world.World
    cap = 2                         # connections at once beyond which a host complains; 0: any number
    max_rejects = 10                # refused recipients in a session beyond which it complains; 0: any number
    known = "names"                 # which unlisted mailboxes exist: names, listed, all, users

    [[host]]
    name = "mx1.good.test"
    character = "greylisting"       # default: accepts_rejects; all of them: services/maillab/characters
    ip = "127.1.0.1"                # optional, as are style, known, cap, max_rejects, any_domain
    options = { wait = 2.0 }        # what the character takes

    [[domain]]
    name = "good.test"
    mx = [[10, "mx1.good.test"]]    # also: a, aaaa, cname, txt, rcode, rcode_times, null_mx, flip, trick, ttl

    [mailboxes]
    "ann@good.test" = "250 2.1.5 Ok"
    "bob@good.test" = ["451 4.7.1 Greylisted", "250 2.1.5 Ok"]

    [big]                           # optional: adds services.maillab.big.big_world with these arguments
    domains = 20000
    hosts = 1000

Hosts come before domains, so a `[[domain]]` may replace a host's own address record.
"""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

from services.maillab.big import big_world
from services.maillab.world import World, WorldError

SECTIONS = {"world", "host", "domain", "mailboxes", "big"}


def load_world(path: Path) -> World:
    """The world described in `path`. Raises WorldError naming the file and what is wrong with it."""
    try:
        return _build(tomllib.loads(path.read_text(encoding="utf-8")))
    except OSError as error:
        raise WorldError(f"{path}: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, TypeError, ValueError, WorldError) as error:
        raise WorldError(f"{path}: {error}") from error


def _build(told: dict[str, Any]) -> World:
    unknown = set(told) - SECTIONS
    if unknown:
        raise WorldError(f"unknown section {min(unknown)}")
    world = World(**_limits(told.get("world", {})))
    for host in told.get("host", []):
        options = host.pop("options", {})
        world.host(host.pop("name"), **_limits(host), **options)
    for domain in told.get("domain", []):
        domain["mx"] = [(int(preference), str(target)) for preference, target in domain.get("mx", [])]
        world.domain(domain.pop("name"), **domain)
    for address, replies in told.get("mailboxes", {}).items():
        world.mailbox(address, replies)
    if "big" in told:
        big_world(world=world, **told["big"])
    return world


def _limits(told: dict[str, Any]) -> dict[str, Any]:
    """TOML has no null: 0 stands for no limit."""
    return {name: None if name in ("cap", "max_rejects") and value == 0 else value for name, value in told.items()}
