"""What is sold: packs of credits, and plans that bring a pack each month. Data, from packs.toml."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from shared.errors import SettingsError

BUILT_IN = Path(__file__).with_name("packs.toml")


class Pack(BaseModel):
    """`amount` in the currency's smallest unit. With an `interval` it is a plan."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    id: str = Field(pattern=r"^[a-z0-9_]{1,40}$")
    name: str = Field(min_length=1, max_length=100)
    credits: int = Field(gt=0, le=10**9)
    amount: int = Field(gt=0, le=10**9)
    currency: str = Field(pattern=r"^[a-z]{3}$")
    lookup_key: str | None = None
    price: str | None = None
    interval: str | None = Field(default=None, pattern=r"^(month|year)$")


class _File(BaseModel):
    model_config = ConfigDict(extra="forbid")

    pack: list[Pack] = Field(min_length=1)


@dataclass(frozen=True, slots=True)
class Packs:
    """By their ids, and by what names them in Stripe."""

    by_id: dict[str, Pack]

    def __iter__(self) -> Iterator[Pack]:
        return iter(self.by_id.values())

    def get(self, id_: str) -> Pack | None:
        return self.by_id.get(id_)

    def of_price(self, price_id: str, lookup_key: str | None) -> Pack | None:
        """The pack that a price in Stripe sells; None for a price that is none of ours."""
        for pack in self:
            if pack.price == price_id or (pack.lookup_key is not None and pack.lookup_key == lookup_key):
                return pack
        return None


def load_packs(path: Path | None = None) -> Packs:
    """Raises SettingsError for a file that is not of the shape of packs.toml."""
    try:
        read = _File.model_validate(tomllib.loads((path or BUILT_IN).read_text(encoding="utf-8")))
    except (OSError, tomllib.TOMLDecodeError, ValidationError) as error:
        raise SettingsError("MAILVET_PACKS_FILE", f"{path}: {str(error).splitlines()[0]}") from error
    return Packs(_unique(read.pack))


def _unique(packs: Iterable[Pack]) -> dict[str, Pack]:
    by_id: dict[str, Pack] = {}
    for pack in packs:
        if pack.id in by_id:
            raise SettingsError("MAILVET_PACKS_FILE", f"the pack {pack.id} is there twice")
        by_id[pack.id] = pack
    return by_id
