from pathlib import Path

import pytest

from gateway.billing.packs import load_packs
from shared.errors import SettingsError

ONE = '[[pack]]\nid = "a"\nname = "A"\ncredits = 10\namount = 100\ncurrency = "eur"\n'


def test_the_built_in_packs_are_sold_for_less_the_more_one_takes() -> None:
    packs = [pack for pack in load_packs() if pack.interval is None]
    each = [pack.amount / pack.credits for pack in packs]
    assert each == sorted(each, reverse=True)


def test_a_price_is_known_by_its_id_or_its_lookup_key(tmp_path: Path) -> None:
    path = tmp_path / "packs.toml"
    path.write_text(ONE + 'price = "price_1"\n' + ONE.replace('"a"', '"b"') + 'lookup_key = "key"\n')
    packs = load_packs(path)
    assert [pack.id for pack in packs] == ["a", "b"]
    found = [packs.of_price("price_1", None), packs.of_price("price_2", "key"), packs.of_price("price_2", None)]
    assert [pack and pack.id for pack in found] == ["a", "b", None]


@pytest.mark.parametrize(
    "text",
    ["", "pack = 1", ONE + ONE, ONE.replace("10\n", "-1\n", 1), ONE + "free = true\n", "[[pack", '[[pack]]\nid="a"'],
)
def test_a_wrong_file_names_the_setting(tmp_path: Path, text: str) -> None:
    path = tmp_path / "packs.toml"
    path.write_text(text)
    with pytest.raises(SettingsError, match="MAILVET_PACKS_FILE"):
        load_packs(path)


def test_a_missing_file_names_the_setting(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="MAILVET_PACKS_FILE"):
        load_packs(tmp_path / "none.toml")
