from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.retention.blank import blank, spellings
from shared.address import Address, parse_address


def address(text: str) -> Address:
    parsed = parse_address(text)
    assert isinstance(parsed, Address)
    return parsed


ANN = spellings(address("Ann@Example.com"))


def blanked(tmp_path: Path, text: str, encoding: str = "utf-8", words: tuple[str, ...] = ANN) -> str:
    path = tmp_path / "list"
    path.write_bytes(text.encode(encoding))
    size = path.stat().st_size
    blank(path, words, encoding)
    assert path.stat().st_size == size
    return path.read_bytes().decode(encoding)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "latin-1", "cp1252", "utf-16", "utf-16-le", "utf-16-be"])
def test_every_occurrence_is_overwritten_whatever_its_case(tmp_path: Path, encoding: str) -> None:
    text = "email,note\r\nann@example.com,<ANN@EXAMPLE.COM>\r\nben@example.com,x\r\n"
    found = blanked(tmp_path, text, encoding)
    assert found == "email,note\r\n               ,<               >\r\nben@example.com,x\r\n"


@pytest.mark.parametrize(
    "longer",
    ["joann@example.com", "x.ann@example.com", "ann@example.community", "ann@example.com.uk", "ann@example.com-x.org"],
)
def test_other_addresses_that_contain_it_stay(tmp_path: Path, longer: str) -> None:
    for encoding in ("utf-8", "utf-16-le"):
        assert blanked(tmp_path, f"a,{longer},b", encoding) == f"a,{longer},b"


def test_the_end_of_a_sentence_is_no_longer_name(tmp_path: Path) -> None:
    assert blanked(tmp_path, "Write to ann@example.com.") == "Write to                ."


def test_international_spellings_are_found(tmp_path: Path) -> None:
    words = spellings(address("jos\u00e9@b\u00fccher.example"))
    text = "jos\u00e9@b\u00fccher.example;jos\u00e9@xn--bcher-kva.example"
    assert blanked(tmp_path, text, words=words).strip(" ;") == ""
    assert blanked(tmp_path, "ascii only", "ascii", words) == "ascii only"


def test_missing_and_empty_files_hold_nothing(tmp_path: Path) -> None:
    assert blank(tmp_path / "none", ANN, "utf-8") == 0
    (tmp_path / "empty").touch()
    assert blank(tmp_path / "empty", ANN, "utf-8") == 0


@given(st.text(alphabet="anexmpl@.com ,;\n<>\u00e9", max_size=80))
def test_nothing_else_changes(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    path = tmp_path_factory.mktemp("blank") / "list"
    path.write_bytes(text.encode())
    blank(path, ANN, "utf-8")
    after = path.read_bytes()
    assert len(after) == len(text.encode())
    assert all(new in (old, 0x20) for old, new in zip(text.encode(), after, strict=True))
    if "ann@example.com" not in text.lower():
        assert after == text.encode()
