"""Which reply belongs to whom, and when an answer may be believed."""

from __future__ import annotations

import asyncio

import pytest

from shared.verdict import ADDRESS
from tests.unit.validator.smtp.spoken_to import connected
from validator.evidence import Attempt, Outcome, Phase
from validator.smtp.classify import ReplyClass
from validator.smtp.conversation import Conversation
from validator.smtp.pace import Pace
from validator.smtp.recipient import Recipient


class Asker:
    """Keeps the answers by address."""

    closed = False

    def __init__(self, companion: str | None = None, *, traced: bool = False) -> None:
        self.name = companion
        self.traced = traced
        self.answers: dict[str, Attempt] = {}
        self.traces: dict[str, tuple] = {}

    @property
    def curious(self) -> bool:
        return self.name is not None

    def companion(self, *, greylisted: bool) -> Recipient | None:
        name, self.name = self.name, None
        return Recipient(name, self, 0) if name else None

    def answered(self, recipient: Recipient, attempt: Attempt) -> None:
        self.answers[recipient.address] = attempt
        self.traces[recipient.address] = recipient.trace


def recipients(asker: Asker, *addresses: str) -> list[Recipient]:
    return [Recipient(address, asker, index, smtputf8=not address.isascii()) for index, address in enumerate(addresses)]


async def opened(*extensions: str, mail_from: str = ""):
    session, peer = connected()
    talk = Conversation(
        session, host="mx.test", address="192.0.2.1", helo="probe.test", mail_from=mail_from, pace=Pace()
    )
    opening = asyncio.create_task(talk.open(None))
    peer.say("220 mx.test")
    await peer.heard(b"EHLO probe.test\r\n")
    peer.say("250-mx.test", *(f"250-{name}" for name in extensions), "250 HELP")
    assert await opening is None
    return talk, peer


async def asked(talk, peer, batch, *replies: str, last: bool = False) -> tuple[str, list[Recipient]]:
    """One flight: what was written, and who must be asked again."""
    asking = asyncio.create_task(talk.ask(batch, last=last))
    while not peer.written:
        await asyncio.sleep(0)
    written = bytes(peer.written).decode()
    peer.written.clear()
    for reply in replies:
        peer.say(reply)
    return written, await asking


async def left(talk, peer, *replies: str) -> None:
    ending = asyncio.create_task(talk.end())
    await peer.heard(b"QUIT\r\n")
    for reply in replies:
        peer.say(reply)
    await ending


async def test_one_flight_is_mail_and_recipients_and_quit_together():
    talk, peer = await opened("PIPELINING")
    asker = Asker()
    written, again = await asked(
        talk, peer, recipients(asker, "a@x.test", "b@x.test"), "250 ok", "250 a", "550 5.1.1 b", "221 bye", last=True
    )
    assert written == "MAIL FROM:<>\r\nRCPT TO:<a@x.test>\r\nRCPT TO:<b@x.test>\r\nQUIT\r\n"
    assert again == []
    assert asker.answers == {}  # not before the session ended in order
    await talk.end()
    talk.release()
    assert {name: attempt.code for name, attempt in asker.answers.items()} == {"a@x.test": 250, "b@x.test": 550}
    assert asker.answers["b@x.test"].kind is ReplyClass.MAILBOX_MISSING


async def test_replies_of_many_lines_are_never_taken_for_one_another():
    talk, peer = await opened("PIPELINING")
    asker = Asker()
    for number in range(50):
        yes = number % 2
        replies = ["250-2.1.5 Yes", "250 2.1.5 Yes"] if yes else ["550-5.1.1 No", "550 5.1.1 No"]
        prelude = ["250 ok"] if number == 0 else []
        await asked(talk, peer, recipients(asker, f"a{number}@x.test"), *prelude, *replies)
    await left(talk, peer, "221 bye")
    talk.release()
    assert [attempt.code for attempt in asker.answers.values()] == [550, 250] * 25


async def test_mail_is_said_once_for_many_flights():
    talk, peer = await opened("PIPELINING")
    asker = Asker()
    await asked(talk, peer, recipients(asker, "a@x.test"), "250 ok", "250 a")
    written, _ = await asked(talk, peer, recipients(asker, "b@x.test"), "250 b")
    assert written == "RCPT TO:<b@x.test>\r\n"
    await left(talk, peer, "221 bye")


