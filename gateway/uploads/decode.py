"""Which encoding a text is in. The whole file is looked at once, in blocks, before any row is believed.

In this order: a byte order mark; UTF-16 without one (every other byte is NUL); UTF-8; an older one-language encoding
guessed from the bytes that are not ASCII. Bytes that fit none are refused with their offset, and so is UTF-8 with a few
broken bytes in it: guessing another encoding for such a file would garble all its good letters.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from gateway.uploads.refusal import Refusal

BLOCK = 262_144  # bytes; a block without any line end means a line too long to be a record of ours
GUESS_FROM = 65_536  # bytes of lines with letters outside ASCII
MARKS = (  # the longer ones first: a UTF-32 mark begins with a UTF-16 one
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
LEGACY = ("cp1250", "cp1251", "cp1253", "cp1254", "cp1257", "koi8_r", "shift_jis", "euc_kr", "big5", "gb18030")
ENOUGH_TO_GUESS = 40  # bytes outside ASCII
_HIGH = re.compile(rb"[\x80-\xff]+")
_OUTSIDE_ASCII = re.compile(r"[^\x00-\x7f]")
_SAME_EVERYWHERE = re.compile(r"[\xa0§©«»®°±¶·€™–—’”…•]|(?<!\w)[‘“„]")  # in most code pages
_SPANISH = re.compile(r"\b[nN][ºª]|(?<!\w)[¿¡](?=[A-ZÀ-Þ])")
_PAIRS = re.compile(
    r"(?<![^\x00-\x7f])(?:ç[ãõáéíóúâêô]|[äöü]ß|ää|öö|éé|ñ[áéíóú]|[áéíóú]ñ|[áéíóúýæö]ð|[ðþ][áéíóúæö])(?![^\x00-\x7f])",
    re.IGNORECASE,
)
_LETTER = r"[^\W\d_]"
# In CP1252 text: signs within words, and letters beside each other that no western language has beside each other.
_ODD_IN_WORD = re.compile(rf"[‘“„‚ƒ†‡ˆ‰‹›˜¡-¿×÷](?={_LETTER})|(?<={_LETTER})[‘“„‚ƒ†‡ˆ‰‹›˜¡-¿×÷]|þ(?![áéíóúæö])")
_FOREIGN = re.compile(r"[À-ÿŒœŠšŽžŸ‘“„‚ƒ†‡ˆ‰‹›˜¡-¿]{2,}")


@dataclass(frozen=True, slots=True)
class Encoding:
    name: str
    guessed: bool = False  # letters outside ASCII may be wrong, so they may not decide which mailbox is asked about


class _Undecodable(Exception):
    def __init__(self, offset: int, line: int) -> None:
        super().__init__(offset)
        self.offset = offset
        self.line = line


def detect_encoding(path: Path) -> Encoding:
    """Raises Refusal `undecodable`, `nul_byte` or `line_too_long`, with line and byte offset."""
    with path.open("rb") as stream:
        head = stream.read(4096)
    name = next((name for mark, name in MARKS if head.startswith(mark)), None) or utf_16_without_mark(head)
    try:
        _scan(path, name or "utf-8")
    except _Undecodable as error:
        if name is None:
            return _legacy(path, error)
        raise _refuse(error, name) from None
    return Encoding(name or "utf-8")


def utf_16_without_mark(head: bytes) -> str | None:
    """Which UTF-16 it is, by where the NULs are; None: neither."""
    even, odd = head[::2], head[1::2]
    half = len(odd) // 2
    if half and odd.count(0) > half and not even.count(0):
        return "utf-16-le"
    if half and even.count(0) > half and not odd.count(0):
        return "utf-16-be"
    return None


def _blocks(path: Path) -> Iterator[bytes]:
    with path.open("rb") as stream:
        while block := stream.read(BLOCK):
            yield block


def _scan(path: Path, encoding: str) -> None:
    """Decode all of it, holding one block."""
    decoder = codecs.getincrementaldecoder(encoding)()
    line, offset = 1, 0
    for block in _blocks(path):
        pending = len(decoder.getstate()[0])
        try:
            text = decoder.decode(block)
        except UnicodeDecodeError as error:
            before = error.object[: error.start].count(b"\n")
            raise _Undecodable(offset - pending + error.start, line + before) from None
        _check(text, line, offset, full=len(block) == BLOCK)
        line += text.count("\n")
        offset += len(block)
    try:
        decoder.decode(b"", final=True)
    except UnicodeDecodeError as error:
        raise _Undecodable(offset - len(error.object) + error.start, line) from None


def _check(text: str, line: int, offset: int, *, full: bool) -> None:
    nul = text.find("\0")
    if nul >= 0:
        line += text.count("\n", 0, nul)
        at = offset + len(text[:nul].encode())
        raise Refusal(
            422, "nul_byte", f"There is a NUL byte in line {line}; this is not text.", line=line, byteOffset=at
        )
    if full and "\n" not in text and "\r" not in text:
        raise Refusal(422, "line_too_long", f"Line {line} is longer than {BLOCK} bytes.", line=line)


def _legacy(path: Path, error: _Undecodable) -> Encoding:
    good, bad, sample = 0, 0, bytearray()
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    for block in _blocks(path):
        text = decoder.decode(block)
        broken = text.count("�")
        good += len(_OUTSIDE_ASCII.findall(text)) - broken
        bad += broken
        if len(sample) < GUESS_FROM:
            sample += b"\n".join(line for line in block.splitlines() if not line.isascii())
    if good >= bad:  # UTF-8 after all, with broken bytes
        raise _refuse(error, "utf-8")
    name = _guess(bytes(sample[:GUESS_FROM]))
    if name is None:
        raise _refuse(error, "any encoding tried")
    try:
        _scan(path, name)
    except _Undecodable as other:
        raise _refuse(other, name) from None
    return Encoding(name, guessed=True)


def _guess(sample: bytes) -> str | None:
    if _western(sample):
        return "cp1252"
    if sum(map(len, _HIGH.findall(sample))) < ENOUGH_TO_GUESS:
        return None
    from charset_normalizer import from_bytes  # noqa: PLC0415 - slow to import and seldom needed

    best = from_bytes(sample, cp_isolation=list(LEGACY)).best()
    return best.encoding if best is not None else None


def _western(sample: bytes) -> bool:
    """In CP1252 text the letters outside ASCII stand among others, and the signs stand beside words, not in them."""
    try:
        text = _SAME_EVERYWHERE.sub(" ", sample.decode("cp1252"))
    except UnicodeDecodeError:
        return False
    outside = len(_OUTSIDE_ASCII.findall(text))
    odd = len(_ODD_IN_WORD.findall(_SPANISH.sub(" ", text)))
    foreign = sum(map(len, _FOREIGN.findall(_PAIRS.sub("xx", text))))
    return (odd + foreign) * 10 <= outside


def _refuse(error: _Undecodable, encoding: str) -> Refusal:
    return Refusal(
        422,
        "undecodable",
        f"The byte at offset {error.offset}, in line {error.line}, does not fit {encoding}. Save the list as UTF-8.",
        line=error.line,
        byteOffset=error.offset,
    )
