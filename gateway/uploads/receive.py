"""A multipart body, streamed to disk in constant memory: the file to the upload's folder, the few fields to memory.

Bounds, each with its answer: the body's size (413, before a byte is read where Content-Length tells, else while it
streams), one file and ten fields of 64 KiB (400), part headers of 8 KiB (400), silence or a trickle (408). Nothing is
stored of a body once it is refused. Whoever calls this owns the folder and removes it on any error, a client that has
gone included.
"""

from __future__ import annotations

import asyncio
import errno
import hashlib
import os
import re
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, TYPE_CHECKING, cast

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.requests import ClientDisconnect, Request

from gateway.problem import Problem

if TYPE_CHECKING:
    from python_multipart.multipart import MultipartCallbacks

MAX_FIELDS = 10
MAX_FIELD_BYTES = 65_536
MAX_PART_HEADERS = 8_192
FRAME_BYTES = 1_048_576  # of a body beside the file: fields, boundaries, headers
MAX_FILENAME = 255  # characters
READ_OFF_BYTES = 1_073_741_824  # of a body that is refused, before the connection is closed on its sender
_NOT_IN_NAMES = re.compile(r"[\x00-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


@dataclass(frozen=True, slots=True)
class Pace:
    """How slow a body may be: `size` bytes in every `window` seconds, all of it in `total` seconds."""

    window: float = 10.0
    size: int = 10_240
    total: float = 1_800.0


@dataclass(slots=True)
class Received:
    """What came. `digest` is the SHA-256 of the file's bytes."""

    filename: str
    size: int
    digest: bytes
    fields: dict[str, str] = field(default_factory=dict)


PACE = Pace()


def too_large(limit: int) -> Problem:
    return Problem(413, "too_large", f"The file is larger than {limit} bytes.", limit=limit)


def _bad(code: str, detail: str, field_: str | None = None) -> Problem:
    return Problem(400, code, detail, field=field_ or "body")


async def receive_upload(request: Request, target: Path, max_bytes: int, pace: Pace = PACE) -> Received:
    """Write the part `file` to `target`, which is created, durably. Raises Problem; OSError where the disk refuses."""
    chunks = _paced(request, pace)
    try:
        return await _receive(request, chunks, target, max_bytes)
    except Problem as problem:
        if problem.status == 408 or not await _read_off(request, chunks):
            problem.headers["Connection"] = "close"
        raise


async def _read_off(request: Request, chunks: AsyncIterator[bytes]) -> bool:
    """Read the rest of a body that is refused, and forget it; whether it came to its end.

    Most clients read no answer before they have sent everything: closing the connection under them would show them a
    broken connection instead of the problem. A client that asked first (RFC 9110 section 10.1.1) has sent nothing.
    """
    if request.headers.get("expect", "").lower() == "100-continue":
        return False
    size = 0
    try:
        async for chunk in chunks:
            size += len(chunk)
            if size > READ_OFF_BYTES:
                return False
    except (Problem, ClientDisconnect):
        return False
    return True


async def _receive(request: Request, chunks: AsyncIterator[bytes], target: Path, max_bytes: int) -> Received:
    boundary = _boundary(request)
    length = request.headers.get("content-length", "")
    if length.isdecimal() and int(length) > max_bytes + FRAME_BYTES:
        raise too_large(max_bytes)
    with target.open("xb", buffering=0) as out:
        parts = _Parts(out, max_bytes)
        parser = MultipartParser(boundary, parts.callbacks(), max_header_size=MAX_PART_HEADERS)
        try:
            async for chunk in chunks:
                parts.count(len(chunk))
                parser.write(chunk)
            parser.finalize()
        except FormParserError as error:
            raise _bad("bad_multipart", "The multipart body is malformed.") from error
        except ClientDisconnect as error:
            raise _bad("client_disconnected", "The body ended before it was complete.") from error
        received = parts.finish()
        await asyncio.to_thread(os.fsync, out.fileno())
    return received


def _boundary(request: Request) -> bytes:
    kind, options = parse_options_header(request.headers.get("content-type"))
    if kind != b"multipart/form-data":
        raise Problem(
            415,
            "unsupported_media_type",
            "Send the list as multipart/form-data, in the part `file`.",
            field="content-type",
        )
    if (coding := request.headers.get("content-encoding", "identity").lower()) != "identity":
        raise Problem(
            415,
            "unsupported_media_type",
            f"A body packed with {coding[:20]!r} is not taken.",
            headers={"Accept-Encoding": "identity"},  # RFC 9110 section 15.5.16
            field="content-encoding",
        )
    boundary = options.get(b"boundary", b"")
    if not 0 < len(boundary) <= 200:
        raise _bad("bad_multipart", "The Content-Type has no usable boundary.", "content-type")
    return boundary


async def _paced(request: Request, pace: Pace) -> AsyncIterator[bytes]:
    """The body's chunks. Raises Problem 408."""
    now = asyncio.get_running_loop().time
    begun = opened = now()
    in_window = 0
    stream = request.stream()
    while True:
        try:
            async with asyncio.timeout_at(min(opened + pace.window, begun + pace.total)):
                chunk = await anext(stream, None)
        except TimeoutError:
            raise Problem(408, "too_slow", "The upload is too slow.") from None
        if chunk is None:
            return
        yield chunk
        in_window += len(chunk)
        if in_window >= pace.size:
            opened, in_window = now(), 0


class _Parts:
    """What the parser calls. The file's bytes go straight out; everything else is bounded."""

    def __init__(self, out: IO[bytes], max_bytes: int) -> None:
        self._out = out
        self._max_bytes = max_bytes
        self._body = 0
        self._digest = hashlib.sha256()
        self._size = 0
        self._filename: str | None = None
        self._fields: dict[str, str] = {}
        self._headers: dict[str, bytes] = {}
        self._header_name = self._header_value = b""
        self._value = bytearray()
        self._name = ""
        self._in_file = False
        self._ended = False

    def callbacks(self) -> MultipartCallbacks:
        names = (
            "on_part_begin",
            "on_header_field",
            "on_header_value",
            "on_header_end",
            "on_headers_finished",
            "on_part_data",
            "on_part_end",
            "on_end",
        )
        found: dict[str, Callable[..., None]] = {name: getattr(self, f"_{name}") for name in names}
        return cast("MultipartCallbacks", found)

    def count(self, size: int) -> None:
        self._body += size
        if self._body > self._max_bytes + FRAME_BYTES:
            raise too_large(self._max_bytes)

    def finish(self) -> Received:
        if not self._ended:
            raise _bad("bad_multipart", "The multipart body is not complete.")
        if self._filename is None:
            raise Problem(422, "missing_file", "There is no part `file` with a file name.", field="file")
        return Received(self._filename, self._size, self._digest.digest(), self._fields)

    def _on_part_begin(self) -> None:
        self._headers, self._header_name, self._header_value = {}, b"", b""
        self._value = bytearray()

    def _on_header_field(self, data: bytes, start: int, end: int) -> None:
        self._header_name += data[start:end]

    def _on_header_value(self, data: bytes, start: int, end: int) -> None:
        self._header_value += data[start:end]

    def _on_header_end(self) -> None:
        self._headers[self._header_name.decode("latin-1").lower()] = self._header_value
        self._header_name = self._header_value = b""

    def _on_headers_finished(self) -> None:
        kind, options = parse_options_header(self._headers.get("content-disposition", b""))
        name = options.get(b"name", b"").decode(errors="replace")
        self._in_file = b"filename" in options
        if kind != b"form-data" or not name:
            raise _bad("bad_multipart", "A part of the body has no name.")
        if not self._in_file:
            if len(self._fields) >= MAX_FIELDS:
                raise _bad("too_many_fields", f"At most {MAX_FIELDS} fields are read.", name[:100])
        elif name != "file":
            raise _bad("unexpected_file", "The list belongs into the part `file`.", name[:100])
        elif self._filename is not None:
            raise _bad("too_many_files", "Send one file at a time.", "file")
        else:
            self._filename = clean_filename(options[b"filename"].decode(errors="replace"))
        self._name = name[:100]

    def _on_part_data(self, data: bytes, start: int, end: int) -> None:
        piece = data[start:end]
        if self._in_file:
            self._size += len(piece)
            if self._size > self._max_bytes:
                raise too_large(self._max_bytes)
            self._digest.update(piece)
            if self._out.write(piece) != len(piece):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return
        self._value += piece
        if len(self._value) > MAX_FIELD_BYTES:
            raise _bad("field_too_large", f"A field is larger than {MAX_FIELD_BYTES} bytes.", self._name)

    def _on_part_end(self) -> None:
        if not self._in_file:
            self._fields[self._name] = self._value.decode(errors="replace")

    def _on_end(self) -> None:
        self._ended = True


def clean_filename(given: str) -> str:
    """The last component of what the client calls the file: no path, no controls, at most 255 characters."""
    name = _NOT_IN_NAMES.sub("", re.split(r"[/\\]", given)[-1]).strip()
    return name[-MAX_FILENAME:] or "upload"
