"""The probe before Debian's Postfix: one test a situation, each with the parameters that make it."""

from __future__ import annotations

import asyncio
import re
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from services.maillab.certificate import make_certificate
from tests.integration.real_mail import Asker, anns, asking, unknown, until
from tests.servers import PostfixServer

Make = Callable[..., PostfixServer]
ANY_ANN = {"local_recipient_maps": "regexp:{{/^ann/ x}}"}  # ann0, ann1 ...; a random address is refused
OFFENCES = ("improper command pipelining", "too many errors", "lost connection", "timeout after", "non-SMTP command")


@asynccontextmanager
async def politely(server: PostfixServer, *, refusals: int = 10, **options: object) -> AsyncIterator[Asker]:
    """`asking`, and at its end the log says what it must say of every session that Postfix let live."""
    async with asking(server, **options) as asker:
        yield asker
    log = server.log()
    assert [offence for offence in OFFENCES if offence in log] == []
    assert "fatal" not in log
    for end in server.ends():
        if end == "commands=0/0":
            continue  # turned away at the door
        assert "quit=1" in end
        assert "data=" not in end
        assert refused(end) <= refusals


def refused(end: str) -> int:
    """Of "rcpt=accepted/all", or "rcpt=all" where none was."""
    counts = dict(word.split("=") for word in end.split())
    accepted, _, every = counts.get("rcpt", "0").partition("/")
    return int(every) - int(accepted) if every else 0


async def test_known_and_unknown_users(postfix: Make):
    server = postfix({})
    async with politely(server) as asker:
        known, missing = await asker.results("ann@known.test", "nobody@known.test")
    assert (known.status, known.reason) == ("valid", "accepted")
    assert (missing.status, missing.reason) == ("invalid", "mailbox_missing")
    assert (missing.details.smtp.code, missing.details.smtp.enhanced) == (550, "5.1.1")
    assert len(server.ends()) == 1


async def test_a_domain_that_takes_all_comers_by_luser_relay(postfix: Make):
    server = postfix({"local_recipient_maps": "", "luser_relay": "ann"})
    async with politely(server) as asker:
        assert await asker.reasons("ann@known.test", "nobody@known.test") == ["catch_all", "catch_all"]


async def test_a_domain_with_a_virtual_alias_for_everybody_next_to_one_without(postfix: Make):
    server = postfix(
        {"virtual_alias_domains": "every.test", "virtual_alias_maps": "inline:{@every.test=ann@known.test}"}
    )
    async with politely(server, domains=("known.test", "every.test")) as asker:
        reasons = await asker.reasons("bob@every.test", "ann@known.test", "bob@known.test")
    assert reasons == ["catch_all", "accepted", "accepted"]
    assert len(server.ends()) == 1


async def test_texts_of_an_access_map(postfix: Make):
    server = postfix(
        {
            "smtpd_recipient_restrictions": "check_recipient_access inline:{"
            " {ann@known.test = 452 4.2.2 Mailbox is over quota},"
            " {bob@known.test = 552 5.2.2 Mailbox full},"
            " {cid@known.test = 550 5.2.1 This account has been disabled},"
            " {dora@known.test = 550 5.7.1 Blocked by the recipient's own rules} }"
        }
    )
    async with politely(server) as asker:
        results = await asker.results(*(f"{name}@known.test" for name in ("ann", "bob", "cid", "dora")))
    assert [result.reason for result in results[:3]] == ["mailbox_full", "mailbox_full", "mailbox_disabled"]
    assert results[3].status == "unknown"


async def test_forty_unknown_users_never_meet_the_error_limits(postfix: Make):
    server = postfix({})  # soft 10, hard 20
    async with politely(server) as asker:
        assert await asker.reasons(*unknown(40)) == ["mailbox_missing"] * 40
    assert 4 <= len(server.ends()) <= 6
    assert Counter(map(refused, server.ends())).most_common(1)[0][0] == 9


async def test_known_users_among_many_unknown_ones_are_found(postfix: Make):
    server = postfix({})
    async with politely(server) as asker:
        reasons = await asker.reasons(*unknown(20), "ann@known.test", *unknown(40)[20:], "bob@known.test")
    assert [place for place, reason in enumerate(reasons) if reason == "accepted"] == [20, 41]


