"""The cells that a download appends, and what makes a cell harmless.

A spreadsheet runs a cell that begins with `=`, `+`, `-` or `@`, also behind white space and also in full-width forms;
a tab, CR, LF or NUL in front can push it into the next cell. Such cells get a leading apostrophe (OWASP ASVS 5.0
1.2.10), the uploader's own cells as well: a list often comes from strangers' sign-up forms. A plain negative number
(`-5`, `-1.25`) is left as it is; a leading `+` never is, so telephone numbers keep it. Exact data: the JSON formats.
"""

from __future__ import annotations

import re
from typing import Any

APPENDED = (
    "mailvet_status",
    "mailvet_reason",
    "mailvet_score",
    "mailvet_risk_level",
    "mailvet_normalized",
    "mailvet_suggestion",
    "mailvet_provider",
    "mailvet_catch_all",
    "mailvet_role",
    "mailvet_disposable",
    "mailvet_free",
    "mailvet_mx",
    "mailvet_smtp_code",
    "mailvet_checked_at",
    "mailvet_verify_status",
    "mailvet_is_valid",
    "mailvet_duplicate_of",
)
STATUS = 0  # position of mailvet_status
VERDICTS, OFFSETS = "verdicts.jsonl", "offsets.bin"  # see collect.py
PENDING = "pending"  # the status of rows without a verdict so far

_RUN = "=+-@＝＋－＠﹢﹣﹦﹫"
_SUSPECT = frozenset(_RUN + "\t\r\n\0")
_INVISIBLE = " \t\r\n\0\v\f\x1c\x1d\x1e\x1f\x85\xa0\u1680\u180e\u2028\u2029\u202f\u205f\u2060\u3000\ufeff" + "".join(
    map(chr, range(0x2000, 0x2010))
)
_NUMBER = re.compile(r"-[0-9]+(?:[.,][0-9]+)*\Z")


def harmless(cell: str) -> str:
    """The cell, with an apostrophe in front where a spreadsheet would run it."""
    if not cell:
        return cell
    first = cell[0]
    if first in _SUSPECT:
        return cell if _NUMBER.match(cell) else "'" + cell
    if first in _INVISIBLE and cell.lstrip(_INVISIBLE)[:1] in _SUSPECT:
        return "'" + cell
    return cell


def appended_cells(result: dict[str, Any]) -> list[str]:
    """The APPENDED cells of a result but the last, harmless."""
    details = result.get("details") or {}
    flags = details.get("flags") or {}
    smtp = details.get("smtp") or {}
    mx = (details.get("dns") or {}).get("mx") or []
    cells = (
        result["status"],
        result["reason"],
        result["score"],
        result["risk_level"],
        result.get("normalized"),
        result.get("suggestion"),
        details.get("provider"),
        flags.get("catch_all", False),
        flags.get("role", False),
        flags.get("disposable", False),
        flags.get("free", False),
        mx[0] if mx else None,
        smtp.get("code"),
        details.get("checked_at"),
        result["verify_status"],
        result["is_valid"],
    )
    return [harmless(_text(cell)) for cell in cells]


def _text(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)
