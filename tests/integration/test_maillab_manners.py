"""The lab notices broken manners, keeps a log of every word, and finds nothing to say about a polite caller."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from services.maillab.lab import Lab
from services.maillab.wirelog import WireLog
from services.maillab.world import World
from tests.integration.raw_smtp import RawClient


@asynccontextmanager
async def a_lab(log_file: Path | None = None, keep="all", **options) -> AsyncIterator[Lab]:
    world = World()
    world.host("mx.x.test", **options)
    world.domain("x.test", mx=[(10, "mx.x.test")])
    async with Lab(world, log_file, keep=keep) as lab:
        yield lab


def client_of(lab: Lab) -> RawClient:
    return RawClient(lab.world.hosts["mx.x.test"].ip, lab.smtp_port)


async def until(seen: Callable[[], object]) -> None:
    """Wait for what the server is about to notice."""

    async def look() -> None:
        while not seen():
            await asyncio.sleep(0.005)

    await asyncio.wait_for(look(), 5)


async def test_a_polite_pipelined_session_leaves_no_complaint_and_a_full_log():
    async with a_lab() as lab:
        async with client_of(lab) as client:
            await client.reply()
            await client.ask("EHLO probe.client.test")
            client.send("MAIL FROM:<me@client.test>", "RCPT TO:<ann@x.test>", "RCPT TO:<missing@x.test>", "RSET")
            client.send("MAIL FROM:<>", "RCPT TO:<Ben@x.test>", "QUIT")
            assert b"221" in await client.everything()
        await until(lambda: lab.log.sessions()[0].closed)
        session = lab.log.sessions("mx.x.test")[0]
        assert lab.complaints() == []
        assert (session.helo, session.mail_from) == ("probe.client.test", "me@client.test")
        assert session.rcpts == ["ann@x.test", "missing@x.test", "Ben@x.test"]
        assert (session.quit, session.data, session.closed_by) == (True, False, "server")
        assert (session.rcpt_count, session.reject_count) == (3, 1)
        assert [line.text[:3] for line in session.lines if line.who == "S" and line.text[3] == " "] == (
            ["220"] + ["250"] * 3 + ["550"] + ["250"] * 3 + ["221"]
        )
        assert lab.log.peak_connections("mx.x.test") == 1
        assert lab.log.rcpts() == session.rcpts


async def greeted(client: RawClient) -> None:
    assert (await client.greet()).startswith("250")


async def sends(client: RawClient, *commands: str) -> None:
    await greeted(client)
    client.send(*commands)
    await client.everything()


BAD_MANNERS: list[tuple[str, Callable[[RawClient], Awaitable[object]]]] = [
    ("DATA was sent", lambda c: sends(c, "RCPT TO:<ann@x.test>", "DATA", ".", "QUIT")),
    ("VRFY was sent", lambda c: sends(c, "VRFY ann", "QUIT")),
    ("EXPN was sent", lambda c: sends(c, "EXPN all", "QUIT")),
    ("AUTH was sent", lambda c: sends(c, "AUTH PLAIN", "QUIT")),
    ("VRFY was not the last of its group", lambda c: sends(c, "VRFY ann", "QUIT")),
    ("a command that is none", lambda c: sends(c, "Subject: hello", "QUIT")),
    ("STARTTLS was sent and had not been offered", lambda c: sends(c, "STARTTLS", "QUIT")),
    ("MAIL inside a transaction", lambda c: sends(c, "MAIL FROM:<>", "QUIT")),
    ("a RCPT that cannot be read", lambda c: sends(c, "RCPT TO:ann", "QUIT")),
    ("RCPT with parameters", lambda c: sends(c, "RCPT TO:<ann@x.test> NOTIFY=NEVER", "QUIT")),
    ("UTF-8 and no SMTPUTF8", lambda c: sends(c, "RCPT TO:<jürgen@x.test>", "QUIT")),
    ("more than 512", lambda c: sends(c, f"RCPT TO:<{'a' * 520}@x.test>", "QUIT")),
    ("a bare CR inside", lambda c: sends(c, "RCPT TO:<ann@x.test>\rRSET", "QUIT")),
    ("MAIL with SMTPUTF8, which was not offered", lambda c: sends(c, "RSET", "MAIL FROM:<> SMTPUTF8", "QUIT")),
    ("more than 10 refused recipients", lambda c: sends(c, *(f"RCPT TO:<missing{n}@x.test>" for n in range(11)), "QUIT")),
    ("left without QUIT", greeted),
    ("left without QUIT", lambda c: c.reply()),
]  # fmt: skip


@pytest.mark.parametrize(("sentence", "behave"), BAD_MANNERS)
async def test_bad_manners_are_noticed(sentence, behave):
    async with a_lab() as lab:
        async with client_of(lab) as client:
            await behave(client)
        await until(lambda: lab.log.sessions()[0].closed)
        assert any(sentence in text for text in lab.complaints()), lab.complaints()


async def test_a_bare_line_feed_is_noticed():
    async with a_lab() as lab:
        async with client_of(lab) as client:
            await client.reply()
            client.writer.write(b"EHLO c.test\nQUIT\r\n")
            await client.everything()
        assert any("bare LF" in text for text in lab.complaints())


async def test_commands_after_ehlo_in_one_group_are_noticed():
    async with a_lab() as lab:
        async with client_of(lab) as client:
            await client.reply()
            client.send("EHLO c.test", "MAIL FROM:<>", "QUIT")
            await client.everything()
        assert any("EHLO was not the last of its group" in text for text in lab.complaints())
        assert any("PIPELINING was not offered" in text for text in lab.complaints())


async def test_speaking_before_the_banner_is_noticed():
    world = World()
    host = world.host("mx.x.test")
    async with Lab(world, rtt=0.05) as lab:
        async with RawClient(host.ip, lab.smtp_port) as client:
            client.send("EHLO c.test")
            assert (await client.reply()).startswith("220")
            assert (await client.reply()).startswith("250")
            await client.ask("QUIT")
        assert ["before the banner" in text for text in lab.complaints()] == [True]


async def test_more_connections_than_the_cap_are_noticed_and_counted():
    async with a_lab(cap=2) as lab:
        clients = [client_of(lab) for _ in range(3)]
        for client in clients:
            await client.__aenter__()
            await client.reply()
        for client in clients:
            await client.ask("QUIT")
            await client.leave()
        assert lab.log.peak_connections("mx.x.test") == 3
        assert ["3 connections at once" in text for text in lab.complaints()] == [True]


async def test_sessions_one_after_the_other_never_count_as_two():
    async with a_lab(cap=1) as lab:
        for end in ("quit", "cut") * 20:
            async with client_of(lab) as client:
                await greeted(client)
                if end == "quit":
                    await client.ask("QUIT")
        assert lab.log.peak_connections("mx.x.test") == 1


async def test_leaving_a_server_that_misbehaves_without_quit_is_fine():
    for character in ("silent", "silent_after_ehlo", "garbage", "dripping", "endless_reply"):
        async with a_lab(character=character, cap=None) as lab:
            async with client_of(lab) as client:
                client.writer.transport.set_write_buffer_limits(0)
                if character not in ("silent", "garbage"):
                    await client.reply()
                    client.send("EHLO c.test")
                    if character != "silent_after_ehlo":
                        await client.reply()
                        await client.ask("MAIL FROM:<>")
                        client.send("RCPT TO:<ann@x.test>")
                        await client.reader.read(0 if character == "dripping" else 10)
                else:
                    await client.is_silent(0.02)
            await until(lambda lab=lab: lab.log.sessions()[0].closed)
            assert lab.complaints() == [], character


async def test_addresses_on_no_list_are_noticed_but_for_a_few_probes():
    async with a_lab() as lab:
        lab.world.only_ask(["ann@x.test"], probes_per_domain=1)
        async with client_of(lab) as client:
            await sends(
                client, "RCPT TO:<ann@x.test>", "RCPT TO:<x7k2q9vw@x.test>", "RCPT TO:<x7k2q9vw@x.test>", "QUIT"
            )
        assert lab.complaints() == []
        async with client_of(lab) as client:
            await sends(client, "RCPT TO:<ben@x.test>", "QUIT")
        assert ["on no list" in text for text in lab.complaints()] == [True]


async def test_the_log_in_the_file_says_what_the_log_in_memory_says(tmp_path):
    path = tmp_path / "wire.jsonl"
    for _ in range(2):
        async with a_lab(path, character="dirty_text") as lab:
            async with client_of(lab) as client:
                await sends(client, "RCPT TO:<ann@x.test>", "VRFY ann", "QUIT")
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asker:
                asker.sendto(b"\0\1\1\0\0\1\0\0\0\0\0\0\1X\4test\0\0\x0f\0\1", ("127.0.0.1", lab.dns_port))
                await until(lambda lab=lab: lab.log.queries)
    read = WireLog.load(path)
    assert [session.lines for session in read.sessions()][1] == lab.log.sessions()[0].lines
    assert len(read.sessions("mx.x.test")) == 2
    assert read.complaints == lab.complaints() * 2
    assert read.peak_connections("mx.x.test") == 1
    assert [(query.name, query.type) for query in read.queries] == [("x.test", "MX")] * 2
    assert read.rcpts() == ["ann@x.test"] * 2
    assert [session.closed_by for session in read.sessions()] == ["server"] * 2


async def test_a_log_of_counts_keeps_no_lines():
    async with a_lab(keep="counts") as lab:
        async with client_of(lab) as client:
            await sends(client, "RCPT TO:<ann@x.test>", "RCPT TO:<missing@x.test>", "QUIT")
        session = lab.log.sessions()[0]
        assert (session.lines, session.rcpt_count, session.reject_count) == ([], 2, 1)


async def test_the_lab_stops_with_connections_open_and_leaves_no_task():
    before = asyncio.all_tasks()
    async with a_lab(character="endless_reply") as lab:
        first, second = client_of(lab), client_of(lab)
        await first.__aenter__()
        await second.__aenter__()
        await first.greet()
        first.send("RCPT TO:<ann@x.test>")
        await first.reader.read(10)
    assert asyncio.all_tasks() == before
    assert all(session.closed for session in lab.log.sessions())
    await first.leave()
    await second.leave()
