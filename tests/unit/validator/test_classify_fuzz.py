"""A mail host chooses the text: whatever it says, the classifier ends soon and believes no 4xx about a mailbox."""

from __future__ import annotations

import re

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from validator.smtp.classify import MAX_TEXT, ReplyClass, _read, classify, classify_cached, rules
from validator.smtp.retry_hint import retry_hint

MOST = 32_768  # what the reply reader lets through
PHASES = st.sampled_from(["connect", "banner", "ehlo", "starttls", "mail", "rcpt", "data", "", "RCPT"])
WORDS = sorted({word for rule in rules() if rule.text for word in re.findall(r"[^\W\d_]{3,}", rule.text.pattern)})
GROUP = re.compile(r"\(\?[:>]([^()]*)\)(?:[*+]|\{\d+,\d\d)")  # alternatives that repeat often
PERMANENT = {ReplyClass.MAILBOX_MISSING, ReplyClass.MAILBOX_DISABLED}
EXAMPLES = settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)

texts = st.one_of(
    st.text(max_size=300),
    st.lists(
        st.sampled_from([*WORDS, "5.1.1", "4.2.2", "<a@b.test>", "(x)", '"x"', "http://x", "'", "="]), max_size=60
    ).map(" ".join),
    st.tuples(st.text(min_size=1, max_size=5), st.integers(1, MOST)).map(lambda found: (found[0] * found[1])[:MOST]),
)


@EXAMPLES
@given(st.integers(-1, 10_000), texts, PHASES)
def test_any_text_has_a_class_and_a_4xx_never_a_permanent_one(code, text, phase):
    found = classify(code, text, phase)
    assert classify_cached(code, text, phase, "a@b.test").cls in ReplyClass
    assert (found.cls is ReplyClass.ACCEPTED) == (200 <= code <= 299)
    if 400 <= code <= 499:
        assert found.cls not in PERMANENT
    hint = retry_hint(text)
    assert hint is None or 1 <= hint <= 86_400


@given(texts)
def test_what_the_rules_look_at_is_short_whatever_comes(text):
    read = _read(550, text)
    assert len(read.text) <= MAX_TEXT
    assert len(read.urls) <= MAX_TEXT


def test_letters_that_unfold_into_many_do_not_make_it_longer():
    assert len(_read(550, "\ufdfa" * MOST).text) <= MAX_TEXT


@pytest.mark.parametrize(
    "text",
    [
        "envelope sender " + "not " * 10_000,
        "verify " + "rfc.5321 " * 4_000,
        'user "="=' + '"="=' * 8_000,
        "user " + "och " * 8_000,
        'account"a"' * 3_000,
        "account(a)" * 3_000,
        "quota " + "is has been was " * 2_000,
        "no " + "such account " * 2_000,
        "from " * 6_000,
        "9" * MOST,
        "<a@" * 10_000,
        "http://" * 4_000,
    ],
)
def test_a_text_made_to_be_read_in_many_ways_is_read_at_all(text):
    """Where alternatives of a repeated group overlap, these take longer than the test may."""
    for code in (450, 550):
        classify(code, text)
    retry_hint(text)


@pytest.mark.parametrize("rule", [rule for rule in rules() if rule.text is not None], ids=lambda rule: rule.id)
def test_no_two_alternatives_of_a_repeated_group_take_the_same_words(rule):
    """Each such pair doubles the ways to read a text with every repetition."""
    for group in GROUP.findall(rule.text.pattern):
        ways = group.split("|")
        plain = [way for way in ways if re.fullmatch(r"[\w @'-]+", way)]
        assert len(set(ways)) == len(ways), group
        for words in plain:
            assert [way for way in ways if re.fullmatch(way, words)] == [words], group


@pytest.mark.parametrize(
    "text",
    [
        'user "unknown"',
        "user (unknown)",
        'recipient "joe" is unknown',
        "user (joe) does not exist",
        'mailbox "is unknown"',
    ],
)
def test_quotes_and_brackets_between_the_noun_and_its_fate_are_passed(text):
    assert classify(550, text).cls is ReplyClass.MAILBOX_MISSING
