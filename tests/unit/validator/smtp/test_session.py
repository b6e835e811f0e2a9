"""One reply for each command, on an empty buffer, in time; or the session is over."""

from __future__ import annotations

import asyncio
import ssl

import pytest

from tests.unit.validator.smtp.spoken_to import connected
from validator.evidence import Outcome
from validator.smtp.session import Timeouts

PATIENCE = 5.0


async def greeted(timeouts: Timeouts | None = None):
    session, peer = connected(timeouts)
    peer.say("220 mx.test")
    assert (await session.banner()).code == 220
    return session, peer


async def test_a_banner_that_came_before_anybody_waited_is_not_lost():
    session, peer = connected()
    peer.say("220-mx.test", "220 ready")
    assert (await session.banner()).text == "mx.test ready"
    assert bytes(peer.written) == b""
    session.close()


async def test_a_flight_gets_its_replies_in_order():
    session, peer = await greeted()
    flight = asyncio.create_task(session.exchange(b"A\r\nB\r\nC\r\n", 3, PATIENCE))
    await peer.heard(b"C\r\n")
    peer.say("250 a")
    peer.say("550 b", "250 c")
    assert [reply.text for reply in await flight] == ["a", "b", "c"]
    assert session.alive
    session.close()


async def test_a_reply_too_many_with_the_flight_is_a_desync():
    session, peer = await greeted()
    flight = asyncio.create_task(session.exchange(b"A\r\n", 1, PATIENCE))
    await peer.heard(b"A\r\n")
    session.data_received(b"250 a\r\n250 injected\r\n")
    await flight
    assert session.desync
    assert session.broken is Outcome.PROTOCOL_ERROR
    assert bytes(peer.written) == b"QUIT\r\n"


async def test_a_reply_between_flights_is_a_desync():
    session, peer = await greeted()
    peer.say("250 injected")
    assert await session.exchange(b"A\r\n", 1, PATIENCE) == []
    assert session.desync


async def test_half_a_reply_in_the_buffer_forbids_the_next_flight():
    session, peer = await greeted()
    session.data_received(b"250 inj")
    assert await session.exchange(b"RCPT\r\n", 1, PATIENCE) == []
    assert session.desync
    assert b"RCPT" not in peer.written


async def test_a_421_out_of_turn_is_a_goodbye_and_no_desync():
    session, peer = await greeted()
    peer.say("421 4.4.2 timeout")
    assert session.goodbye.code == 421
    assert session.broken is Outcome.HUNG_UP
    assert not session.desync


async def test_a_malformed_reply_keeps_those_before_it():
    session, peer = await greeted()
    flight = asyncio.create_task(session.exchange(b"A\r\nB\r\n", 2, PATIENCE))
    await peer.heard(b"B\r\n")
    session.data_received(b"250 a\r\nrubbish\r\n")
    assert [reply.text for reply in await flight] == ["a"]
    assert session.broken is Outcome.PROTOCOL_ERROR
    assert not session.desync


async def test_a_hang_up_ends_the_wait():
    session, peer = await greeted()
    flight = asyncio.create_task(session.exchange(b"A\r\nB\r\n", 2, PATIENCE))
    await peer.heard(b"B\r\n")
    peer.say("250 a")
    peer.hang_up()
    assert len(await flight) == 1
    assert session.broken is Outcome.HUNG_UP


async def test_silence_ends_at_the_patience_of_the_flight():
    session, peer = await greeted()
    async with asyncio.timeout(5):
        assert await session.exchange(b"A\r\n", 1, 0.01) == []
    assert session.broken is Outcome.TIMEOUT
    assert peer.aborted


async def test_a_silent_banner_ends_too():
    session, peer = connected(Timeouts(banner=0.01))
    async with asyncio.timeout(5):
        assert await session.banner() is None
    assert session.broken is Outcome.TIMEOUT
    assert bytes(peer.written) == b""


async def test_bytes_that_complete_no_reply_buy_no_time():
    session, peer = await greeted()
    flight = asyncio.create_task(session.exchange(b"A\r\n", 1, 0.2))
    await peer.heard(b"A\r\n")
    async with asyncio.timeout(5):
        while session.broken is None:
            session.data_received(b"2" if not session._reader._tail else b"")
            await asyncio.sleep(0.01)
    assert await flight == []
    assert session.broken is Outcome.TIMEOUT


async def test_nothing_moves_the_hard_end_of_a_session():
    session, peer = await greeted(Timeouts(session=0.2))
    flight = asyncio.create_task(session.exchange(b"A\r\n" * 1_000, 1_000, PATIENCE))
    await peer.heard(b"A\r\n")
    async with asyncio.timeout(5):
        while not flight.done():
            peer.say("250 slowly")
            await asyncio.sleep(0.01)
    assert session.broken is Outcome.TIMEOUT
    assert 0 < len(await flight) < 1_000


@pytest.mark.parametrize("code", [500, 501, 502, 504])
async def test_helo_where_ehlo_is_not_known(code):
    session, peer = await greeted()
    hello = asyncio.create_task(session.hello("probe.test"))
    assert await peer.heard(b"\r\n") == b"EHLO probe.test\r\n"
    peer.say(f"{code} what?")
    assert await peer.heard(b"\r\n") == b"HELO probe.test\r\n"
    peer.say("250 mx.test")
    assert (await hello).code == 250
    assert not session.extensions
    session.close()


async def test_a_refusal_of_us_at_ehlo_is_not_answered_with_helo():
    session, peer = await greeted()
    hello = asyncio.create_task(session.hello("probe.test"))
    await peer.heard(b"\r\n")
    peer.say("550 5.7.1 go away")
    assert (await hello).code == 550
    assert bytes(peer.written) == b""
    session.close()


async def test_extensions_are_read_by_keyword():
    session, peer = await greeted()
    hello = asyncio.create_task(session.hello("probe.test"))
    await peer.heard(b"\r\n")
    peer.say("250-mx.test", "250-Pipelining", "250-SIZE 1000", "250 SMTPUTF8")
    await hello
    assert set(session.extensions) == {"pipelining", "size", "smtputf8"}
    session.close()


async def test_bytes_behind_the_220_to_starttls_end_the_session_unencrypted_and_unused():
    session, peer = await greeted()
    securing = asyncio.create_task(session.secure_with(None, "mx.test"))
    await peer.heard(b"STARTTLS\r\n")
    session.data_received(b"220 go\r\n250 injected\r\n")
    assert not await securing
    assert session.desync
    assert not session.alive


async def test_after_a_refused_starttls_there_is_only_quit():
    session, peer = await greeted()
    securing = asyncio.create_task(session.secure_with(None, "mx.test"))
    await peer.heard(b"STARTTLS\r\n")
    peer.say("454 not now")
    assert not await securing
    leaving = asyncio.create_task(session.leave())
    await peer.heard(b"QUIT\r\n")
    peer.say("221 bye")
    assert (await leaving).code == 221
    session.close()


async def test_nonsense_behind_a_reply_too_many_is_a_desync_all_the_same():
    session, peer = await greeted()
    flight = asyncio.create_task(session.exchange(b"A\r\n", 1, PATIENCE))
    await peer.heard(b"A\r\n")
    session.data_received(b"250 injected\r\n550 a\r\nnonsense\r\n")
    assert [reply.text for reply in await flight] == ["injected"]
    assert session.desync


async def test_starttls_is_not_said_onto_half_a_reply():
    session, peer = await greeted()
    session.data_received(b"250 injec")
    assert not await session.secure_with(ssl.create_default_context(), "mx.test")
    assert session.desync
    assert bytes(peer.written) == b"QUIT\r\n"
