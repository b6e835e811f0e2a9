"""The dashboard's files, as they lie in the package: read once, compressed once, and known by their hash."""

from __future__ import annotations

import gzip
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from types import MappingProxyType

INDEX = "index.html"
_TYPES = {
    "html": "text/html; charset=utf-8",
    "css": "text/css; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "svg": "image/svg+xml",
}


@dataclass(frozen=True, slots=True)
class Page:
    """One file. `etag` is written as the header wants it (RFC 9110 section 8.8.3)."""

    content: bytes
    gzipped: bytes
    media_type: str
    etag: str


@cache
def pages() -> Mapping[str, Page]:
    """Every file by its name. What is not in here is not served, so no name ever becomes a path."""
    found = {}
    for entry in (files(__package__) / "static").iterdir():
        media_type = _TYPES.get(entry.name.rpartition(".")[2])
        if media_type is not None:
            content = entry.read_bytes()
            etag = f'W/"{hashlib.sha256(content).hexdigest()[:32]}"'  # weak: the same whether compressed or not
            found[entry.name] = Page(content, gzip.compress(content, mtime=0), media_type, etag)
    return MappingProxyType(found)
