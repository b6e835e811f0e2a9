"""What separates the columns, which record is the header, which column holds the addresses.

Judged on the first records only. What an address looks like weighs most: the right delimiter is the one that leaves
whole addresses standing in cells. A header is one that says so, or a first record without any address above a column of
addresses. In a single column only a known name is a header: any other first line may be a broken address, and a row
may not vanish. Two columns that are equally likely to be meant are not decided here but named to the user.
"""

from __future__ import annotations

import csv
import re
import unicodedata
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

from gateway.uploads.records import NO_DELIMITER, Records, Table, open_text
from gateway.uploads.refusal import Refusal

SAMPLE_RECORDS = 1_000
SAMPLE_CHARS = 1_000_000
MAX_BLANK = 100_000  # blank rows before the first that is not
DELIMITERS = (",", ";", "\t", "|", ":", "^", "~")  # where all else is equal, the first wins
ALIKE = 0.5  # a column with at least this share of the best column's addresses is as likely to be meant
MAX_NAME = 200  # characters of a column's name that are kept

_LOOKS_LIKE_ADDRESS = re.compile(r"\s*[^\s@,;|<>]+@[^\s@,;|<>:]+\.[^\s@,;|<>:]+\s*\Z")
_SEP_LINE = re.compile(r"sep=(.)\s*\Z", re.IGNORECASE)
_NOT_WORD = re.compile(r"[\W_]+")
_NAMES = (  # as _fold leaves them
    # English
    "email emails mail mails emailaddress emailaddresses mailaddress emailid emailadress useremail emailaddr"
    # German, French, Spanish
    " emailadresse emailadressen mailadresse mailadressen"
    " courriel courriels adresseemail adressemail adressemel adresseelectronique adressecourriel mel"
    " correo correos correoelectronico direccioncorreo direcciondecorreo direccionemail"
    # Portuguese, Italian, Dutch, Nordic
    " enderecoemail enderecodeemail enderecoeletronico correioeletronico"
    " indirizzoemail indirizzomail postaelettronica indirizzodipostaelettronica"
    " emailadres mailadres epost epostadress epostadresse sahkoposti sahkopostiosoite netfang"
    # Polish, Czech, Turkish, Hungarian, Romanian, Baltic
    " adresemail adresmail adresaemail adresapoczty emailova adresaelektronickeposty elektronickaposta"
    " eposta epostaadresi elektronikposta emailcim adresadeemail elpastas epasts"
    # Russian, Ukrainian, Greek, Chinese, Japanese, Korean, Arabic, Hebrew, Hindi
    " почта электроннаяпочта адресэлектроннойпочты эпочта имейл емейл мейл мыло електроннапошта пошта"
    " ηλεκτρονικοταχυδρομειο ιμειλ"
    " 邮箱 邮件 电子邮件 电子邮箱 邮箱地址 郵箱 電子郵件 信箱 電子信箱 邮件地址 电子邮件地址"
    " メール メールアドレス eメール 電子メール 이메일 이메일주소 메일 전자우편 البريدالإلكتروني بريد דואל ईमेल"
)
_PARTLY = ("email", "correo", "courriel", "epost", "почта", "メール", "邮箱", "邮件", "이메일")


@dataclass(frozen=True, slots=True)
class Wanted:
    """What the uploader said about the list; None: find out."""

    column: str | None = None  # a name of the header, or a 1-based number
    has_header: bool | None = None


def _fold(name: str) -> str:
    plain = unicodedata.normalize("NFKD", name)
    return _NOT_WORD.sub("", "".join(c for c in plain if not unicodedata.combining(c)).casefold())


_KNOWN = frozenset(map(_fold, _NAMES.split()))
_KNOWN_PARTS = tuple(_fold(part) for part in _PARTLY)


def looks_like_address(cell: str) -> bool:
    return _LOOKS_LIKE_ADDRESS.match(cell) is not None


def is_email_name(cell: str) -> bool:
    """Whether a header cell, whole or in part, calls its column e-mail in one of many languages."""
    name = _fold(cell)
    return name in _KNOWN or any(part in name for part in _KNOWN_PARTS)


def describe_table(
    path: Path, source: str, encoding: str, wanted: Wanted, *, delimiter: str | None = None, guessed: bool = False
) -> Table:
    """`delimiter`: known beforehand; `guessed`: the encoding is.

    Raises Refusal: `empty_file`, `no_rows`, `no_email_column`, `ambiguous_column`, `no_such_column`.
    """
    with open_text(path, encoding) as stream:
        sample = _sample(stream)
    said, preamble = _sep_line(sample)
    known = delimiter is not None
    delimiter = delimiter or said or find_delimiter(sample)
    skip_space = not known and delimiter is not None and _space_before_quotes(sample, delimiter)
    with open_text(path, encoding) as stream:
        start, body = _first_records(Records(stream, delimiter, skip_space=skip_space), preamble)
    if not body:
        raise Refusal(422, "empty_file", "There is nothing in the file.", field="file")
    header = _has_header(body, wanted)
    names = _column_names(body[0] if header else [], max(map(len, body)))
    data = body[1:] if header else body
    if not any(cell.strip() for cells in data for cell in cells):
        raise Refusal(422, "no_rows", "There is a header and no row below it.", line=start)
    return Table(
        source=source,
        encoding=encoding,
        delimiter=delimiter,
        skip_space=skip_space,
        header_row=start if header else None,
        first_row=start + 1 if header else start,
        column=_find_column(data, names, wanted, header=header),
        columns=names,
        guessed=guessed,
    )


