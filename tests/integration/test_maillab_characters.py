"""Every character of the mail lab does what its name says, seen from a bare socket."""

from __future__ import annotations

import asyncio
import ssl

import pytest

from services.maillab.characters import CHARACTERS
from services.maillab.lab import Lab, LabError
from services.maillab.world import World, WorldError
from tests.integration.one_host_lab import asked, client_of, codes, lab_with


class Clock:
    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        return self.now


async def test_accepts_rejects_tells_known_from_missing_and_random():
    async with lab_with("accepts_rejects") as lab:
        replies = await asked(lab, "ann", "missing.ann", "x7k2q9vw", "full.ann", "disabled.ann", "grey.ann", "grey.ann")
        assert codes(replies) == ["250", "550", "550", "452", "550", "451", "250"]
        assert "5.1.1" in replies[1]
        assert "5.2.1" in replies[4]
        assert lab.complaints() == []


@pytest.mark.parametrize("style", ["postfix", "exim", "exchange", "gmail", "sendmail", "plain"])
async def test_every_style_has_its_wording_for_every_kind_of_mailbox(style):
    async with lab_with("accepts_rejects", style=style) as lab:
        replies = await asked(lab, "ann", "missing", "full", "disabled", "grey")
        assert [code[0] for code in codes(replies)][:2] == ["2", "5"]
        assert codes(replies)[2] in ("452", "552")
        assert codes(replies)[3] == "550"
        assert codes(replies)[4] in ("450", "451")
        assert lab.complaints() == []


async def test_mail_for_a_domain_that_dns_leads_elsewhere_is_relaying():
    async with lab_with("accepts_rejects") as lab, client_of(lab) as client:
        await client.greet()
        assert (await client.ask("RCPT TO:<ann@elsewhere.test>")).startswith("554 5.7.1")


async def test_a_domain_that_moves_away_is_relaying_from_the_next_transaction_on():
    async with lab_with("accepts_rejects") as lab:
        assert codes(await asked(lab, "ann")) == ["250"]
        lab.world.domain("x.test", mx=[(10, "mx.elsewhere.test")])
        assert codes(await asked(lab, "ann")) == ["554"]


async def test_a_scripted_mailbox_gives_its_replies_in_turn_and_the_last_for_ever():
    async with lab_with("accepts_rejects") as lab:
        lab.world.mailbox("odd@x.test", ["451 4.7.1 Wait", "550-5.1.1 gone\n550 5.1.1 for good", "250 2.1.5 Ok"])
        replies = await asked(lab, "odd", "odd", "odd", "ODD")
        assert replies == ["451 4.7.1 Wait", "550-5.1.1 gone\n550 5.1.1 for good", "250 2.1.5 Ok", "250 2.1.5 Ok"]


@pytest.mark.parametrize("script", ["!close", "!reset", "421 4.3.2 Shutting down"])
async def test_a_scripted_mailbox_can_end_the_connection(script):
    async with lab_with("accepts_rejects") as lab, client_of(lab) as client:
        lab.world.mailbox("ann@x.test", script)
        await client.greet()
        last = await client.ask("RCPT TO:<ann@x.test>")
        assert last in ("", script)
        assert await client.reply() == ""


async def test_a_scripted_mailbox_can_be_silent():
    async with lab_with("accepts_rejects") as lab, client_of(lab) as client:
        lab.world.mailbox("ann@x.test", "!silence")
        await client.greet()
        client.send("RCPT TO:<ann@x.test>")
        assert await client.is_silent()


async def test_catch_all_takes_everything():
    async with lab_with("catch_all") as lab:
        assert codes(await asked(lab, "ann", "missing", "x7k2q9vw")) == ["250"] * 3


