"""What a receiver, its name or its network may try, and what we do about it: one poster against real sockets."""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest
import trustme

from services.webhooks.post import READ_AT_MOST, Poster
from services.webhooks.resolve import NotContacted, dns_lookup
from shared.address_guard import allowed_networks

LOOPBACK = allowed_networks(["127.0.0.0/8"])
Handle = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


def always(*addresses: str) -> Callable[[str], Awaitable[list[str]]]:
    async def lookup(_: str) -> list[str]:
        return list(addresses)

    return lookup


@asynccontextmanager
async def raw_server(handle: Handle, tls: ssl.SSLContext | None = None) -> AsyncIterator[int]:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await handle(reader, writer)
        except (ConnectionError, asyncio.CancelledError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=tls)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()


def answering(text: bytes, heard: list[bytes] | None = None) -> Handle:
    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        if heard is not None:
            heard.append(head)
        writer.write(text)
        await writer.drain()
        await reader.read(65_536)

    return handle


@pytest.mark.parametrize("address", ["10.0.0.5", "127.0.0.1", "169.254.169.254", "::1", "64:ff9b::7f00:1", "fd00::1"])
async def test_a_public_name_for_an_inner_address_is_not_contacted(address: str) -> None:
    heard: list[bytes] = []
    async with raw_server(answering(b"HTTP/1.1 200 OK\r\n\r\n", heard)):
        for found in ((address,), ("93.184.216.34", address)):
            tried = await Poster(always(*found)).post("https://hooks.example.com/", {}, b"{}")
            assert (tried.status, tried.why) == (None, "the host's address is not public")
    assert heard == []


async def test_a_name_that_answers_differently_the_second_time_is_looked_up_once() -> None:
    asked: list[str] = []

    async def rebinding(host: str) -> list[str]:
        asked.append(host)
        return ["93.184.216.34"] if len(asked) > 1 else ["10.0.0.1"]

    tried = await Poster(rebinding).post("https://hooks.example.com/", {}, b"{}")
    assert tried.status is None
    assert asked == ["hooks.example.com"]


async def test_the_certificate_and_the_host_header_are_those_of_the_name(tmp_path) -> None:
    authority = trustme.CA()
    served = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("hooks.example.com").configure_cert(served)
    trusted = ssl.create_default_context()
    authority.configure_trust(trusted)
    heard: list[bytes] = []
    async with raw_server(answering(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", heard), served) as port:
        poster = Poster(always("127.0.0.1"), LOOPBACK, certificates=trusted)
        good = await poster.post(f"https://hooks.example.com:{port}/x?y=1", {"webhook-id": "evt_1"}, b"{}")
        other = await poster.post(f"https://other.example.com:{port}/", {}, b"{}")
        stranger = await Poster(always("127.0.0.1"), LOOPBACK).post(f"https://hooks.example.com:{port}/", {}, b"{}")
    assert (good.status, good.why) == (200, "ok")
    assert b"POST /x?y=1 HTTP/1.1\r\n" in heard[0]
    assert f"host: hooks.example.com:{port}\r\n".encode() in heard[0].lower()
    assert b"webhook-id: evt_1" in heard[0]
    assert (other.status, stranger.status) == (None, None)
    assert len(heard) == 1


async def test_redirects_are_not_followed() -> None:
    heard: list[bytes] = []
    async with raw_server(answering(b"HTTP/1.1 307 X\r\nLocation: /again\r\nContent-Length: 0\r\n\r\n", heard)) as port:
        tried = await Poster(always("127.0.0.1"), LOOPBACK).post(f"http://hooks.example.com:{port}/", {}, b"{}")
    assert (tried.status, tried.why) == (307, "redirects are not followed")
    assert len(heard) == 1


async def test_plain_http_is_for_allowed_networks_only() -> None:
    poster = Poster(always("93.184.216.34"), LOOPBACK)
    tried = await poster.post("http://hooks.example.com/", {}, b"{}")
    assert tried.why == "http is for networks that are allowed by setting"
    assert (await Poster(always("93.184.216.34")).post("http://hooks.example.com/", {}, b"{}")).status is None


async def test_an_endless_answer_is_read_to_a_bound() -> None:
    sent = 0

    async def endless(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\n\r\n")
        while not writer.is_closing() and sent < 100_000_000:
            writer.write(b"\x1b]0;x" * 1_000)
            sent += 5_000
            await writer.drain()

    async with raw_server(endless) as port:
        tried = await Poster(always("127.0.0.1"), LOOPBACK).post(f"http://hooks.example.com:{port}/", {}, b"{}")
    assert tried.status == 200
    assert len(tried.why) <= 200
    assert tried.why.isprintable()
    assert sent < 20_000_000 > READ_AT_MOST


async def test_a_dripping_answer_is_cut_off_by_the_deadline() -> None:
    async def drip(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            writer.write(b"H")
            await writer.drain()
            await asyncio.sleep(0.02)

    async with raw_server(drip) as port:
        began = time.monotonic()
        poster = Poster(always("127.0.0.1"), LOOPBACK, timeout=0.3)
        tried = await poster.post(f"http://hooks.example.com:{port}/", {}, b"{}")
    assert tried.status is None
    assert time.monotonic() - began < 2


@pytest.mark.parametrize(
    "answer", [b"", b"\x00" * 100, b"HTTP/9.9 abc\r\n\r\n", b"HTTP/1.1 200 OK\r\n" + b"A: b\r\n" * 50_000]
)
async def test_answers_that_are_none_are_failures(answer: bytes) -> None:
    async with raw_server(answering(answer)) as port:
        poster = Poster(always("127.0.0.1"), LOOPBACK, timeout=2)
        tried = await poster.post(f"http://hooks.example.com:{port}/", {}, b"{}")
    assert tried.status is None


async def test_the_environments_proxies_and_a_cookie_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    heard: list[bytes] = []
    answer = b"HTTP/1.1 200 OK\r\nSet-Cookie: a=b; Path=/\r\nContent-Length: 0\r\n\r\n"
    async with raw_server(answering(answer, heard)) as port:
        poster = Poster(always("127.0.0.1"), LOOPBACK)
        for _ in range(2):
            assert (await poster.post(f"http://127.0.0.1:{port}/", {}, b"{}")).status == 200
    assert not any(b"cookie" in head.lower() for head in heard)


async def test_retry_after_is_read_where_it_is_in_seconds() -> None:
    for value, seconds in ((b"120", 120.0), (b"Wed, 21 Oct 2026 07:28:00 GMT", None), (b"-1", None), (b"1e9", None)):
        answer = b"HTTP/1.1 429 X\r\nContent-Length: 0\r\nRetry-After: " + value + b"\r\n\r\n"
        async with raw_server(answering(answer)) as port:
            tried = await Poster(always("127.0.0.1"), LOOPBACK).post(f"http://127.0.0.1:{port}/", {}, b"{}")
        assert tried.retry_after == seconds


async def test_a_name_server_that_is_away_is_said_so() -> None:
    lookup = dns_lookup(["127.0.0.1:9"], 0.3)
    with pytest.raises(NotContacted, match="looked up"):
        await lookup("hooks.example.com")
