"""Bodies are bounded in time as well."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from starlette.requests import Request

from gateway.problem import Problem
from gateway.uploads.receive import Pace, Received, clean_filename, receive_upload

HEAD = b'--b\r\nContent-Disposition: form-data; name="file"; filename="a.csv"\r\n\r\n'
SCOPE = {"type": "http", "method": "POST", "headers": [(b"content-type", b"multipart/form-data; boundary=b")]}


async def receive(target: Path, *chunks: bytes | None, pace: Pace) -> Received:
    """None: nothing comes any more."""
    pieces = list(chunks)

    async def next_message() -> dict[str, Any]:
        piece = pieces.pop(0)
        if piece is None:
            await asyncio.get_running_loop().create_future()
        return {"type": "http.request", "body": piece, "more_body": bool(pieces)}

    return await receive_upload(Request(SCOPE, next_message), target, 1_000_000, pace)


async def test_a_body_in_pieces_is_put_together(tmp_path: Path) -> None:
    body = (
        HEAD
        + b'email\r\n--not-the-end\r\n\r\n--b\r\nContent-Disposition: form-data; name="column"\r\n\r\n2\r\n--b--\r\n'
    )
    for size in (1, 7, len(body)):
        chunks = [body[n : n + size] for n in range(0, len(body), size)]
        received = await receive(tmp_path / str(size), *chunks, pace=Pace())
        assert (received.filename, received.fields, received.size) == ("a.csv", {"column": "2"}, 22)
        assert (tmp_path / str(size)).read_bytes() == b"email\r\n--not-the-end\r\n"


@pytest.mark.parametrize("pace", [Pace(window=0.05, size=1_000), Pace(total=0.05)])
async def test_a_body_that_stops_is_given_up(tmp_path: Path, pace: Pace) -> None:
    with pytest.raises(Problem) as caught:
        await receive(tmp_path / "a", HEAD, b"email\r\n", None, pace=pace)
    assert (caught.value.status, caught.value.code) == (408, "too_slow")


def test_file_names_are_made_fit_to_be_shown() -> None:
    assert clean_filename("C:\\lists\\März.csv") == "März.csv"
    assert clean_filename("../../etc/passwd") == "passwd"
    assert clean_filename("a\r\nX: y\u202e.csv") == "aX: y.csv"
    assert clean_filename(" / ") == "upload"
    assert len(clean_filename("x" * 300 + ".csv")) == 255


async def test_a_packed_body_is_refused_by_what_it_is_packed_with(tmp_path: Path) -> None:
    headers = [*SCOPE["headers"], (b"content-encoding", b"gzip")]

    async def next_message() -> dict[str, Any]:
        return {"type": "http.request", "body": b"\x1f\x8b", "more_body": False}

    with pytest.raises(Problem) as refused:
        await receive_upload(Request({**SCOPE, "headers": headers}, next_message), tmp_path / "a", 1_000_000)
    assert (refused.value.status, refused.value.extra["field"]) == (415, "content-encoding")
    assert refused.value.headers["Accept-Encoding"] == "identity"
    assert not (tmp_path / "a").exists()