async def test_a_hard_error_limit_below_our_own_costs_no_verdict(postfix: Make):
    server = postfix({"smtpd_soft_error_limit": "3", "smtpd_hard_error_limit": "5", "smtpd_error_sleep_time": "0"})
    async with asking(server) as asker:
        assert await asker.reasons(*unknown(40), "ann@known.test") == ["mailbox_missing"] * 40 + ["accepted"]
    assert server.log().count("too many errors") <= 4  # then the limit is known


async def test_a_soft_error_limit_that_slows_replies_down_costs_no_verdict(postfix: Make):
    server = postfix({"smtpd_soft_error_limit": "4", "smtpd_error_sleep_time": "1s"})
    async with politely(server) as asker:
        assert await asker.reasons(*unknown(5)) == ["mailbox_missing"] * 5


async def test_a_recipient_limit_of_ten_is_met_once(postfix: Make):
    server = postfix({**ANY_ANN, "smtpd_recipient_limit": "10"})
    async with politely(server, refusals=30) as asker:
        assert await asker.reasons(*anns(60)) == ["accepted"] * 60
    assert server.log().count("452 4.5.3") <= 25


async def test_postscreen_greets_late_and_hears_nothing_before_that(postfix: Make):
    server = postfix({"postscreen_greet_action": "enforce", "postscreen_greet_wait": "1s"}, postscreen=True)
    async with politely(server) as asker:
        assert await asker.reasons("ann@known.test", "nobody@known.test") == ["accepted", "mailbox_missing"]
    assert "PREGREET" not in server.log()
    assert server.log().count("PASS NEW") == 1


async def test_deep_tests_of_postscreen_are_passed_and_the_second_look_finds_the_truth(postfix: Make):
    tests = ("pipelining", "non_smtp_command", "bare_newline")
    server = postfix(
        {"postscreen_greet_wait": "1s"}
        | {f"postscreen_{test}_enable": "yes" for test in tests}
        | {f"postscreen_{test}_action": "enforce" for test in tests},
        postscreen=True,
    )
    async with politely(server) as asker:
        results, put_off = await asker.check("ann@known.test", "nobody@known.test", last_look=False)
        assert results == [None, None]
        assert {late.reason for late in put_off} == {"server_error"}  # 4.3.2, in its words
        results, put_off = await asker.check("ann@known.test", "nobody@known.test", look=1)
    assert [result.reason for result in results if result] == ["accepted", "mailbox_missing"]
    assert put_off == []
    assert "450 4.3.2" in server.log()
    assert len(server.ends()) == 1


async def test_one_connection_at_once_is_respected_after_it_was_met(postfix: Make):
    server = postfix({**ANY_ANN, "smtpd_client_connection_count_limit": "1"})
    async with politely(server) as asker:
        assert await asker.reasons(*anns(250)) == ["accepted"] * 250
    assert 1 <= server.log().count("Connection concurrency limit exceeded") <= 3


async def test_two_connections_at_once_are_all_that_we_make(postfix: Make):
    server = postfix({**ANY_ANN, "smtpd_client_connection_count_limit": "2"})
    async with politely(server) as asker:
        batches = await asyncio.gather(*(asker.reasons(*anns(100)[start::4]) for start in range(4)))
    assert {reason for reasons in batches for reason in reasons} == {"accepted"}
    assert "Connection concurrency limit exceeded" not in server.log()


async def test_a_limit_on_connections_a_minute_puts_the_rest_off(postfix: Make):
    server = postfix({"smtpd_client_connection_rate_limit": "2"})
    async with politely(server) as asker:
        results, put_off = await asker.check(*unknown(60), last_look=False)
    judged = [result.reason for result in results if result]
    assert set(judged) == {"mailbox_missing"}
    assert len(judged) + len(put_off) == 60
    assert put_off
    assert server.log().count("Connection rate limit exceeded") <= 5


async def test_a_limit_on_recipients_a_minute_puts_the_rest_off(postfix: Make):
    server = postfix({**ANY_ANN, "smtpd_client_recipient_rate_limit": "20", "smtpd_error_sleep_time": "0"})
    async with politely(server, refusals=25) as asker:
        results, put_off = await asker.check(*anns(60), last_look=False)
    assert {result.reason for result in results if result} <= {"accepted"}
    assert len(put_off) >= 40
    assert {late.reason for late in put_off} == {"put_off"}
    assert server.log().count("Recipient address rate limit exceeded") < 40  # two flights may be under way by then


