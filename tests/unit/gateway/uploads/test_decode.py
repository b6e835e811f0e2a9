"""Encodings are found out, and bytes that fit none are named."""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway.uploads.decode import BLOCK, Encoding, detect_encoding
from gateway.uploads.refusal import Refusal

NAMES = {
    "cp1252": "Müller José Straße François Großmann Peña Ångström München Zürich",
    "cp1250": "Łukasz Wójcik Żółć Kraków Świątek Dvořák Šimůnek",
    "cp1251": "Иван Петров Сергей Мария Кузнецов Москва",
    "koi8_r": "Иван Петров Сергей Мария Кузнецов Москва",
    "cp1253": "Γιώργος Παπαδόπουλος Μαρία Αθήνα",
    "shift_jis": "田中 太郎 佐藤 東京 大阪",
    "gb18030": "张伟 王芳 李娜 北京 上海",
}


def detect(folder: Path, content: bytes) -> Encoding:
    path = folder / "list"
    path.write_bytes(content)
    return detect_encoding(path)


def refused(folder: Path, content: bytes) -> tuple[str, int, int]:
    with pytest.raises(Refusal) as caught:
        detect(folder, content)
    return caught.value.code, caught.value.extra["line"], caught.value.extra.get("byteOffset", -1)


@pytest.mark.parametrize(
    ("encoding", "found"),
    [
        ("utf-8", "utf-8"),
        ("utf-8-sig", "utf-8-sig"),
        ("utf-16", "utf-16"),
        ("utf-32", "utf-32"),
        ("utf-16-le", "utf-16-le"),
        ("utf-16-be", "utf-16-be"),
    ],
)
def test_unicode_is_found_with_and_without_a_mark(tmp_path: Path, encoding: str, found: str) -> None:
    text = "email,name\nann@b.example.com,Zoë\n" * 50
    assert detect(tmp_path, text.encode(encoding)) == Encoding(found)


@pytest.mark.parametrize("encoding", NAMES)
def test_older_encodings_are_guessed_from_their_letters(tmp_path: Path, encoding: str) -> None:
    names = NAMES[encoding].split()
    text = "\n".join(f"{names[n % len(names)]};a{n}@b.example.com" for n in range(200))
    assert detect(tmp_path, text.encode(encoding)) == Encoding(encoding, guessed=True)


def test_one_western_letter_is_enough(tmp_path: Path) -> None:
    assert detect(tmp_path, b"name,email\nJos\xe9,a@b.example.com\n") == Encoding("cp1252", guessed=True)


@pytest.mark.parametrize(
    "cell",
    [
        "Conceição",
        "NAÇÃO",
        "£5",
        "½ 20° ±1 ²",
        "¿Qué? ¡Sí! 1º 2ª",
        "« Été » n°5",
        "Acme©® Ltd",
        "“q” – €5",
        "Nº 5",
        "Ñandú",
    ],
)
def test_a_few_western_letters_and_signs_are_enough(tmp_path: Path, cell: str) -> None:
    content = f"name,email\n{cell},a@b.example.com\n".encode("cp1252")
    assert detect(tmp_path, content) == Encoding("cp1252", guessed=True)


@pytest.mark.parametrize(
    ("encoding", "cell"),
    [
        ("cp1250", "Łukasz Żółć"),
        ("cp1250", "Dvořák Šárka"),
        ("cp1251", "Ян"),
        ("shift_jis", "アイ"),
        ("gb18030", "王"),
        ("cp1253", "Νίκος"),
    ],
)
def test_a_few_letters_of_other_code_pages_are_not_taken_for_western(tmp_path: Path, encoding: str, cell: str) -> None:
    content = f"name,email\n{cell},a@b.example.com\n".encode(encoding)
    assert refused(tmp_path, content)[0] == "undecodable"


def test_a_letter_cut_by_a_block_is_whole(tmp_path: Path) -> None:
    text = "\n" + "x" * (BLOCK - 2) + "ë\n"
    assert detect(tmp_path, text.encode()) == Encoding("utf-8")


def test_broken_utf_8_is_refused_with_its_byte(tmp_path: Path) -> None:
    good = "email,name\na@b.example.com,Zoë\n".encode() * 10_000
    assert refused(tmp_path, good + b"c@d.example.com,Ren\xe9e\n") == ("undecodable", 20_001, len(good) + 19)
    assert refused(tmp_path, "Zoë".encode()[:-1]) == ("undecodable", 1, 2)


def test_bytes_of_no_encoding_are_refused(tmp_path: Path) -> None:
    assert refused(tmp_path, b"email\na@b.example.com\n\xff\xfe\xfa@b.example.com\n") == ("undecodable", 3, 22)
    assert refused(tmp_path, "email\n\ud800@x.de\n".encode("utf-16", "surrogatepass"))[0] == "undecodable"


def test_a_nul_and_an_endless_line_are_refused_with_their_line(tmp_path: Path) -> None:
    assert refused(tmp_path, b"email\na\0b@c.example.com\n") == ("nul_byte", 2, 7)
    assert refused(tmp_path, b"email\n" + b"x" * 2 * BLOCK)[:2] == ("line_too_long", 2)
