"""Which local parts exist at a lab host, when the world lists no reply for the address.

The rule, first match wins:

1. ``missing*  unknown*  bad*``  no such mailbox; ``full*`` over quota; ``disabled*`` switched off;
   ``grey*`` put off when first asked.
2. ``known="names"`` (the default): the part before ``+``, less up to eight trailing digits, is one to three words
   joined by ``.``, ``_`` or ``-``; every word is a listed word (a first name, a last name, a role, a plain word such as
   ``user``), one letter, or one letter and a listed word (``jsmith``); at least one word is not a single letter.
   All others are *random*: a catch-all probe is refused.
3. ``known="listed"``: only addresses listed with ``World.mailbox`` exist. ``known="all"``: every local part exists.
   ``known="users"``: those starting with ``user`` exist.
"""

from __future__ import annotations

import re
import tomllib
from functools import cache, lru_cache
from pathlib import Path
from typing import Literal, NamedTuple

Known = Literal["names", "listed", "all", "users"]
Kind = Literal["known", "random", "missing", "full", "disabled", "grey"]

_MARKED = re.compile(r"(?P<missing>missing|unknown|bad)|(?P<full>full)|(?P<disabled>disabled)|(?P<grey>grey)")
MAX_DIGITS = 8
_TEN = "0123456789"
_JOINTS = re.compile(r"[._-]")


class Words(NamedTuple):
    """The listed words, in the order of local_parts.toml."""

    first_names: tuple[str, ...]
    last_names: tuple[str, ...]
    roles: tuple[str, ...]
    plain_words: tuple[str, ...]


@cache
def listed_words() -> Words:
    listed = tomllib.loads(Path(__file__).with_name("local_parts.toml").read_text(encoding="utf-8"))
    return Words(**{name: tuple(words.split()) for name, words in listed.items()})


@cache
def _all_words() -> frozenset[str]:
    return frozenset(word for words in listed_words() for word in words)


def kind_of(local: str, known: Known) -> Kind:
    """What `local` (lower-case) is at a host with the rule `known`."""
    marked = _MARKED.match(local)
    if marked is not None:
        return marked.lastgroup  # type: ignore[return-value]  # the groups are named after kinds
    if known == "all" or (known == "names" and _is_name(local)) or (known == "users" and local.startswith("user")):
        return "known"
    return "random"


def _is_name(local: str) -> bool:
    return (
        _is_made_of_words(local.partition("+")[0].rstrip(_TEN)) and len(local) - len(local.rstrip(_TEN)) <= MAX_DIGITS
    )


@lru_cache(maxsize=65_536)
def _is_made_of_words(stem: str) -> bool:
    words = _JOINTS.split(stem)
    if len(words) > 3 or all(len(word) == 1 for word in words):
        return False
    listed = _all_words()
    return all(len(word) == 1 or word in listed or word[1:] in listed for word in words)
