"""When a mail host itself says it may be asked again: "greylisted for 300 seconds", "retry after 00:05:00"."""

from __future__ import annotations

import re

from validator.smtp.classify import MAX_TEXT, fold

# "in 300 seconds", "for 5 minutes", "after 00:05:00": the longest time named with a word of waiting wins.
_UNITS = (
    (
        "s",
        1.0,
        "s|sec|secs|second|seconds|seconde|secondes|sekunden|sekunde|segundos?|secondi|sekund\\w*|секунд\\w*|秒",
    ),
    ("m", 60.0, "m|min|mins|minute|minutes|minuten|minutos?|minuti|minut\\w*|минут\\w*|分钟|分"),
    ("h", 3600.0, "h|hr|hrs|hour|hours|heures?|stunden?|horas?|ore|uur|godzin\\w*|час\\w*|小时"),
)
_WAIT = re.compile(
    r"gr[ae]y ?-?list|retry|try(?:ing)? (?:again|back|later)|again|wait|come back|defer|delay|later|resend|backoff"
    r"|throttl|rate|temporar|reessay|ressay|essayer|wieder|spater|versuch|intent|reintent|riprov|tente|opnieuw|probuj"
    r"|повтор|позже|через|попроб"
)
_CLOCK = re.compile(r"(?<![\d:.])(\d{1,2}):([0-5]\d):([0-5]\d)(?![\d:])")
_DURATION = re.compile(
    r"(?<![\d.:/#-])(\d{1,6})(?:\.\d+)?[ -]?(?:"
    + "|".join(f"(?P<{name}>{words})" for name, _, words in _UNITS)
    + r")(?!\w)"
)
_BARE = re.compile(r"(?:retry|try again|wait|retry[- ]after)(?: \w+){0,2}[ =:]+(\d{1,5})\b(?![.:/\d])")
_SHORTEST, _LONGEST = 1.0, 86_400.0


def retry_hint(text: str) -> float | None:
    """Seconds after which the reply invites another try, 1 to 86,400; None where it names no time. Never raises."""
    folded = fold(text[:MAX_TEXT].lower())[:MAX_TEXT]
    if not _WAIT.search(folded):
        return None
    found = [_clock_seconds(match) for match in _CLOCK.finditer(folded)]
    found += [_duration_seconds(match) for match in _DURATION.finditer(folded)]
    if not found:
        found = [float(match[1]) for match in _BARE.finditer(folded)]
    waits = [seconds for seconds in found if seconds > 0]
    return min(max(*waits, _SHORTEST), _LONGEST) if waits else None


def _clock_seconds(match: re.Match[str]) -> float:
    return int(match[1]) * 3600.0 + int(match[2]) * 60.0 + int(match[3])


def _duration_seconds(match: re.Match[str]) -> float:
    return next(float(match[1]) * length for name, length, _ in _UNITS if match[name])
