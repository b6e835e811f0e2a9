"""Did you mean gmail.com? A better domain for one that looks mistyped.

Only towards a few dozen domains that very many people really have, and never away from a domain that exists: real
look-alikes and all free providers are left alone (disposable domains are not: many are slips, bought as traps). One
slip (a letter more, less, other, or two swapped), a well-known slip of the ending, or a missing dot; two slips only in
long names.
"""

from __future__ import annotations

import re
import tomllib
from functools import cache, lru_cache
from importlib.resources import files
from typing import NamedTuple

from rapidfuzz.distance import OSA

from validator.lists import is_free

_SHORTEST = 5  # shorter names have too many real neighbours
_LONG = 7  # two slips in a name from here on
_FAR = 3  # no more letters of difference, whatever they are
_REPEATED = re.compile(r"(.)\1+")
_REAL_ENDINGS = frozenset(
    {".co", ".cm", ".om", ".ne", ".c", ".d", ".ed", "com"}
)  # a second slip beside them is too much


class _Known(NamedTuple):
    targets: frozenset[str]
    alike: tuple[str, ...]  # targets that likeness may lead to, most used first: the first of equals wins
    never: frozenset[str]
    endings: dict[str, str]  # mistyped ending -> what was meant


@lru_cache(maxsize=65_536)
def suggest_domain(domain: str) -> str | None:
    """`domain`: lower-case ASCII. None where there is nothing better to say, which is nearly always."""
    known = _known()
    if domain in known.never or domain in known.targets or is_free(domain):
        return None
    return _by_ending(domain, known) or _by_likeness(domain, known)


def _by_ending(domain: str, known: _Known) -> str | None:
    """gmail.con, yahoo.cmo, hotmailcom, gmail.com.com: only where what comes out is a well-known domain."""
    for wrong, right in known.endings.items():
        if domain.endswith(wrong):
            fixed = domain.removesuffix(wrong) + right
            if fixed in known.targets:
                return fixed
            likely = _by_likeness(fixed, known)
            if likely is not None and wrong not in _REAL_ENDINGS:
                return likely
    return None


def _by_likeness(domain: str, known: _Known) -> str | None:
    best: tuple[int, str] | None = None
    name, _, ending = domain.partition(".")
    for target in known.alike:
        target_name, _, target_ending = target.partition(".")
        if ending != target_ending or abs(len(name) - len(target_name)) > _FAR:
            continue
        allowed = _slips(name, target_name)
        distance = OSA.distance(name, target_name, score_cutoff=allowed)
        if distance <= allowed and (best is None or distance < best[0]):
            best = (distance, target)
    return best[1] if best else None


def _slips(name: str, target: str) -> int:
    """How many slips between the two still count as typing. The first letter is rarely the wrong one."""
    if _REPEATED.sub(r"\1", name) == _REPEATED.sub(r"\1", target):
        return _FAR
    long = len(target) >= _LONG
    if name[0] == target[0]:
        return 2 if long else 1
    # a first letter left out, doubled before, or swapped with the second
    swapped = name[:2] == target[1::-1]
    return 1 if long or swapped or target.endswith(name) or name.endswith(target) else 0


@cache
def _known() -> _Known:
    table = tomllib.loads((files("validator") / "suggest.toml").read_text("utf-8"))
    words = frozenset(table["words"])
    alike = tuple(t for t in table["targets"] if t not in words and len(t.partition(".")[0]) >= _SHORTEST)
    return _Known(frozenset(table["targets"]), alike, frozenset(table["never"]), dict(table["endings"]))