def _sample(stream: TextIO) -> list[str]:
    """The first lines from the first one that is not blank."""
    lines: list[str] = []
    chars = 0
    for line in stream:
        if lines or line.strip():
            lines.append(line)
            chars += len(line)
        if len(lines) >= 2 * SAMPLE_RECORDS or chars >= SAMPLE_CHARS:
            break
    return lines


def _first_records(records: Records, preamble: int) -> tuple[int, list[list[str]]]:
    """The row of the first record that is not blank and the records from there."""
    start = 0
    body: list[list[str]] = []
    for row, cells in enumerate(records, 1):
        if not body and row > MAX_BLANK:
            break
        if not body and (not any(map(str.strip, cells)) or preamble):
            preamble = 0 if any(map(str.strip, cells)) else preamble
            continue
        start = start or row
        body.append(cells)
        if len(body) >= SAMPLE_RECORDS:
            break
    return start, body


def _space_before_quotes(sample: Sequence[str], delimiter: str) -> bool:
    """`"Lee, Ann", "ann@b.example"`: without regard to that space the quotes would not count."""
    return any(f'{delimiter} "' in line for line in sample) and not any(f'{delimiter}"' in line for line in sample)


def _sep_line(sample: Sequence[str]) -> tuple[str | None, int]:
    """Spreadsheets accept a first line that names the delimiter."""
    found = _SEP_LINE.match(sample[0]) if sample else None
    return (found[1], 1) if found else (None, 0)


def find_delimiter(sample: Sequence[str]) -> str | None:
    """None: a single column. The more records with whole addresses the better, then the more even, then the wider."""
    best: str | None = None
    best_score = _score(sample, NO_DELIMITER)
    for delimiter in DELIMITERS:
        score = _score(sample, delimiter)
        if score[2] > 1 and score > best_score:
            best, best_score = delimiter, score
    return best


def _score(sample: Sequence[str], delimiter: str) -> tuple[int, float, int]:
    reader = csv.reader(sample, delimiter=delimiter)
    widths: Counter[int] = Counter()
    addresses = 0
    try:
        for cells in reader:
            if cells:
                widths[len(cells)] += 1
                addresses += any(looks_like_address(cell) for cell in cells)
    except csv.Error:
        pass  # a field too large; the records read so far are what there is to judge by
    if not widths:
        return 0, 0.0, 1
    width, count = max(widths.items(), key=lambda item: (item[1], item[0]))
    share = round(count / widths.total(), 2)
    return addresses, share if width > 1 else 0.0, width


def _has_header(body: list[list[str]], wanted: Wanted) -> bool:
    if wanted.has_header is not None:
        return wanted.has_header
    first = [cell.strip() for cell in body[0]]
    if any(looks_like_address(cell) for cell in first):
        return False
    named = wanted.column is not None and not wanted.column.isdecimal()
    if any(is_email_name(cell) or (named and _fold(cell) == _fold(wanted.column or "")) for cell in first):
        return True
    filled = [cell for cell in first if cell]
    if len(filled) < 2 or any("@" in cell or not _fold(cell) or _fold(cell).isdigit() for cell in filled):
        return False
    return len(set(filled)) == len(filled)


def _column_names(header: list[str], width: int) -> list[str]:
    names = [cell.strip()[:MAX_NAME] for cell in header]
    return [name or f"column {n}" for n, name in enumerate(names + [""] * (width - len(names)), 1)]


def _find_column(data: list[list[str]], names: list[str], wanted: Wanted, *, header: bool) -> int:
    if wanted.column is not None:
        return _wanted_column(wanted.column.strip(), names)
    found = [0] * len(names)
    for cells in data:
        for n, cell in enumerate(cells):
            found[n] += looks_like_address(cell)
    named = [n for n, name in enumerate(names) if header and is_email_name(name)]
    likely = [n for n, count in enumerate(found) if count and count >= ALIKE * max(found)]
    if len(likely) > 1:
        likely = [n for n in likely if n in named] or likely
    if not likely:
        likely = [n for n in named if _fold(names[n]) in _KNOWN] or named
    if not likely and len(names) == 1 and any("@" in cell for cells in data for cell in cells):
        likely = [0]
    if not likely:
        raise Refusal(
            422,
            "no_email_column",
            "No column holds e-mail addresses; say which with `column`.",
            columns=names,
            field="column",
        )
    if len(likely) > 1:
        both = [names[n] for n in likely]
        raise Refusal(
            422,
            "ambiguous_column",
            f"Columns {', '.join(map(repr, both))} are equally likely to be the one; say which with `column`.",
            columns=both,
            field="column",
        )
    return likely[0]


def _wanted_column(column: str, names: list[str]) -> int:
    same = [n for n, name in enumerate(names) if name == column] or [
        n for n, name in enumerate(names) if _fold(name) == _fold(column)
    ]
    if len(same) == 1:
        return same[0]
    if not same and column.isdecimal() and len(column) < 6 and 1 <= int(column) <= len(names):
        return int(column) - 1
    code = "ambiguous_column" if same else "no_such_column"
    what = "More than one column has" if same else "No column has"
    detail = f"{what} the name or number given as `column`."
    raise Refusal(422, code, detail, field="column", columns=names[:50])
