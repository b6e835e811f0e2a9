"""An address in files on disk, overwritten in place by spaces. Blocking; for a thread.

Rows, columns and every other byte stay where they are, so a list keeps its shape and its downloads. The container of a
workbook or an archive is removed instead: what is read later is the text that was made of it.
"""

from __future__ import annotations

import mmap
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from shared.address import Address

_ATEXT = rb"A-Za-z0-9.!#$%&'*+/=?^_`{|}~-"
_WIDE = {"utf-16-le": (b"", b"\0"), "utf-16-be": (b"\0", b"")}  # what stands around an ASCII byte


def spellings(address: Address) -> tuple[str, ...]:
    """As it was given, normalised, and with its domain in letters."""
    try:
        unicode_domain = address.domain.encode().decode("idna")
    except UnicodeError:
        unicode_domain = address.domain
    return tuple(dict.fromkeys((address.given, address.normalized, f"{address.local}@{unicode_domain}")))


def blank(path: Path, words: Iterable[str], encoding: str) -> int:
    """Overwrite `words` wherever they stand, case ignored, unless inside a longer address; how many there were."""
    if not path.exists() or not path.stat().st_size:
        return 0
    found = 0
    with path.open("r+b") as stream, mmap.mmap(stream.fileno(), 0) as content:
        for codec in _codecs(encoding):
            for pattern, space in _patterns(words, codec):
                for match in pattern.finditer(content):
                    content[match.start() : match.end()] = space * ((match.end() - match.start()) // len(space))
                    found += 1
        content.flush()
    return found


def _codecs(encoding: str) -> tuple[str, ...]:
    name = encoding.lower().replace("_", "-")
    if name.startswith("utf-16"):
        return tuple(_WIDE)
    return ("utf-8",) if name == "utf-8-sig" else (name,)


def _patterns(words: Iterable[str], codec: str) -> Iterator[tuple[re.Pattern[bytes], bytes]]:
    before, after = _WIDE.get(codec, (b"", b""))
    space = " ".encode(codec)
    for word in words:
        try:
            exact = re.escape(word.encode(codec))
        except UnicodeEncodeError:  # then it cannot stand in such a file
            continue
        not_inside = rb"(?<!" + before + rb"[" + _ATEXT + rb"]" + after + rb")"
        dot = rb"(?:" + before + rb"\." + after + rb")?"
        no_more = rb"(?!" + dot + before + rb"[A-Za-z0-9-]" + after + rb")"
        yield re.compile(not_inside + exact + no_more, re.IGNORECASE), space