async def test_greylisting_waits_by_the_clock_and_says_how_long():
    clock = Clock()
    world = World()
    world.host("mx.x.test", "greylisting", wait=300)
    world.domain("x.test", mx=[(10, "mx.x.test")])
    async with Lab(world, clock=clock) as lab:
        first = await asked(lab, "ann", "missing")
        clock.now += 299
        early = await asked(lab, "ann")
        clock.now += 1
        late = await asked(lab, "ann")
        assert codes(first + early + late) == ["451", "550", "451", "250"]
        assert "try again in 300 seconds" in first[0]
        assert ["before the greylist's wait" in text for text in lab.complaints()] == [True]


async def test_greylisting_first_session_tells_the_truth_from_the_second_on():
    async with lab_with("greylisting_first_session") as lab:
        assert codes(await asked(lab, "ann", "missing", "ann")) == ["450"] * 3
        assert codes(await asked(lab, "ann", "missing")) == ["250", "550"]


@pytest.mark.parametrize(("character", "word"), [("full", "quota"), ("disabled", "disabled")])
async def test_full_and_disabled_hosts_still_refuse_what_is_missing(character, word):
    async with lab_with(character) as lab:
        known, missing = await asked(lab, "ann", "missing")
        assert word in known
        assert missing.startswith("550 5.1.1")


@pytest.mark.parametrize(
    ("character", "at", "code"),
    [
        ("blocks_us", "connect", "554"),
        ("blocks_us", "ehlo", "550"),
        ("blocks_us", "mail", "550"),
        ("blocks_us", "rcpt", "550"),
        ("rate_limited", "connect", "421"),
        ("rate_limited", "ehlo", "421"),
        ("rate_limited", "mail", "450"),
        ("rate_limited", "rcpt", "451"),
        ("server_error", "connect", "421"),
        ("server_error", "ehlo", "451"),
        ("server_error", "mail", "451"),
        ("server_error", "rcpt", "451"),
    ],
)
async def test_refusals_of_the_caller_come_at_their_stage(character, at, code):
    async with lab_with(character, at=at) as lab, client_of(lab) as client:
        seen = {"connect": await client.reply()}
        for stage, command in (("ehlo", "EHLO c.test"), ("mail", "MAIL FROM:<>"), ("rcpt", "RCPT TO:<ann@x.test>")):
            if seen[max(seen, key=list(seen).index)].startswith("421"):
                break
            seen[stage] = await client.ask(command)
        assert seen[at].startswith(code)
        assert all(
            reply.startswith("2") for stage, reply in seen.items() if list(seen).index(stage) < list(seen).index(at)
        )


async def test_relay_denied_and_domain_not_hosted_refuse_their_own_domain():
    async with lab_with("relay_denied") as lab:
        assert (await asked(lab, "ann"))[0].startswith("554 5.7.1")
    async with lab_with("domain_not_hosted") as lab:
        assert (await asked(lab, "ann"))[0].startswith("550 5.1.2")


async def test_access_denied_is_how_exchange_says_missing():
    async with lab_with("5.4.1_access_denied", style="exchange") as lab:
        known, missing, random = await asked(lab, "ann", "missing", "x7k2q9vw")
        assert known.startswith("250")
        assert missing.startswith("550 5.4.1")
        assert random.startswith("550 5.4.1")


async def test_too_many_errors_hangs_up_after_its_limit():
    async with lab_with("too_many_errors", errors=2) as lab:
        assert codes(await asked(lab, "ann", "missing1", "missing2", "ben")) == ["250", "550", "550", "421"]


@pytest.mark.parametrize(("per", "after_new_mail"), [("transaction", "250"), ("session", "452")])
async def test_recipient_limit_counts_by_transaction_or_session(per, after_new_mail):
    async with lab_with("recipient_limit", recipients=2, per=per) as lab, client_of(lab) as client:
        await client.greet()
        replies = [await client.ask(f"RCPT TO:<{local}@x.test>") for local in ("ann", "ben", "carl")]
        await client.ask("RSET")
        await client.ask("MAIL FROM:<>")
        replies.append(await client.ask("RCPT TO:<carl@x.test>"))
        assert codes(replies) == ["250", "250", "452", after_new_mail]