async def test_without_pipelining_every_command_waits_for_its_reply():
    talk, peer = await opened()
    asker = Asker()
    asking = asyncio.create_task(talk.ask(recipients(asker, "a@x.test", "b@x.test"), last=True))
    for line, reply in (
        (b"MAIL FROM:<>\r\n", "250 ok"),
        (b"RCPT TO:<a@x.test>\r\n", "250 a"),
        (b"RCPT TO:<b@x.test>\r\n", "550 b"),
        (b"QUIT\r\n", "221 bye"),
    ):
        assert await peer.heard(b"\r\n") == line
        peer.say(reply)
    assert await asking == []
    talk.release()
    assert [attempt.code for attempt in asker.answers.values()] == [250, 550]


async def test_a_glued_reply_voids_everything_the_session_said():
    talk, peer = await opened("PIPELINING")
    asker = Asker()
    batch = recipients(asker, "a@x.test", "b@x.test")
    # A 250 too many behind MAIL: b's refusal comes where QUIT's reply should be.
    await asked(talk, peer, batch, "250 ok", "250 glued", "250 a", "550 b", "221 bye", last=True)
    await talk.end()
    assert talk.session.desync
    assert talk.trouble.outcome is Outcome.PROTOCOL_ERROR
    assert talk.void() == batch
    assert asker.answers == {}


async def test_the_companion_of_a_greylisted_recipient_waits_out_the_greylist_with_it():
    talk, peer = await opened("PIPELINING")
    batch = recipients(Asker("random@x.test"), "a@x.test")
    await asked(talk, peer, batch, "250 ok", "451 4.7.1 Greylisted, try again later")
    assert [companion.address for companion in talk.companions] == ["random@x.test"]


@pytest.mark.parametrize("last", [False, True])
async def test_a_glued_reply_to_mail_loses_nobody_where_commands_go_one_by_one(last):
    talk, peer = await opened()
    batch = recipients(Asker(), "a@x.test")
    asking = asyncio.create_task(talk.ask(batch, last=last))
    await peer.heard(b"MAIL FROM:<>\r\n")
    peer.session.data_received(b"250 ok\r\n250 glued\r\n")
    assert await asking == batch
    assert talk.trouble.outcome is Outcome.PROTOCOL_ERROR


async def test_a_bad_sequence_in_a_flight_is_nobodys_answer():
    talk, peer = await opened("PIPELINING")
    batch = recipients(Asker(), "a@x.test", "b@x.test")
    _, again = await asked(talk, peer, batch, "250 ok", "503 5.5.1 need MAIL", "503 5.5.1 need MAIL")
    assert again == batch
    assert talk.session.desync


async def test_a_bad_sequence_is_an_answer_where_commands_go_one_by_one():
    talk, peer = await opened()
    asking = asyncio.create_task(talk.ask(recipients(Asker(), "a@x.test"), last=False))
    await peer.heard(b"MAIL FROM:<>\r\n")
    peer.say("250 ok")
    await peer.heard(b"RCPT TO:<a@x.test>\r\n")
    peer.say("503 5.5.1 no")
    assert await asking == []
    assert talk.held == 1


@pytest.mark.parametrize(("answered", "lost"), [((), True), (("250 ok",), True), (("250 ok", "250 a"), False)])
async def test_a_flight_is_lost_when_the_host_hangs_up_before_any_answer(answered, lost):
    talk, peer = await opened("PIPELINING")
    asking = asyncio.create_task(talk.ask(recipients(Asker(), "a@x.test", "b@x.test"), last=False))
    await peer.heard(b"RCPT TO:<b@x.test>\r\n")
    peer.say(*answered)
    peer.hang_up()
    assert len(await asking) == (2 if lost else 1)
    assert talk.lost_in_flight is lost


async def test_a_late_reply_is_noticed_at_quit():
    talk, peer = await opened("PIPELINING")
    asker = Asker()
    batch = recipients(asker, "a@x.test")
    await asked(talk, peer, batch, "250 ok", "250 glued")
    await left(talk, peer, "550 a", "221 bye")
    assert talk.session.desync
    assert talk.void() == batch


async def test_a_host_that_closes_instead_of_221_is_believed():
    talk, peer = await opened("PIPELINING")
    asker = Asker()
    asking = asyncio.create_task(talk.ask(recipients(asker, "a@x.test"), last=True))
    await peer.heard(b"QUIT\r\n")
    peer.say("250 ok", "250 a")
    peer.hang_up()
    assert await asking == []
    await talk.end()
    assert talk.trouble is None
    talk.release()
    assert asker.answers["a@x.test"].code == 250


