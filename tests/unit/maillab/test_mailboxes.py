from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.maillab.mailboxes import kind_of, listed_words


@pytest.mark.parametrize(
    ("local", "kind"),
    [
        ("ann", "known"),
        ("ann.lee", "known"),
        ("a.lee", "known"),
        ("jsmith", "known"),
        ("anna_maria-smith42", "known"),
        ("user12345678", "known"),
        ("ann+news.letter", "known"),
        ("sales", "known"),
        ("missing1", "missing"),
        ("unknown.user", "missing"),
        ("bad7", "missing"),
        ("full.box", "full"),
        ("disabled", "disabled"),
        ("greylisted9", "grey"),
        ("x7k2q9vw", "random"),
        ("user123456789", "random"),
        ("a.b.c", "random"),
        ("ann.lee.smith.jones", "random"),
        ("nosuchperson", "random"),
        ("", "random"),
        ("大輔", "random"),
    ],
)
def test_local_parts_are_what_the_rule_says(local, kind):
    assert kind_of(local, "names") == kind


@pytest.mark.parametrize(
    ("known", "expected"), [("listed", ["random"] * 2), ("all", ["known"] * 2), ("users", ["random", "known"])]
)
def test_other_rules_keep_the_marked_prefixes(known, expected):
    assert [kind_of("ann", known), kind_of("user7.x7k2", known)] == expected
    assert kind_of("missing.ann", known) == "missing"


@given(st.integers())
def test_a_random_probe_is_never_taken_for_a_name(seed):
    chance = random.Random(seed)
    local = "".join(chance.choices("abcdefghijklmnopqrstuvwxyz0123456789", k=16))
    assert kind_of(local, "names") != "known"


def test_the_listed_words_are_plain_and_none_is_marked():
    words = listed_words()
    for word in (*words.first_names, *words.last_names, *words.roles, *words.plain_words):
        assert word.isascii()
        assert word.isalpha()
        assert kind_of(word, "names") == "known", word
