"""Wire answers read back by dnspython, and no message that upsets the server."""

from __future__ import annotations

import dns.message
import dns.rcode
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.maillab.dns_answers import encode_name
from services.maillab.dns_server import Answers
from services.maillab.wirelog import WireLog
from services.maillab.world import World


def answers_of(world: World) -> Answers:
    return Answers(world, WireLog(), lambda: 0.0)


def ask(answers: Answers, name: str, kind: str, *, tcp: bool = True, **options) -> dns.message.Message:
    query = dns.message.make_query(name, kind, **options)
    reply = answers.reply(query.to_wire(), tcp=tcp)
    assert reply is not None
    message = dns.message.from_wire(reply)
    assert query.is_response(message)
    return message


def test_every_type_reads_back():
    world = World()
    world.domain(
        "a.test", a=["127.0.0.1", "127.0.0.2"], aaaa=["::1"], mx=[(5, "mx.a.test"), (7, "mx.b.test")], txt=["t"]
    )
    answers = answers_of(world)
    assert {len(entry) for entry in ask(answers, "a.test", "A").answer} == {2}
    assert ask(answers, "a.test", "MX").answer[0].to_text().count("mx.") == 2
    assert {entry.rdtype.name for entry in ask(answers, "a.test", "ANY").answer} == {"A", "AAAA", "MX", "TXT"}
    assert ask(answers, "a.test", "CAA").answer == []


def test_a_question_keeps_the_case_it_was_asked_in():
    world = World()
    world.domain("mixed.test", mx=[(5, "mx.mixed.test")])
    message = ask(answers_of(world), "MiXeD.tEsT", "MX")
    assert message.question[0].name.to_text() == "MiXeD.tEsT."
    assert message.answer[0].name.to_text() == "MiXeD.tEsT."


def test_an_answer_is_kept_until_the_world_changes():
    world = World()
    world.domain("a.test", a=["127.0.0.1"])
    answers = answers_of(world)
    first = ask(answers, "a.test", "A", use_edns=0)
    assert ask(answers, "a.test", "A", use_edns=0).answer == first.answer
    world.domain("a.test", rcode="SERVFAIL")
    assert ask(answers, "a.test", "A").rcode() == dns.rcode.SERVFAIL


def test_an_alias_of_a_failing_name_fails_with_it():
    world = World()
    world.domain("alias.test", cname="bad.test")
    world.domain("bad.test", rcode="SERVFAIL")
    world.domain("to-silence.test", cname="silent.test")
    world.domain("silent.test", rcode="timeout")
    answers = answers_of(world)
    assert ask(answers, "alias.test", "MX").rcode() == dns.rcode.SERVFAIL
    assert ask(answers, "to-silence.test", "MX").rcode() == dns.rcode.SERVFAIL


def test_more_mx_than_a_message_holds_are_cut_at_its_end():
    world = World()
    world.domain("vast.test", mx=[(1, f"mail-exchanger-{n:05}.vast.test") for n in range(5_000)])
    assert 1_500 < len(ask(answers_of(world), "vast.test", "MX").answer[0]) < 5_000


@pytest.mark.parametrize("name", ["a..test", "a" * 64 + ".test"])
def test_labels_that_are_none_are_refused(name):
    with pytest.raises(ValueError, match="not a DNS name"):
        encode_name(name)


@settings(max_examples=300)
@given(st.binary(max_size=80))
def test_rubbish_never_raises(rubbish):
    answers = answers_of(World())
    for message in (rubbish, b"\0\1\1\0\0\1\0\0\0\0\0\0" + rubbish):
        reply = answers.reply(message, tcp=False)
        assert reply is None or reply[:2] == message[:2]


@settings(max_examples=200)
@given(st.lists(st.binary(min_size=1, max_size=63), max_size=3), st.integers(0, 65_535))
def test_any_name_and_type_gets_an_answer_that_reads(labels, kind):
    name = b"".join(bytes((len(label),)) + label for label in labels) + b"\0"
    question = b"\0\1\1\0\0\1\0\0\0\0\0\0" + name + kind.to_bytes(2, "big") + b"\0\1"
    reply = answers_of(World()).reply(question, tcp=False)
    assert reply is not None
    assert dns.message.from_wire(reply).rcode() == dns.rcode.NXDOMAIN
