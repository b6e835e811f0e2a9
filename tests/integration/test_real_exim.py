"""The probe before Debian's Exim: one test a situation, each with the statements of its configuration that make it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest

from tests.integration.real_mail import Asker, anns, asking, unknown
from tests.servers import EximServer

Make = Callable[..., EximServer]
OFFENCES = ("protocol error", "synchronization error", "syntax error", "unexpected disconnection", "closed by DROP")
ANY_ANN = """
anns:
  driver = accept
  domains = known.test
  local_parts = ^ann
  transport = nowhere
"""


@asynccontextmanager
async def politely(server: EximServer, *, hung_up_on: bool = False, **options: object) -> AsyncIterator[Asker]:
    """`asking`, and at its end the log says what it must say of every session that Exim let live."""
    async with asking(server, **options) as asker:
        yield asker
    log = server.log()
    assert [offence for offence in OFFENCES if offence in log and not (hung_up_on and "DROP" in offence)] == []
    assert set(server.ends()) <= {"by QUIT"} | ({"by DROP"} if hung_up_on else set())
    assert "<=" not in log  # no message came in


async def test_known_and_unroutable_addresses(exim: Make):
    server = exim()
    async with politely(server) as asker:
        known, missing = await asker.results("ann@known.test", "nobody@known.test")
    assert (known.status, known.reason) == ("valid", "accepted")
    assert (missing.status, missing.reason) == ("invalid", "mailbox_missing")
    assert (missing.details.smtp.code, missing.details.smtp.text) == (550, "Unrouteable address")
    assert server.ends() == ["by QUIT"]


async def test_a_domain_that_takes_all_comers_by_a_redirect(exim: Make):
    routers = """
everybody:
  driver = redirect
  domains = known.test
  data = ann@known.test
"""
    async with politely(exim(routers=routers)) as asker:
        assert await asker.reasons("bob@known.test", "nobody@known.test") == ["catch_all", "catch_all"]


async def test_mail_for_a_domain_that_is_not_served_is_relay_denied(exim: Make):
    async with politely(exim(), domains=("known.test", "moved.test")) as asker:
        moved, known = await asker.results("ann@moved.test", "ann@known.test")
    assert (moved.status, moved.reason) == ("invalid", "relay_denied")
    assert known.reason == "accepted"


async def test_forty_unknown_users_in_sessions_of_nine(exim: Make):
    server = exim()
    async with politely(server) as asker:
        assert await asker.reasons(*unknown(40), "ann@known.test") == ["mailbox_missing"] * 40 + ["accepted"]
    assert 4 <= len(server.ends()) <= 6


async def test_a_sender_that_fails_verification_is_a_refusal_of_us(exim: Make):
    routers = """
nobody_of_ours:
  driver = redirect
  domains = sender.test
  allow_fail
  data = :fail: no such sender here
"""
    server = exim(acl="  require verify = sender", routers=routers)
    async with politely(server, probe_mail_from="probe@sender.test") as asker:
        results = await asker.results("ann@known.test", *unknown(3))
    assert {(result.status, result.reason) for result in results} == {("unknown", "prober_blocked")}


async def test_a_sender_whose_verification_is_deferred_is_put_off(exim: Make):
    routers = """
not_now:
  driver = redirect
  domains = sender.test
  allow_defer
  data = :defer: lookup failed for now
"""
    server = exim(acl="  require verify = sender", routers=routers)
    async with politely(server, probe_mail_from="probe@sender.test") as asker:
        results, put_off = await asker.check("ann@known.test", *unknown(3), last_look=False)
    assert results == [None] * 4
    assert len(put_off) == 4


async def test_one_connection_a_host_is_enough_for_a_long_list(exim: Make):
    server = exim(options="smtp_accept_max_per_host = 1", routers=ANY_ANN)
    async with politely(server) as asker:
        assert await asker.reasons(*anns(250)) == ["accepted"] * 250
    assert server.log().count("Connection from [127.0.0.1] refused: too many connections from that IP address") <= 3


async def test_a_limit_of_recipients_in_a_message_is_met_and_kept(exim: Make):
    server = exim(options="recipients_max = 10", routers=ANY_ANN)
    async with politely(server) as asker:
        assert await asker.reasons(*anns(40)) == ["accepted"] * 40


@pytest.mark.parametrize("verb", ["drop", "deny", "defer"])
async def test_a_limit_of_bad_recipients_in_a_session_costs_no_verdict(exim: Make, verb: str):
    acl = f"""
  {verb} message = too many bad recipients
       condition = ${{if >{{$rcpt_fail_count}}{{4}}}}
"""
    server = exim(acl=acl, routers=ANY_ANN)
    async with politely(server, hung_up_on=verb == "drop") as asker:
        reasons = await asker.reasons(*unknown(20), *anns(20))
    assert reasons == ["mailbox_missing"] * 20 + ["accepted"] * 20


async def test_a_tarpit_is_waited_for(exim: Make):
    async with politely(exim(acl="  warn delay = 1s\n       condition = ${if !eq{$local_part}{ann}}")) as asker:
        assert await asker.reasons("ann@known.test", *unknown(2)) == ["accepted", "mailbox_missing", "mailbox_missing"]


async def test_who_is_dropped_for_one_recipient_asks_about_the_others(exim: Make):
    acl = """
  drop message = 550 5.7.1 go away
       local_parts = nobody0
"""
    server = exim(acl=acl)
    async with politely(server, hung_up_on=True) as asker:
        reasons = await asker.reasons("ann@known.test", "nobody0@known.test", "bob@known.test", "nobody1@known.test")
    assert [reasons[0], reasons[2], reasons[3]] == ["accepted", "accepted", "mailbox_missing"]
    assert reasons[1] == "prober_blocked"


async def test_a_client_that_is_not_wanted_is_told_at_connect(exim: Make):
    options = "acl_smtp_connect = connect"
    acl = """
  accept domains = nothing.test
connect:
  deny message = Host 127.0.0.1 is listed at bl.example
rest:
"""
    server = exim(options=options, acl=acl)
    async with politely(server) as asker:
        results = await asker.results("ann@known.test", *unknown(3))
    assert {(result.status, result.reason) for result in results} == {("unknown", "prober_blocked")}


async def test_one_command_after_the_other_where_pipelining_is_not_advertised(exim: Make):
    server = exim(options="pipelining_advertise_hosts =")
    async with politely(server) as asker:
        assert await asker.reasons("ann@known.test", *unknown(5)) == ["accepted", *["mailbox_missing"] * 5]


async def test_a_full_mailbox_and_a_disabled_one_in_the_words_of_an_acl(exim: Make):
    acl = """
  deny message = 552 5.2.2 Mailbox quota exceeded
       local_parts = ann
  deny message = 550 5.2.1 Mailbox disabled for this recipient
       local_parts = bob
  defer message = 452 4.2.2 Mailbox full
        local_parts = cid
"""
    async with politely(exim(acl=acl)) as asker:
        reasons = await asker.reasons("ann@known.test", "bob@known.test", "cid@known.test", "dora@known.test")
    assert reasons == ["mailbox_full", "mailbox_disabled", "mailbox_full", "accepted"]


async def test_addresses_beyond_ascii_where_smtputf8_is_advertised_and_where_not(exim: Make):
    server = exim(options="smtputf8_advertise_hosts =")
    async with politely(server) as asker:
        assert await asker.reasons("jürgen@known.test", "ann@known.test") == ["protocol_error", "accepted"]