async def test_flights_are_no_unauthorised_pipelining(postfix: Make):
    server = postfix(
        {
            "smtpd_recipient_restrictions": "reject_unauth_pipelining",
            "smtpd_data_restrictions": "reject_unauth_pipelining",
            "smtpd_forbid_unauth_pipelining": "yes",
        }
    )
    async with politely(server) as asker:
        assert await asker.reasons("ann@known.test", *unknown(12)) == ["accepted", *["mailbox_missing"] * 12]


async def test_without_pipelining_one_command_follows_the_other(postfix: Make):
    server = postfix(
        {
            "smtpd_discard_ehlo_keywords": "pipelining",
            "smtpd_recipient_restrictions": "reject_unauth_pipelining",
            "smtpd_forbid_unauth_pipelining": "yes",
        }
    )
    async with politely(server) as asker:
        assert await asker.reasons("ann@known.test", *unknown(12)) == ["accepted", *["mailbox_missing"] * 12]


async def test_encryption_that_is_demanded_is_begun_once_and_remembered(postfix: Make, tmp_path: Path):
    keys = tmp_path / "key-and-certificate.pem"
    keys.write_bytes(make_certificate(["mx.known.test"]))
    server = postfix({"smtpd_tls_security_level": "encrypt", "smtpd_tls_chain_files": str(keys)})
    async with politely(server) as asker:
        assert await asker.reasons("ann@known.test", *unknown(30)) == ["accepted", *["mailbox_missing"] * 30]
    in_the_clear = [end for end in server.ends() if "starttls=1" not in end]
    assert 1 <= len(in_the_clear) <= 2  # who did not know it yet; errors that Postfix counted there are left behind
    assert all("mail=0/1" in end for end in in_the_clear)


async def test_encryption_that_is_only_offered_is_let_be(postfix: Make, tmp_path: Path):
    keys = tmp_path / "key-and-certificate.pem"
    keys.write_bytes(make_certificate(["mx.known.test"]))
    server = postfix({"smtpd_tls_security_level": "may", "smtpd_tls_chain_files": str(keys)})
    async with politely(server) as asker:
        assert await asker.reasons("ann@known.test") == ["accepted"]
    assert "starttls" not in "".join(server.ends())


async def test_while_an_address_is_being_verified_it_is_put_off(postfix: Make):
    server = postfix(
        {
            "local_recipient_maps": "",
            "smtpd_recipient_restrictions": "reject_unverified_recipient",
            "unverified_recipient_reject_code": "550",
            "address_verify_poll_count": "1",
            "address_verify_map": "",
            "transport_maps": "inline:{ {ann@known.test = discard:}, {known.test = error:5.1.1 User unknown} }",
        }
    )
    async with politely(server) as asker:
        results, put_off = await asker.check("ann@known.test", "nobody@known.test", last_look=False)
        assert results == [None, None]
        assert {late.reason for late in put_off} == {"put_off"}
        await until(lambda: len(re.findall("status=(un)?deliverable", server.log())) == 3)
        assert await asker.reasons("ann@known.test", "nobody@known.test") == ["accepted", "mailbox_missing"]
    assert "Address verification in progress" in server.log()


async def test_a_client_on_a_block_list_is_a_refusal_of_us(postfix: Make):
    server = postfix({"smtpd_client_restrictions": "check_client_access inline:{127.0.0.1=REJECT}"})
    async with politely(server) as asker:
        results = await asker.results("ann@known.test", *unknown(30))
    assert {(result.status, result.reason) for result in results} == {("unknown", "prober_blocked")}
    assert server.log().count("554 5.7.1") <= 20


async def test_a_client_on_a_block_list_is_told_so_in_the_banner(postfix: Make):
    text = "554 5.7.1 Service unavailable; Client host [127.0.0.1] blocked using bl.example"
    server = postfix(
        {
            "smtpd_delay_reject": "no",
            "smtpd_client_restrictions": f"check_client_access inline:{{ {{127.0.0.1 = {text}}} }}",
        }
    )
    async with politely(server) as asker:
        results = await asker.results("ann@known.test", *unknown(30))
    assert {(result.status, result.reason) for result in results} == {("unknown", "prober_blocked")}
    assert len(server.ends()) <= 2


