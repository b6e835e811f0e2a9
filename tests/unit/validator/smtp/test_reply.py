"""The strict reply reader: the same for every cut of the bytes, and never an acceptance out of rubbish."""

from __future__ import annotations

import re
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from validator.smtp.reply import MAX_LINE, MAX_LINES, MAX_REPLY, MAX_TEXT, Reply, ReplyReader

LINE = re.compile(rb"[2-5][0-9]{2}([ -].*)?\Z", re.DOTALL)


def read(*pieces: bytes) -> tuple[list[Reply], bool]:
    """The replies, and whether the stream broke."""
    reader = ReplyReader()
    replies = [reply for piece in pieces for reply in reader.feed(piece)]
    return replies, reader.error is not None


def test_a_reply_of_one_line():
    assert read(b"250 2.1.5 Ok\r\n") == ([Reply(250, "2.1.5 Ok", ("2.1.5 Ok",))], False)


def test_a_reply_of_many_lines_is_one_reply():
    replies, broken = read(b"250-mx.test\r\n250-PIPELINING\r\n250 HELP\r\n")
    assert replies == [Reply(250, "mx.test PIPELINING HELP", ("mx.test", "PIPELINING", "HELP"))]
    assert not broken


@pytest.mark.parametrize("line", [b"250\r\n", b"250 \r\n", b"250\n", b"250 ok\n"])
def test_bare_codes_and_bare_line_feeds_are_read(line):
    replies, broken = read(line)
    assert [reply.code for reply in replies] == [250]
    assert not broken


@pytest.mark.parametrize(
    "line",
    [
        b"999 fine\r\n",
        b"25 ok\r\n",
        b"-50 ok\r\n",
        b"2x0 ok\r\n",
        b"000 ok\r\n",
        b"150 ok\r\n",
        b"650 ok\r\n",
        b"2500 ok\r\n",
        b"250ok\r\n",
        b"250\tok\r\n",
        b"Ok 250\r\n",
        b" 250 ok\r\n",
        b"\r\n",
        b"\xb2\xb5\xb0 ok\r\n",
        b"\xd9\xa2\xd9\xa5\xd9\xa0 ok\r\n",  # digits, but not ASCII ones
    ],
)
def test_what_is_no_reply_line_breaks_the_stream(line):
    assert read(line) == ([], True)


def test_lines_of_one_reply_must_carry_one_code():
    assert read(b"550-5.1.1 User unknown\r\n250 2.1.5 Ok\r\n") == ([], True)


def test_nothing_is_read_behind_a_violation():
    replies, broken = read(b"250 a\r\nrubbish\r\n250 b\r\n", b"250 c\r\n")
    assert [reply.text for reply in replies] == ["a"]
    assert broken


def test_a_line_may_have_2048_bytes_with_its_end_and_no_more():
    assert read(b"250 " + b"x" * (MAX_LINE - 6) + b"\r\n")[1] is False
    assert read(b"250 " + b"x" * (MAX_LINE - 5) + b"\r\n") == ([], True)


def test_an_endless_line_breaks_as_soon_as_it_is_too_long():
    reader = ReplyReader()
    for _ in range(MAX_LINE):
        reader.feed(b"x")
    assert reader.error is not None
    assert reader.empty


def test_an_endless_reply_breaks_at_a_hundred_lines():
    reader = ReplyReader()
    for _ in range(MAX_LINES):
        assert reader.feed(b"250-and another thing\r\n") == []
    assert reader.error is None
    reader.feed(b"250-and another thing\r\n")
    assert reader.error is not None


def test_a_reply_breaks_at_32_kib():
    line = b"250-" + b"x" * 1_500 + b"\r\n"
    reader = ReplyReader()
    fits = MAX_REPLY // len(line)
    for _ in range(fits):
        reader.feed(line)
    assert reader.error is None
    reader.feed(line)
    assert reader.error is not None


def test_controls_and_escape_sequences_are_not_shown():
    replies, _ = read(b"550 \x1b[31mred\x07\x00 \xe2\x80\xa8 \xc3 end\x7f\r\n")
    assert replies[0].text.isprintable()


def test_the_text_shown_is_bounded():
    replies, _ = read(*(b"550-" + b"y" * 400 + b"\r\n" for _ in range(5)), b"550 end\r\n")
    assert len(replies[0].text) == MAX_TEXT


def test_empty_tells_whether_a_reply_has_begun():
    reader = ReplyReader()
    assert reader.empty
    reader.feed(b"250-a\r\n")
    assert not reader.empty
    reader.feed(b"250 b\r\n")
    assert reader.empty
    reader.feed(b"2")
    assert not reader.empty


good_lines = st.sampled_from(
    [b"250 ok", b"250-ok", b"550 no", b"550-no", b"421 bye", b"250", b"550 5.1.1 <a@b.test> x"]
)
any_line = st.one_of(good_lines, st.binary(max_size=12), st.sampled_from([b"999 x", b"", b"25", b"250-"]))
streams = st.lists(any_line, max_size=12).flatmap(
    lambda lines: st.lists(st.sampled_from([b"\r\n", b"\n", b"\r"]), min_size=len(lines), max_size=len(lines)).map(
        lambda ends: b"".join(line + end for line, end in zip(lines, ends, strict=True))
    )
)


@given(streams, st.lists(st.integers(0, 200), max_size=12))
def test_every_cut_of_the_bytes_gives_the_same_replies(stream, cuts):
    places = sorted({min(cut, len(stream)) for cut in cuts} | {0, len(stream)})
    pieces = [stream[start:end] for start, end in pairwise(places)]
    assert read(*pieces) == read(stream)
    assert read(*(stream[place : place + 1] for place in range(len(stream)))) == read(stream)


@given(st.binary(max_size=400))
def test_hostile_bytes_never_raise_and_give_only_what_the_grammar_allows(stream):
    replies, broken = read(stream)
    lines = [line.removesuffix(b"\r") for line in stream.split(b"\n")[:-1]]
    assert len(replies) <= len(lines)
    if not broken:
        assert all(LINE.match(line) for line in lines)
    for reply in replies:
        assert 200 <= reply.code <= 599
        assert any(line.startswith(str(reply.code).encode()) for line in lines)


@given(streams)
def test_an_acceptance_needs_a_final_line_that_says_so(stream):
    replies, _ = read(stream)
    said = sum(bool(re.match(rb"250( |\r?\Z)", line)) for line in stream.split(b"\n")[:-1])
    assert sum(reply.code == 250 for reply in replies) <= said
