"""Characters of the mail lab that break the protocol, seen from a bare socket."""

from __future__ import annotations

import pytest

from tests.integration.one_host_lab import asked, client_of, codes, lab_with


@pytest.mark.parametrize("character", ["glued", "injected_lines"])
async def test_glued_and_injected_replies_come_after_the_one_to_mail(character):
    async with lab_with(character) as lab, client_of(lab) as client:
        assert (await client.greet()).startswith("250 2.1.0")
        assert await client.reply() == "250 2.1.5 Ok"
        assert (await client.ask("RCPT TO:<missing@x.test>")).startswith("550")


async def test_mixed_and_bad_codes():
    async with lab_with("mixed_codes") as lab:
        assert [line[:4] for line in (await asked(lab, "missing"))[0].split("\n")] == ["550-", "250 "]
    async with lab_with("bad_codes") as lab:
        assert len({reply[:4] for reply in await asked(lab, *("ann",) * 7)}) == 7
    async with lab_with("bad_codes", code="666 ok") as lab:
        assert await asked(lab, "ann") == ["666 ok"]


@pytest.mark.parametrize(("character", "sign"), [("endless_reply", b"\r\n250-"), ("endless_line", b"OOOO")])
async def test_endless_replies_go_on_as_long_as_they_are_read(character, sign):
    async with lab_with(character) as lab, client_of(lab) as client:
        await client.greet()
        client.send("RCPT TO:<ann@x.test>")
        assert sign in await client.reader.readexactly(300_000)
        await client.leave()
        assert lab.complaints() == []


async def test_dripping_and_fragmented_replies_are_whole_in_the_end():
    async with lab_with("dripping", gap=0.001) as lab:
        assert codes(await asked(lab, "ann", "missing")) == ["250", "550"]
    async with lab_with("fragmented") as lab, client_of(lab) as client:
        await client.greet()
        client.send("RCPT TO:<ann@x.test>", "RCPT TO:<missing@x.test>", "QUIT")
        assert codes([await client.reply() for _ in range(3)]) == ["250", "550", "221"]


async def test_garbage_dirty_text_and_bare_line_feeds():
    async with lab_with("garbage") as lab, client_of(lab) as client:
        client.send("QUIT")
        assert b"\x00\xff\xfe" in await client.everything()
    async with lab_with("dirty_text") as lab, client_of(lab) as client:
        await client.greet()
        client.send("RCPT TO:<missing@x.test>", "QUIT")
        assert b"\x1b[31m" in await client.everything()
    async with lab_with("lf_only") as lab, client_of(lab) as client:
        await client.greet()
        client.send("RCPT TO:<ann@x.test>", "QUIT")
        assert (await client.everything()).startswith(b"250 2.1.5 Ok\n221")


async def test_wrong_order_gives_replies_to_the_wrong_commands():
    async with lab_with("wrong_order") as lab:
        assert codes(await asked(lab, "ann", "ben")) == ["354", "221"]
    async with lab_with("wrong_order", swapped=True) as lab, client_of(lab) as client:
        await client.greet()
        client.send("RCPT TO:<missing@x.test>", "RCPT TO:<ann@x.test>")
        first, second = await client.reply(), await client.reply()
        assert first == "250 2.1.5 <ann@x.test> Ok"
        assert second.startswith("550 5.1.1 <missing@x.test>")
