"""What a file is, by its first bytes; its name only tells when the two contradict each other."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path

from gateway.uploads.decode import utf_16_without_mark
from gateway.uploads.refusal import Refusal

LOOK_AT = 8_192


class Kind(StrEnum):
    TEXT = "text"
    PACKED = "packed"  # a ZIP container: a workbook or an archive of lists


_TEXT_NAMES = frozenset({".csv", ".tsv", ".tab", ".txt"})
_PACKED_NAMES = frozenset({".xlsx", ".zip"})
_BOMS = (b"\xef\xbb\xbf", b"\xff\xfe", b"\xfe\xff", b"\x00\x00\xfe\xff")
_ZIP = (b"PK\x03\x04", b"PK\x05\x06", b"PK\x07\x08")
_OLE = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"  # old Office files, and new ones that are encrypted [MS-OFFCRYPTO]
_ENCRYPTED = "EncryptedPackage".encode("utf-16-le")
_OTHERS = (
    (b"\x1f\x8b", "gzip"),
    (b"BZh", "bzip2"),
    (b"\xfd7zXZ\x00", "xz"),
    (b"\x28\xb5\x2f\xfd", "Zstandard"),
    (b"7z\xbc\xaf\x27\x1c", "7z"),
    (b"Rar!\x1a\x07", "RAR"),
    (b"%PDF-", "PDF"),
    (b"{\\rtf", "RTF"),
    (b"\x89PNG\r\n\x1a\n", "PNG"),
    (b"\xff\xd8\xff", "JPEG"),
    (b"GIF8", "GIF"),
    (b"\x7fELF", "ELF"),
    (b"PAR1", "Parquet"),
    (b"SQLite format 3\x00", "SQLite"),
    (b"MZ\x90\x00", "EXE"),
)
# Bytes that no text has many of. ESC may stand in text: ISO-2022-JP switches alphabets with it.
_CONTROLS = bytes({*range(0x20), 0x7F} - set(b"\t\n\v\f\r\x1a\x1b"))
_FEW = 4  # a list with a stray NUL is a list with a bad row, and is told where
_SHARE = 20  # one in so many; of bytes without a meaning as text (compressed, encrypted) it is one in ten
_MARKUP = (b"<!doctype", b"<html", b"<?xml")


def recognise(path: Path, filename: str) -> Kind:
    """Raises Refusal: `empty_file`, `encrypted`, or 415 `unsupported_type` and `wrong_type`."""
    size = path.stat().st_size
    with path.open("rb") as stream:
        head = stream.read(LOOK_AT)
    if not head.removeprefix(_BOMS[0]).strip():
        if size <= LOOK_AT:
            raise Refusal(422, "empty_file", "The file is empty.", field="file")
        return Kind.TEXT
    suffix = Path(filename).suffix.lower()
    if head.startswith(_OLE):
        raise _office(path)
    kind = Kind.PACKED if head.startswith(_ZIP) else Kind.TEXT
    if kind is Kind.TEXT:
        _refuse_other(head)
    expected = Kind.TEXT if suffix in _TEXT_NAMES else Kind.PACKED if suffix in _PACKED_NAMES else kind
    if kind is not expected:
        raise Refusal(415, "wrong_type", f"The name ends in {suffix}, but the content is something else.", field="file")
    return kind


def _refuse_other(head: bytes) -> None:
    name = next((name for magic, name in _OTHERS if head.startswith(magic)), None)
    if name is None and head.removeprefix(_BOMS[0]).lstrip().lower().startswith(_MARKUP):
        name = "HTML or XML"
    if name is None and _is_binary(head):
        name = "binary"
    if name is not None:
        article = "an" if name[0] in "AEIOU" else "a"
        detail = f"This is {article} {name} file; send CSV, TXT, XLSX or a ZIP of those."
        raise Refusal(415, "unsupported_type", detail, field="file")


def _is_binary(head: bytes) -> bool:
    if head.startswith(_BOMS) or utf_16_without_mark(head) is not None:
        return False
    controls = len(head) - len(head.translate(None, _CONTROLS))
    return controls >= _FEW and controls * _SHARE > len(head)


def _office(path: Path) -> Refusal:
    with path.open("rb") as stream:  # the directory of streams may stand anywhere in the file
        before = b""
        while block := stream.read(1 << 20):
            if _ENCRYPTED in before + block:
                return Refusal(422, "encrypted", "The workbook is encrypted; save it without a password.", field="file")
            before = block[-len(_ENCRYPTED) :]
    return Refusal(415, "unsupported_type", "This is an old Office file; save it as XLSX or CSV.", field="file")