async def test_connection_limit_refuses_the_one_too_many_and_takes_it_later():
    async with lab_with("connection_limit", connections=1) as lab:
        async with client_of(lab) as first:
            await first.greet()
            async with client_of(lab) as second:
                assert (await second.reply()).startswith("421")
            await first.ask("QUIT")
        async with client_of(lab) as third:
            assert (await third.reply()).startswith("220")
            await third.ask("QUIT")
        assert lab.complaints() == []


async def test_defers_random_and_half_catch_all_differ_on_the_random_one():
    async with lab_with("defers_random") as lab:
        assert codes(await asked(lab, "ann", "missing", "x7k2q9vw")) == ["250", "550", "451"]
    async with lab_with("half_catch_all") as lab:
        assert codes(await asked(lab, "ann", "missing", "x7k2q9vw")) == ["250", "550", "250"]


async def test_the_forwarding_and_the_noncommittal_reply():
    async with lab_with("replies_251") as lab:
        assert codes(await asked(lab, "ann", "missing")) == ["251", "550"]
    async with lab_with("replies_252") as lab:
        assert codes(await asked(lab, "ann", "missing")) == ["252", "252"]
    async with lab_with("accepts_all_then_bounces") as lab:
        assert codes(await asked(lab, "ann", "missing")) == ["250", "250"]


async def test_odd_enhanced_codes_contradict_the_basic_ones():
    async with lab_with("odd_enhanced") as lab:
        known, missing = await asked(lab, "ann", "missing")
        assert known.startswith("250 5.1.1")
        assert missing.startswith("550 2.1.5")


async def test_unverified_first_tells_the_truth_at_the_second_ask():
    async with lab_with("unverified_first") as lab:
        assert codes(await asked(lab, "ann", "ann", "missing", "missing")) == ["450", "250", "450", "550"]


async def test_the_null_sender_can_be_refused():
    async with lab_with("refuses_null_sender") as lab, client_of(lab) as client:
        assert (await client.greet()).startswith("550")
        assert (await client.ask("MAIL FROM:<probe@client.test>")).startswith("250")


async def test_smtputf8_is_taken_only_where_it_is_offered():
    async with lab_with("smtputf8") as lab, client_of(lab) as client:
        lab.world.mailbox("jürgen@x.test")
        await client.reply()
        assert "SMTPUTF8" in await client.ask("EHLO c.test")
        assert (await client.ask("MAIL FROM:<> SMTPUTF8")).startswith("250")
        assert (await client.ask("RCPT TO:<Jürgen@x.test>")).startswith("250")
    async with lab_with("no_smtputf8") as lab, client_of(lab) as client:
        await client.reply()
        assert "SMTPUTF8" not in await client.ask("EHLO c.test")
        assert (await client.ask("MAIL FROM:<> SMTPUTF8")).startswith("555")


async def test_silent_hosts_fall_silent_at_their_stage():
    async with lab_with("silent") as lab, client_of(lab) as client:
        assert await client.is_silent()
    async with lab_with("silent_after_ehlo") as lab, client_of(lab) as client:
        assert (await client.reply()).startswith("220")
        client.send("EHLO c.test")
        assert await client.is_silent()
    async with lab_with("silent_rcpt", after=1) as lab, client_of(lab) as client:
        await client.greet()
        assert (await client.ask("RCPT TO:<ann@x.test>")).startswith("250")
        client.send("RCPT TO:<ben@x.test>")
        assert await client.is_silent()
        client.send("QUIT")
        assert await client.is_silent()


