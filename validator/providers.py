"""Mail providers by the name of their MX host: how far a reply of theirs can be trusted, and how gently to ask.

The rows are data (`providers.toml`), each behaviour with its source; an operator's file of the same form adds rows and
replaces the ones it names again. The longest suffix on a label boundary wins.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal

import msgspec

from shared.errors import SettingsError
from shared.settings import PREFIX


class Provider(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One provider. Unset limits mean the installation's own defaults."""

    name: str
    mx: tuple[str, ...]  # host suffixes: "google.com" is google.com and every host below it
    kind: Literal["mailbox", "gateway", "hosting", "inbound-api", "disposable"] = "hosting"
    truthful: bool = False  # known to refuse unknown mailboxes at RCPT
    accepts_all: bool = False  # says 250 to any RCPT and bounces later: a 250 means nothing
    probe: Literal["allowed", "never"] = "allowed"  # never: the provider's published rules forbid it
    skip_catch_all: bool = False  # the random address is not worth asking there
    max_connections: int | None = None  # at once, to the whole provider
    connections_per_second: float | None = None  # new ones, to the whole provider
    recipients_per_session: int | None = None
    timeout: float | None = None  # seconds for one step, where the provider is known to be slow
    source: str = ""  # who says so


class _File(msgspec.Struct, forbid_unknown_fields=True):
    provider: list[Provider] = []


class Providers:
    """Look-up of providers by MX host name."""

    def __init__(self, rows: list[Provider]) -> None:
        self._rows = rows
        self._by_suffix: Mapping[str, Provider] = {suffix.strip(".").lower(): row for row in rows for suffix in row.mx}

    def find(self, mx_host: str) -> Provider | None:
        """The provider whose suffix is the longest that `mx_host` ends with, label by label."""
        name = mx_host.rstrip(".").lower()
        while name:
            row = self._by_suffix.get(name)
            if row is not None:
                return row
            name = name.partition(".")[2]
        return None

    def __len__(self) -> int:
        return len(self._by_suffix)


def load_providers(overrides: Path | None = None) -> Providers:
    """The built-in table, with the rows of `overrides` (settings.providers_file) on top. Raises SettingsError."""
    if overrides is None:
        return Providers(_built_in())
    try:
        rows = _decode(tomllib.loads(overrides.read_text("utf-8")))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError, msgspec.ValidationError) as error:
        raise SettingsError(PREFIX + "PROVIDERS_FILE", f"{overrides}: {error}") from error
    return Providers(_built_in() + rows)


@cache
def _built_in() -> list[Provider]:
    return _decode(tomllib.loads((files("validator") / "providers.toml").read_text("utf-8")))


def _decode(table: dict[str, Any]) -> list[Provider]:
    return msgspec.convert(table, _File).provider