async def test_a_refused_sender_or_helo_is_a_refusal_of_us(postfix: Make):
    server = postfix(
        {
            "smtpd_helo_restrictions": "check_helo_access inline:{probe.mailvet.test=REJECT}",
            "smtpd_helo_required": "yes",
        }
    )
    async with politely(server) as asker:
        assert await asker.reasons("ann@known.test", *unknown(3)) == ["prober_blocked"] * 4


async def test_a_refused_null_sender_is_a_refusal_of_us(postfix: Make):
    server = postfix({"smtpd_sender_restrictions": "check_sender_access inline:{<>=REJECT}"})
    async with politely(server) as asker:
        assert await asker.reasons("ann@known.test", *unknown(3)) == ["prober_blocked"] * 4


async def test_mail_for_a_domain_that_is_not_served_is_relay_denied(postfix: Make):
    server = postfix({})
    async with politely(server, domains=("known.test", "moved.test")) as asker:
        moved, known = await asker.results("ann@moved.test", "ann@known.test")
    assert (moved.status, moved.reason) == ("invalid", "relay_denied")
    assert (moved.details.smtp.code, moved.details.smtp.enhanced) == (554, "5.7.1")
    assert known.reason == "accepted"


async def test_relay_deferred_is_not_a_verdict(postfix: Make):
    server = postfix({"smtpd_relay_restrictions": "defer_unauth_destination"})
    async with politely(server, domains=("moved.test",)) as asker:
        assert await asker.reasons("ann@moved.test") == ["put_off"]


class Greylist:
    """A policy server (SMTPD_POLICY_README): the first time a recipient is asked about it is put off."""

    def __init__(self) -> None:
        self.met: Counter[str] = Counter()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while request := await reader.readuntil(b"\n\n"):
                attributes = dict(line.split("=", 1) for line in request.decode().split("\n") if line)
                self.met[attributes["recipient"]] += 1
                known = self.met[attributes["recipient"]] > 1
                writer.write(b"action=%s\n\n" % (b"DUNNO" if known else b"DEFER_IF_PERMIT 4.2.0 Greylisted, come back"))
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass  # Postfix let go
        finally:
            writer.close()


async def test_greylisted_addresses_are_valid_at_the_look_after_the_random_one_is_known(postfix: Make):
    greylist = Greylist()
    policy = await asyncio.start_server(greylist.serve, "127.0.0.1", 0)
    port = policy.sockets[0].getsockname()[1]
    server = postfix(
        {"smtpd_recipient_restrictions": f"reject_unlisted_recipient, check_policy_service inet:127.0.0.1:{port}"}
    )
    emails = ("ann@known.test", "bob@known.test", "nobody@known.test")
    async with policy, politely(server) as asker:
        results, put_off = await asker.check(*emails, last_look=False)
        assert [result.reason if result else None for result in results] == [None, None, "mailbox_missing"]
        assert [late.reason for late in put_off] == ["put_off", "put_off"]
        results, put_off = await asker.check(*emails[:2], look=1, last_look=False)
        assert [result.reason if result else None for result in results] == ["accepted", "accepted"]
    assert greylist.met["ann@known.test"] == 2


async def test_addresses_beyond_ascii_where_smtputf8_is_offered(postfix: Make):
    server = postfix({"smtputf8_enable": "yes", "local_recipient_maps": "inline:{ann=x, jürgen=x}"})
    async with politely(server) as asker:
        reasons = await asker.reasons("jürgen@known.test", "jörg@known.test", "ann@known.test")
    assert reasons == ["accepted", "mailbox_missing", "accepted"]


async def test_addresses_beyond_ascii_where_smtputf8_is_not_offered(postfix: Make):
    server = postfix({"smtputf8_enable": "no"})
    async with politely(server) as asker:
        results = await asker.results("jürgen@known.test", "ann@known.test")
    assert [result.reason for result in results] == ["protocol_error", "accepted"]