@pytest.mark.parametrize("reset", [False, True])
async def test_drops_cut_the_connection_at_their_stage(reset):
    async with lab_with("drops", reset=reset) as lab, client_of(lab) as client:
        assert await client.reply() == ""
    async with lab_with("drops", at="ehlo", reset=reset) as lab, client_of(lab) as client:
        assert (await client.reply()).startswith("220")
        assert await client.ask("EHLO c.test") == ""
    async with lab_with("drops", at="rcpt", after=1, reset=reset) as lab:
        assert codes(await asked(lab, "ann", "ben")) == ["250", ""]
        assert [session.closed_by for session in lab.log.sessions()] == ["server"]


async def test_disconnects_on_random_and_quits_early():
    async with lab_with("disconnects_on_random") as lab:
        assert codes(await asked(lab, "ann", "missing", "x7k2q9vw")) == ["250", "550", ""]
    async with lab_with("quits_early", after=1) as lab:
        assert codes(await asked(lab, "ann", "ben")) == ["250", "221"]


async def test_no_pipelining_refuses_a_group_and_complains():
    async with lab_with("no_pipelining") as lab, client_of(lab) as client:
        await client.reply()
        assert "PIPELINING" not in await client.ask("EHLO c.test")
        client.send("MAIL FROM:<>", "RCPT TO:<ann@x.test>")
        assert (await client.reply()).startswith("503")
        assert await client.reply() == ""
        assert any("PIPELINING was not offered" in text for text in lab.complaints())


async def test_helo_only_knows_helo():
    async with lab_with("helo_only") as lab, client_of(lab) as client:
        await client.reply()
        assert (await client.ask("EHLO c.test")).startswith("502")
        assert (await client.ask("MAIL FROM:<>")).startswith("503")
        assert (await client.ask("HELO c.test")).startswith("250")
        assert (await client.ask("MAIL FROM:<>")).startswith("250")


async def test_slow_banner_punishes_who_talks_into_it():
    async with lab_with("slow_banner", delay=0.1) as lab:
        async with client_of(lab) as client:
            client.send("EHLO c.test")
            assert (await client.reply()).startswith("220-mx.x.test")
            assert (await client.reply()).startswith("550")
        async with client_of(lab) as client:
            assert (await client.reply()).splitlines()[-1].startswith("220 ")
            assert (await client.ask("EHLO c.test")).startswith("250")
            await client.ask("QUIT")
        assert ["before the banner" in text for text in lab.complaints()] == [True]


@pytest.mark.parametrize(("growing", "least"), [(False, 0.09), (True, 0.15)])
async def test_tarpit_takes_its_time(growing, least):
    async with lab_with("tarpit", delay=0.03, growing=growing) as lab:
        loop = asyncio.get_running_loop()
        start = loop.time()
        assert codes(await asked(lab, "missing1", "missing2", "ann")) == ["550", "550", "250"]
        assert loop.time() - start >= least


async def test_multi_line_replies_keep_one_code():
    async with lab_with("multi_line") as lab:
        known, missing = await asked(lab, "ann", "missing")
        assert [line[:4] for line in known.split("\n")] == ["250-", "250-", "250 "]
        assert [line[:4] for line in missing.split("\n")] == ["550-", "550-", "550 "]


async def test_down_refuses_and_black_hole_never_answers():
    async with lab_with("down") as lab:
        with pytest.raises(ConnectionRefusedError):
            await client_of(lab).__aenter__()
    async with lab_with("black_hole") as lab:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(client_of(lab).__aenter__(), 0.2)


async def test_a_host_can_live_on_ipv6():
    async with lab_with("accepts_rejects", ip="::1") as lab:
        assert codes(await asked(lab, "ann", "missing")) == ["250", "550"]


async def test_a_host_can_be_taken_down_and_brought_up_and_changed():
    async with lab_with("accepts_rejects") as lab:
        await lab.take_down("mx.x.test")
        with pytest.raises(ConnectionRefusedError):
            await client_of(lab).__aenter__()
        await lab.bring_up("mx.x.test")
        lab.change("mx.x.test", "catch_all")
        assert codes(await asked(lab, "missing")) == ["250"]


