"""Did you mean gmail.com? A better domain for one that looks mistyped.

Only towards a few dozen domains that very many people really have, and never away from a domain that exists: real
look-alikes and all free providers are left alone (disposable domains are not: many are slips, bought as traps). Mended
are one slip in the name (a letter more, less, other, or two swapped; two slips in long names), one in an ending that
does not exist, well-known slips of the ending, and a dot that is missing or in the wrong place.
"""

from __future__ import annotations

import re
import tomllib
from functools import cache, lru_cache
from importlib.resources import files
from typing import NamedTuple

from publicsuffixlist import PublicSuffixList
from rapidfuzz import process
from rapidfuzz.distance import OSA

from validator.lists import is_free

_SHORTEST = 5  # letters of a name that likeness may lead to
_LONG = 7  # two slips in a name from here on
_FAR = 3  # no more letters of difference, whatever they are
_REPEATED = re.compile(r"(.)\1+")


class _Known(NamedTuple):
    targets: frozenset[str]
    names: list[str]  # the first labels of the targets, most used first: the first of equals wins
    by_name: dict[str, list[tuple[str, str]]]  # first label -> the targets it begins, and how each goes on
    squeezed: dict[str, list[str]]  # first label without its repetitions -> first labels
    words: frozenset[str]  # targets whose name is too ordinary for likeness
    never: frozenset[str]
    endings: dict[str, str]  # mistyped ending -> what was meant
    dotless: dict[str, str]  # letters alone -> target: a dot in the wrong place, or none


@lru_cache(maxsize=65_536)
def suggest_domain(domain: str) -> str | None:
    """`domain`: lower-case ASCII. None where there is nothing better to say, which is nearly always."""
    known = _known()
    if domain in known.never or domain in known.targets or is_free(domain):
        return None
    return known.dotless.get(domain.replace(".", "")) or _by_ending(domain, known) or _by_likeness(domain, known)


def _by_ending(domain: str, known: _Known) -> str | None:
    """gmail.co, yahoo.com.com: only where what comes out is a well-known domain."""
    if not domain.endswith(tuple(known.endings)):
        return None
    for wrong, right in known.endings.items():
        if domain.endswith(wrong):
            fixed = domain.removesuffix(wrong) + right
            if fixed in known.targets:
                return fixed
    return None


def _by_likeness(domain: str, known: _Known) -> str | None:
    name, _, ending = domain.partition(".")
    best: tuple[int, str] | None = None
    for meant in _like_names(name, known):
        for target, meant_ending in known.by_name[meant]:
            if name != meant and (target in known.words or not _may_be_mended(name, meant)):
                continue
            slips = _distance(name, meant, ending, meant_ending)
            if slips is not None and (best is None or slips < best[0]):
                best = (slips, target)
    return best[1] if best else None


def _like_names(name: str, known: _Known) -> list[str]:
    """Names of targets within two slips, or equal but for repeated letters. One call into C: nearly always empty."""
    near = [found[0] for found in process.extract(name, known.names, scorer=OSA.distance, score_cutoff=2, limit=None)]
    return near or known.squeezed.get(_REPEATED.sub(r"\1", name), [])


def _may_be_mended(name: str, meant: str) -> bool:
    """Short names have too many real neighbours: only a letter typed twice is a slip there."""
    return len(meant) >= _SHORTEST or _REPEATED.sub(r"\1", name) == meant


def _distance(name: str, meant: str, ending: str, meant_ending: str) -> int | None:
    """How many slips lead from what was meant to what was typed; None: more than typing explains."""
    allowed = _slips(name, meant)
    slips = OSA.distance(name, meant, score_cutoff=allowed)
    if slips > allowed:
        return None
    if ending == meant_ending:
        return slips
    if OSA.distance(ending, meant_ending, score_cutoff=1) > 1 or _exists(ending):
        return None
    return slips + 1


def _slips(name: str, meant: str) -> int:
    """How many slips between the two still count as typing. The first letter is rarely the wrong one."""
    if _REPEATED.sub(r"\1", name) == _REPEATED.sub(r"\1", meant):
        return _FAR
    long = len(meant) >= _LONG
    if name[:1] == meant[0]:
        return 2 if long else 1
    # a first letter left out, one put before it, or the first two swapped
    swapped = name[:2] == meant[1::-1]
    return 1 if long or swapped or meant.endswith(name) or name.endswith(meant) else 0


@lru_cache(maxsize=4096)
def _exists(ending: str) -> bool:
    """Are there domains that end so? By the public suffix list, whose copy comes with its package."""
    return bool(_suffixes().publicsuffix(ending) == ending)


@cache
def _suffixes() -> PublicSuffixList:
    return PublicSuffixList(accept_unknown=False)


@cache
def _known() -> _Known:
    table = tomllib.loads((files("validator") / "suggest.toml").read_text("utf-8"))
    targets: list[str] = table["targets"]
    by_name: dict[str, list[tuple[str, str]]] = {}
    squeezed: dict[str, list[str]] = {}
    for target in targets:
        name, _, ending = target.partition(".")
        if name not in by_name:
            squeezed.setdefault(_REPEATED.sub(r"\1", name), []).append(name)
        by_name.setdefault(name, []).append((target, ending))
    return _Known(
        targets=frozenset(targets),
        names=list(by_name),
        by_name=by_name,
        squeezed=squeezed,
        words=frozenset(table["words"]),
        never=frozenset(table["never"]),
        endings=dict(table["endings"]),
        dotless={target.replace(".", ""): target for target in reversed(targets)},
    )
