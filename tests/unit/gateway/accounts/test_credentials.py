"""Whatever a request presents, it is one credential, none, or a Problem; never anything else."""

from __future__ import annotations

import pytest
from fastapi import Request
from hypothesis import given
from hypothesis import strategies as st

from gateway.accounts.credentials import read_credential
from gateway.problem import Problem


def request(headers: list[tuple[bytes, bytes]], query: bytes = b"") -> Request:
    return Request({"type": "http", "method": "GET", "path": "/", "headers": headers, "query_string": query})


BYTES = st.binary(max_size=40)
NAMES = st.sampled_from([b"authorization", b"x-api-key", b"cookie"])


@given(st.lists(st.tuples(NAMES, BYTES), max_size=4), BYTES)
def test_any_headers_and_query_are_read_or_refused(headers: list[tuple[bytes, bytes]], query: bytes) -> None:
    try:
        credential = read_credential(request(headers, query))
    except Problem as problem:
        assert problem.status in (400, 401)  # noqa: PT017 - the point is that nothing else is raised
        return
    presented = [value for name, value in headers if name != b"cookie"]
    assert (credential is None) == (not presented)


@pytest.mark.parametrize(
    ("headers", "credential"),
    [
        ([], None),
        ([(b"authorization", b"Bearer key")], "key"),
        ([(b"authorization", b"bEARER key")], "key"),
        ([(b"x-api-key", b"key")], "key"),
        ([(b"x-api-key", b"key"), (b"authorization", b"Bearer key")], "key"),
        ([(b"x-api-key", b"key"), (b"x-api-key", b"key")], "key"),
    ],
)
def test_a_credential_is_read_from_either_header(headers: list[tuple[bytes, bytes]], credential: str | None) -> None:
    assert read_credential(request(headers)) == credential


@pytest.mark.parametrize(
    "headers",
    [
        [(b"authorization", b"Bearer")],
        [(b"authorization", b"key")],
        [(b"x-api-key", b"one"), (b"x-api-key", b"other")],
        [(b"x-api-key", b"one"), (b"authorization", b"Bearer other")],
        [(b"x-api-key", b"")],
    ],
)
def test_what_is_half_a_credential_or_two_is_401(headers: list[tuple[bytes, bytes]]) -> None:
    with pytest.raises(Problem) as refused:
        read_credential(request(headers))
    assert refused.value.status == 401