async def test_starttls_works_and_forgets_what_was_said_before():
    async with lab_with("starttls_required") as lab, client_of(lab) as client:
        assert (await client.greet()).startswith("530")
        assert (await client.ask("STARTTLS")).startswith("220")
        await client.start_tls()
        assert (await client.ask("MAIL FROM:<>")).startswith("503")
        assert "STARTTLS" not in await client.ask("EHLO c.test")
        assert (await client.ask("MAIL FROM:<>")).startswith("250")
        assert (await client.ask("RCPT TO:<missing@x.test>")).startswith("550")
        await client.ask("QUIT")
        assert lab.log.rcpts() == ["missing@x.test"]
        assert lab.complaints() == []


async def test_starttls_is_an_offer_where_it_is_not_required():
    async with lab_with("starttls_offered") as lab:
        assert codes(await asked(lab, "ann")) == ["250"]


@pytest.mark.parametrize("how", ["garbage", "closes"])
async def test_broken_starttls_fails_the_handshake_and_notices_plaintext_after_it(how):
    async with lab_with("starttls_broken", how=how) as lab:
        async with client_of(lab) as client:
            await client.greet()
            await client.ask("STARTTLS")
            with pytest.raises((ssl.SSLError, ConnectionError)):
                await client.start_tls()
        assert lab.complaints() == []
        async with client_of(lab) as client:
            await client.greet()
            await client.ask("STARTTLS")
            client.send("EHLO c.test")
            await client.is_silent(0.05)
        if how == "garbage":
            assert ["in the clear after STARTTLS" in text for text in lab.complaints()] == [True]


async def test_broken_starttls_may_also_refuse():
    async with lab_with("starttls_broken", how="refuses") as lab, client_of(lab) as client:
        await client.greet()
        assert (await client.ask("STARTTLS")).startswith("454")


async def test_starttls_injects_plaintext_with_its_220():
    async with lab_with("starttls_injects") as lab, client_of(lab) as client:
        await client.greet()
        client.send("STARTTLS")
        assert [await client.reply() for _ in range(3)] == [
            "220 2.0.0 Ready to start TLS",
            "250 2.1.0 Ok",
            "250 2.1.5 Ok",
        ]


async def test_the_round_trip_time_is_paid_once_a_flight_and_twice_at_connect():
    world = World()
    world.host("mx.x.test")
    world.domain("x.test", mx=[(10, "mx.x.test")])
    loop = asyncio.get_running_loop()
    async with Lab(world, rtt=0.1) as lab:
        start = loop.time()
        async with client_of(lab) as client:
            await client.reply()
            assert loop.time() - start >= 0.2
            await client.ask("EHLO c.test")
            start = loop.time()
            client.send("MAIL FROM:<>", *(f"RCPT TO:<user{n}@x.test>" for n in range(5)), "QUIT")
            assert codes([await client.reply() for _ in range(7)]) == ["250"] * 6 + ["221"]
            assert 0.1 <= loop.time() - start < 0.7  # which is what one after the other takes at the least
        assert lab.complaints() == []


def test_there_are_over_thirty_characters_each_with_a_sentence_about_itself():
    assert len(CHARACTERS) > 30
    for name, kind in CHARACTERS.items():
        assert kind.name == name
        assert kind.__doc__, name


async def test_a_character_or_option_that_is_none_is_refused_by_name():
    with pytest.raises(WorldError, match=r"mx\.x\.test: no character is called grumpy"):
        async with lab_with("grumpy"):
            pass
    with pytest.raises(WorldError, match=r"mx\.x\.test: tarpit does not take"):
        async with lab_with("tarpit", colour="black"):
            pass


async def test_a_port_that_is_taken_is_said_so():
    async with lab_with("accepts_rejects") as lab:
        world = World()
        world.host("mx.y.test")
        with pytest.raises(LabError, match=f"port {lab.smtp_port}"):
            async with Lab(world, smtp_port=lab.smtp_port):
                pass
