import pytest
from hypothesis import given
from hypothesis import strategies as st

from validator.smtp.retry_hint import retry_hint


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("4.7.1 Greylisted for 300 seconds", 300),
        ("Try again in 5 minutes", 300),
        ("please retry after 00:05:00", 300),
        ("Greylisting in action, please come back in 00:04:58", 298),
        ("try again in 2h", 7200),
        ("deferred, wait 60", 60),
        ("Retry-After: 120", 120),
        ("too many connections, come back in 1 hour 30 minutes", 3600),
        ("Bitte in 10 Minuten erneut versuchen, später", 600),
        ("Veuillez réessayer dans 15 minutes", 900),
        ("Intente de nuevo en 20 minutos", 1200),
        ("Повторите попытку через 5 минут", 300),
        ("try again in 999999 hours", 86_400),
    ],
)
def test_the_time_a_host_names_is_understood(text, seconds):
    assert retry_hint(text) == seconds


@pytest.mark.parametrize(
    "text",
    [
        "Try again later",
        "User unknown",
        "Client host 192.0.2.30 blocked, retry with another",
        "queued as 300 s",
        "4.7.1 try again later (see http://mx.test/12)",
        "retry in 0 seconds",
        "",
    ],
)
def test_where_no_time_is_named_there_is_none(text):
    assert retry_hint(text) is None


@given(st.text(max_size=700))
def test_it_never_raises_and_is_bounded(text):
    hint = retry_hint("try again in " + text)
    assert hint is None or 1 <= hint <= 86_400
