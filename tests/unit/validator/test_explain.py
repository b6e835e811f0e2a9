import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from validator.explain import address_lines, explain_address, explain_reply, explain_reply_line, reply_lines


def test_a_reply_is_explained_with_its_rule_and_verdict():
    told = explain_reply(550, "5.7.1 No such user!")
    assert told["class"] == "mailbox_missing"
    assert told["enhanced"] == "5.7.1"
    assert told["verdict"] == {"status": "invalid", "reason": "mailbox_missing"}
    assert told["rule"]
    assert told["source"]


@pytest.mark.parametrize(
    ("code", "text", "phase", "status", "reason"),
    [
        (250, "ok", "rcpt", "valid", "accepted"),
        (252, "cannot verify", "rcpt", "unknown", "protocol_error"),
        (450, "greylisted for 5 minutes", "rcpt", "unknown", "put_off"),
        (550, "user unknown", "mail", "unknown", "prober_blocked"),
        (550, "user unknown", "data", "invalid", "mailbox_missing"),
        (554, "relay access denied", "rcpt", "invalid", "relay_denied"),
        (454, "relay access denied", "rcpt", "unknown", "put_off"),
        (552, "mailbox full", "rcpt", "risky", "mailbox_full"),
        (554, "blocked using rbl.test", "rcpt", "unknown", "prober_blocked"),
        (999, "", "rcpt", "unknown", "protocol_error"),
    ],
)
def test_the_verdict_shown_is_the_judges(code, text, phase, status, reason):
    assert explain_reply(code, text, phase)["verdict"] == {"status": status, "reason": reason}


def test_the_wait_a_host_asks_for_is_shown():
    assert explain_reply(450, "greylisted for 300 seconds")["retryAfter"] == 300
    assert explain_reply(550, "user unknown for 300 seconds")["retryAfter"] is None


@pytest.mark.parametrize(
    ("line", "code"),
    [("550 5.1.1 User unknown", 550), ("550-5.1.1 a\n550 5.1.1 b", 550), ("421", 421), (" 250 ok", 250)],
)
def test_a_reply_as_a_server_prints_it_is_read(line, code):
    assert explain_reply_line(line)["code"] == code


@pytest.mark.parametrize("line", ["", "User unknown", "55 x", "5500 x"])
def test_a_reply_without_a_code_is_refused_in_words(line):
    with pytest.raises(ValueError, match="three-digit"):
        explain_reply_line(line)


def test_an_address_is_explained():
    told = explain_address("Info@GMIAL.com")
    assert told["valid"] is True
    assert told["normalized"] == "Info@gmial.com"
    assert told["reason"] is None
    assert told["role"] is True
    assert told["suggestion"] == "Info@gmail.com"
    assert explain_address("ann@corp.test\n")["valid"] is False
    assert explain_address("ann@")["reason"]


def test_lines_in_are_lines_out_and_a_bad_one_is_an_error_line():
    lines = [
        '{"code": 550, "text": "5.1.1 no such user"}\n',
        "junk\n",
        "\n",
        '{"code": "450", "text": "later", "phase": null}',
        "[]",
    ]
    lines += [
        '{"code": 1000}',
        '{"code": true}',
        '{"code": 550, "text": 5}',
        '{"code": 550, "phase": 5}',
        '{"code": 550}',
        "[" * 100_000,
    ]
    told = [json.loads(line) for line in reply_lines(lines)]
    assert len(told) == len(lines) - 1
    assert [("class" in answer, "error" in answer) for answer in told] == [
        (True, False), (False, True), (True, False), (False, True), (False, True),
        (False, True), (False, True), (False, True), (True, False), (False, True),
    ]  # fmt: skip


def test_address_lines_answer_one_by_one():
    told = [
        json.loads(line)
        for line in address_lines(['{"address": "ann@corp.test"}', '{"address": 5}', "{}", '{"address": "\\ud800"}'])
    ]
    assert [answer.get("valid") for answer in told] == [True, None, None, False]
    assert [("error" in answer) for answer in told] == [False, True, True, False]


def test_bytes_that_are_no_text_are_an_error_line():
    told = [json.loads(line) for line in address_lines([b'{"address": "ann@corp.test"}', b"\xff\xfe", b""])]
    assert [("error" in answer) for answer in told] == [False, True]


@given(
    st.one_of(
        st.text(),
        st.builds(
            json.dumps,
            st.dictionaries(
                st.sampled_from(["code", "text", "phase", "address"]),
                st.one_of(st.none(), st.integers(), st.text(), st.floats(), st.booleans()),
                max_size=4,
            ),
        ),
    )
)
def test_no_line_ends_the_stream(line):
    for lines in (reply_lines, address_lines):
        for answer in lines([line]):
            assert isinstance(json.loads(answer), dict)
