"""SMTP replies out of bytes, strictly (RFC 5321 section 4.2), without I/O.

A reply is one or more lines `ddd-text` and a last line `ddd text` or `ddd`, all with the same code, the first digit 2
to 5. Whatever else comes (another code on a continuation line, other digits, no digits, a line or a reply that is too
long) breaks the stream for good: what was complete before it stands, nothing after it is read. Bytes may come in any
pieces; the replies and the breaking point are the same for every cut. Which command a reply answers is the session's
business.
"""

from __future__ import annotations

import re
from functools import lru_cache

import msgspec

MAX_LINE = 2_048  # bytes with the line's end; RFC 5321 section 4.5.3.1.5 allows 512, real servers say more
MAX_REPLY = 32_768  # bytes: the longest EHLO replies seen are a few KB
MAX_LINES = 100
MAX_TEXT = 500  # characters kept for people
_LINE = re.compile(rb"([2-5][0-9][0-9])(?:([ -])(.*))?\Z", re.DOTALL)
_CONTROLS = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ufffd]+")


class ProtocolError(Exception):
    """The peer does not speak SMTP. The message never holds what it said."""


class Reply(msgspec.Struct, frozen=True, gc=False, cache_hash=True):
    """One complete reply. `text`: all lines joined by a blank, clean and short enough to show."""

    code: int
    text: str
    lines: tuple[str, ...]  # the text of each line, for EHLO's list of extensions


@lru_cache(maxsize=8_192)  # servers repeat themselves: nearly all replies of a session are one of a few lines
def _read_line(line: bytes) -> tuple[bytes, bool, Reply]:
    """Code, whether more lines follow, and the line as a reply of its own. `line` is without its LF."""
    if len(line) >= MAX_LINE:
        raise ProtocolError("line too long")
    found = _LINE.match(line.removesuffix(b"\r"))
    if found is None:
        raise ProtocolError("not a reply line")
    code, separator, text = found.groups()
    clean = show(text or b"")
    return code, separator == b"-", Reply(int(code), clean[:MAX_TEXT], (clean,))


def show(text: bytes) -> str:
    """Bytes from a peer as text for people: UTF-8 where it is, no controls, no escape sequences."""
    return _CONTROLS.sub(" ", text.decode("utf-8", "replace")).strip()


class ReplyReader:
    """Feed it what arrives. `error` is set at the first violation, and stays."""

    __slots__ = ("_code", "_lines", "_size", "_tail", "error")

    def __init__(self) -> None:
        self._tail = b""  # the beginning of a line
        self._code = b""  # of the reply whose lines are being collected
        self._lines: list[str] = []
        self._size = 0
        self.error: ProtocolError | None = None

    @property
    def empty(self) -> bool:
        """True: nothing of an unfinished reply is held."""
        return not self._tail and not self._lines

    def feed(self, data: bytes) -> list[Reply]:
        """The replies completed by `data`, up to the first violation. Never raises."""
        replies: list[Reply] = []
        if self.error is not None:
            return replies
        if self._tail:
            data = self._tail + data
        *lines, self._tail = data.split(b"\n")
        try:
            for line in lines:
                code, more, reply = _read_line(line)
                if not more and not self._lines:
                    replies.append(reply)
                elif (joined := self._join(code, more, reply, len(line) + 1)) is not None:
                    replies.append(joined)
            if len(self._tail) >= MAX_LINE:
                raise ProtocolError("line too long")  # noqa: TRY301
        except ProtocolError as error:
            self.error = error
            self._tail = b""
            self._lines = []
        return replies

    def _join(self, code: bytes, more: bool, line: Reply, size: int) -> Reply | None:  # noqa: FBT001
        if not self._lines:
            self._code, self._size = code, 0
        self._size += size
        self._lines.append(line.lines[0])
        if code != self._code:
            raise ProtocolError("codes differ within a reply")
        if len(self._lines) > MAX_LINES or self._size > MAX_REPLY:
            raise ProtocolError("reply too long")
        if more:
            return None
        lines, self._lines = tuple(self._lines), []
        return Reply(line.code, " ".join(filter(None, lines))[:MAX_TEXT], lines)
