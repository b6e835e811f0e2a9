"""Worlds and lists of any size for benchmarks, the same for the same arguments."""

from __future__ import annotations

import random
from collections.abc import Iterator
from itertools import accumulate
from pathlib import Path
from typing import Any, Literal, NamedTuple

from services.maillab.world import World

Spread = Literal["even", "zipf"]
CHUNK = 10_000  # rows written at once


class ListCounts(NamedTuple):
    """What `big_list` wrote: rows whose mailbox exists, and rows whose mailbox does not."""

    known: int
    missing: int


def big_world(
    domains: int = 20_000,
    hosts: int = 1_000,
    *,
    character: str = "accepts_rejects",
    cap: int | None = 2,
    max_rejects: int | None = None,
    world: World | None = None,
    **options: Any,
) -> World:
    """`domains` domains d0.bench.test, d1.bench.test, … shared evenly by `hosts` mail hosts; mailboxes are `user*`.

    With `world`, they are added to it.
    """
    world = world if world is not None else World()
    for number in range(hosts):
        world.host(f"mx{number}.bench.test", character, known="users", cap=cap, max_rejects=max_rejects, **options)
    for number in range(domains):
        world.domain(f"d{number}.bench.test", mx=[(10, f"mx{number % hosts}.bench.test")])
    return world


def big_addresses(
    rows: int, *, domains: int = 20_000, spread: Spread = "even", bad: float = 0.2, seed: int = 1
) -> Iterator[str]:
    """`rows` different addresses of `big_world`, a share `bad` of them missing.

    `spread`: every domain has as many as the next, or (zipf) the n-th a n-th of the first's.
    """
    chance = random.Random(seed)  # noqa: S311 - a benchmark wants the same list each time, not a secret one
    weights = list(accumulate(1 / (place + 1) for place in range(domains))) if spread == "zipf" else []
    for start in range(0, rows, CHUNK):
        count = min(CHUNK, rows - start)
        if weights:
            places = chance.choices(range(domains), cum_weights=weights, k=count)
        else:
            places = [number % domains for number in range(start, start + count)]
        for number, place in enumerate(places, start):
            local = "bad" if chance.random() < bad else "user"
            yield f"{local}{number}@d{place}.bench.test"


def big_list(
    rows: int, path: Path, *, domains: int = 20_000, spread: Spread = "even", bad: float = 0.2, seed: int = 1
) -> ListCounts:
    """Write `big_addresses` as a CSV file with the header `email`."""
    known = 0
    with path.open("w", encoding="ascii") as file:
        file.write("email\n")
        for address in big_addresses(rows, domains=domains, spread=spread, bad=bad, seed=seed):
            known += address.startswith("user")
            file.write(address + "\n")
    return ListCounts(known, rows - known)