async def test_a_reply_that_names_another_recipient_is_out_of_order():
    talk, peer = await opened("PIPELINING")
    asker = Asker()
    batch = recipients(asker, "a@x.test", "b@x.test")
    _, again = await asked(talk, peer, batch, "250 ok", "550 <b@x.test> unknown", "250 <a@x.test> ok")
    assert talk.session.desync
    assert again == batch
    assert talk.held == 0


async def test_a_reply_that_names_an_alias_is_in_order():
    talk, peer = await opened("PIPELINING")
    asker = Asker()
    _, again = await asked(talk, peer, recipients(asker, "a@x.test"), "250 ok", "251 forwarding to <c@y.test>")
    assert again == []
    assert not talk.session.desync
    talk.session.close()


async def test_too_many_recipients_is_about_the_transaction():
    talk, peer = await opened("PIPELINING")
    asker = Asker()
    batch = recipients(asker, "a@x.test", "b@x.test", "c@x.test")
    too_many = "452 4.5.3 Too many recipients"
    _, again = await asked(talk, peer, batch, "250 ok", "250 a", "250 b", too_many)
    assert [recipient.address for recipient in again] == ["c@x.test"]
    assert talk.room == 2
    written, again = await asked(talk, peer, again, "250 reset", "250 ok", "250 c")
    assert written == "RSET\r\nMAIL FROM:<>\r\nRCPT TO:<c@x.test>\r\n"
    assert again == []
    talk.session.close()


async def test_too_many_recipients_for_the_first_one_is_its_answer():
    talk, peer = await opened("PIPELINING")
    asker = Asker()
    _, again = await asked(talk, peer, recipients(asker, "a@x.test"), "250 ok", "452 4.5.3 Too many recipients")
    assert again == []
    assert talk.refused == 1
    talk.session.close()


@pytest.mark.parametrize("goodbye", ["421 4.7.0 too many errors", "221 2.0.0 goodbye"])
async def test_a_goodbye_at_rcpt_is_nobodys_answer(goodbye):
    talk, peer = await opened("PIPELINING")
    asker = Asker()
    batch = recipients(asker, "a@x.test", "b@x.test", "c@x.test")
    _, again = await asked(talk, peer, batch, "250 ok", "550 a", goodbye, "550 c")
    assert again == batch[1:]
    assert talk.trouble.code == int(goodbye[:3])
    talk.session.close()
    talk.release()
    assert set(asker.answers) == {"a@x.test"}


async def test_a_refused_mail_is_said_to_all_and_stops_the_host():
    talk, peer = await opened("PIPELINING")
    asker = Asker()
    _, again = await asked(
        talk, peer, recipients(asker, "a@x.test", "b@x.test"), "550 5.7.1 blocked", "503 no", "503 no"
    )
    assert again == []
    assert talk.refusal.phase is Phase.MAIL
    await left(talk, peer, "221 bye")
    talk.release()
    assert {attempt.phase for attempt in asker.answers.values()} == {Phase.MAIL}


async def test_refusals_of_us_in_a_row_stop_the_host_and_an_acceptance_forgives():
    talk, peer = await opened("PIPELINING")
    asker = Asker()
    blocked = "550 5.7.1 Service unavailable; client host blocked using zen.spamhaus.org"
    batch = recipients(asker, *(f"{name}@x.test" for name in "abcd"))
    await asked(talk, peer, batch, "250 ok", blocked, blocked, "250 c", blocked)
    assert talk.refusal is None
    assert talk.wary
    await asked(talk, peer, recipients(asker, "e@x.test", "f@x.test"), blocked, blocked)
    assert talk.refusal.kind is ReplyClass.SENDER_BLOCKED
    talk.session.close()


async def test_what_is_said_of_each_by_name_is_one_answer():
    talk, peer = await opened("PIPELINING")
    asker = Asker(traced=True)
    said = [f"550 5.1.1 <{name}@x.test>: no such user" for name in "ab"]
    await asked(talk, peer, recipients(asker, "a@x.test", "b@x.test"), "250 ok", *said)
    await left(talk, peer, "221 bye")
    talk.release()
    one, two = asker.answers.values()
    assert one is two
    assert one.text == f"5.1.1 <{ADDRESS}>: no such user"
    assert one.kind is ReplyClass.MAILBOX_MISSING
    lines = [line for trace in asker.traces.values() for line in trace if line["phase"] == Phase.RCPT]
    assert [line["reply"] for line in lines] == said


