"""What a file is, by its first bytes."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.uploads.recognise import Kind, recognise
from gateway.uploads.refusal import Refusal

LIST = "email,name\nann@a.example,Zoë\n"


def judged(path: Path, content: bytes, name: str = "list.csv") -> str:
    path.write_bytes(content)
    try:
        return str(recognise(path, name))
    except Refusal as refusal:
        return refusal.code if refusal.status == 422 else str(refusal.status)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "cp1252"])
def test_text_in_any_encoding_is_text(tmp_path: Path, encoding: str) -> None:
    assert judged(tmp_path / "x", LIST.encode(encoding)) == Kind.TEXT


def test_japanese_mail_text_with_its_escapes_is_text(tmp_path: Path) -> None:
    text = "email,name\n" + "".join(f"u{n}@a.example,山田\n" for n in range(50))
    assert judged(tmp_path / "x", text.encode("iso2022_jp")) == Kind.TEXT


def test_a_stray_control_character_does_not_make_a_list_binary(tmp_path: Path) -> None:
    assert judged(tmp_path / "x", b"a\0@b.example\n\x01\x02\n") == Kind.TEXT


@pytest.mark.parametrize("seed", range(20))
def test_bytes_without_meaning_as_text_are_415_under_any_name(tmp_path: Path, seed: int) -> None:
    content = random.Random(seed).randbytes(1_000)
    for name in ("list.csv", "list.txt", "list", "list.exe"):
        assert judged(tmp_path / "x", content, name) == "415"


@given(st.text(st.characters(exclude_categories=["Cc", "Cs"]), min_size=1).filter(str.strip))
def test_no_text_without_control_characters_is_taken_for_binary(tmp_path_factory, text: str) -> None:
    path = tmp_path_factory.mktemp("text") / "x"
    assert judged(path, f"email\n{text}\n".encode()) == Kind.TEXT