@pytest.mark.parametrize(
    ("replies", "why"),
    [
        (["250 ok", "421 4.7.0 <a@x.test>: too much"], "trouble"),
        (["250 ok", "550 5.7.1 <a@x.test>: your client host is blocked"] + 2 * ["550 5.7.1 Blocked"], None),
        (["250 ok"] + 2 * ["550 5.7.1 Blocked"] + ["550 5.7.1 <c@x.test>: your client host is blocked"], "refusal"),
        (["250 ok", "250 a", "250 b", "452 4.5.3 <c@x.test>: too many recipients of this connection"], None),
    ],
)
async def test_nobody_is_told_whom_else_the_host_was_asked_about(replies, why):
    talk, peer = await opened("PIPELINING")
    asker = Asker()
    asking = asyncio.create_task(talk.ask(recipients(asker, *(f"{name}@x.test" for name in "abc")), last=False))
    while not peer.written:
        await asyncio.sleep(0)
    for reply in replies:
        peer.say(reply)
    if len(replies) < 4:
        peer.hang_up()
    await asking
    for_all = [attempt for attempt in (talk.trouble, talk.refusal) if attempt is not None]
    assert not any(ADDRESS in attempt.text or "@x.test" in attempt.text for attempt in for_all)
    if why is not None:
        assert "(an address)" in getattr(talk, why).text
    talk.session.close()


async def test_tls_is_asked_for_by_530_where_it_is_offered():
    talk, peer = await opened("PIPELINING", "STARTTLS")
    asker = Asker()
    batch = recipients(asker, "a@x.test")
    _, again = await asked(talk, peer, batch, "530 5.7.0 Must issue a STARTTLS command first", "503 no")
    assert again == batch
    assert talk.tls_asked_for
    assert talk.refusal is None
    talk.session.close()


async def test_530_without_an_offer_is_an_answer():
    talk, peer = await opened("PIPELINING")
    asker = Asker()
    _, again = await asked(talk, peer, recipients(asker, "a@x.test"), "530 5.7.0 Authentication required", "503 no")
    assert again == []
    assert talk.refusal.code == 530
    talk.session.close()


async def test_an_international_address_has_its_own_transaction():
    talk, peer = await opened("PIPELINING", "SMTPUTF8")
    asker = Asker()
    await asked(talk, peer, recipients(asker, "a@x.test"), "250 ok", "250 a")
    written, _ = await asked(talk, peer, recipients(asker, "jürgen@x.test"), "250 ok", "250 ok", "250 j")
    assert written == "RSET\r\nMAIL FROM:<> SMTPUTF8\r\nRCPT TO:<jürgen@x.test>\r\n"
    talk.session.close()


async def test_an_international_address_is_not_asked_where_smtputf8_is_not_offered():
    talk, peer = await opened("PIPELINING")
    asker = Asker()
    assert await talk.ask(recipients(asker, "jürgen@x.test"), last=False) == []
    assert bytes(peer.written) == b""
    talk.session.close()
    talk.release()
    assert asker.answers["jürgen@x.test"].outcome is Outcome.NO_SMTPUTF8


async def test_the_companion_is_named_by_the_first_acceptance_only():
    talk, peer = await opened("PIPELINING")
    asker = Asker("random@x.test")
    batch = recipients(asker, "a@x.test", "b@x.test", "c@x.test")
    await asked(talk, peer, batch, "250 ok", "550 a", "250 b", "250 c")
    assert [companion.address for companion in talk.companions] == ["random@x.test"]
    talk.session.close()


@pytest.mark.parametrize("address", ["a@x.test>\r\nRCPT TO:<b@x.test", "a\n@x.test", "a\r@x.test", "a\0@x.test"])
async def test_an_address_that_is_more_than_one_argument_is_never_written(address):
    talk, peer = await opened("PIPELINING")
    with pytest.raises(ValueError, match="more than one argument"):
        await talk.ask(recipients(Asker(), address), last=False)
    assert bytes(peer.written) == b""
    talk.session.close()


async def test_a_trace_tells_what_was_said_about_this_recipient_and_no_other():
    talk, peer = await opened("PIPELINING", mail_from="probe@y.test")
    asker = Asker(traced=True)
    await asked(talk, peer, recipients(asker, "a@x.test", "b@x.test"), "250 ok", "250 a", "550 b", "221 bye", last=True)
    talk.release()
    lines = asker.traces["a@x.test"]
    assert [line["sent"] for line in lines] == [
        "",
        "EHLO probe.test",
        "MAIL FROM:<probe@y.test>",
        "RCPT TO:<a@x.test>",
        "QUIT",
    ]
    assert {line["host"] for line in lines} == {"mx.test"}
    assert "b@x.test" not in str(lines)
