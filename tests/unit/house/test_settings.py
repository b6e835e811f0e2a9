"""Settings are read once and refused with the name of what is wrong."""

import pytest

from shared.errors import SettingsError
from shared.settings import Settings


@pytest.fixture(autouse=True)
def clean(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)  # no .env of the developer


def test_lists_are_separated_by_commas(monkeypatch):
    monkeypatch.setenv("MAILVET_DNS_NAMESERVERS", "127.0.0.1:5300, [::1]:53")
    monkeypatch.setenv("MAILVET_RETRY_DELAYS", "1,2.5")
    settings = Settings.load()
    assert settings.dns_nameservers == ("127.0.0.1:5300", "[::1]:53")
    assert settings.retry_delays == (1, 2.5)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("MAILVET_PORT", "http"),
        ("MAILVET_API_KEY", "too short"),
        ("MAILVET_PROBE_ALLOW_NETWORKS", "10.0.0.0/99"),
        ("MAILVET_WEBHOOK_ALLOW_NETWORKS", "127.0.0.0/8,here"),
        ("MAILVET_RETRY_DELAYS", "60,soon"),
        ("MAILVET_RETRY_DELAYS", "-1"),
        ("MAILVET_PROBE_SOURCE_ADDRESSES", "localhost"),
        ("MAILVET_PROBE_HELO", "our host.example"),
        ("MAILVET_PROBE_HELO", "a.example\r\nRSET"),
        ("MAILVET_PROBE_MAIL_FROM", "postmaster"),
        ("MAILVET_PROBE_MAIL_FROM", "<a@b.example"),
        ("MAILVET_PROBE_MAIL_FROM", "a@b.example\r\nRSET"),
        ("MAILVET_PROBE_MAIL_FROM", "Ann <a@b.example>"),
    ],
)
def test_a_wrong_value_is_refused_by_name(monkeypatch, name, value):
    monkeypatch.setenv(name, value)
    with pytest.raises(SettingsError) as refused:
        Settings.load()
    assert refused.value.setting == name
    assert "\n" not in str(refused.value)


def test_what_a_deployable_needs_and_does_not_get_is_named(monkeypatch):
    with pytest.raises(SettingsError, match="MAILVET_AMQP_URL"):
        Settings.load().need("amqp_url")


def test_overrides_win_over_the_environment(monkeypatch):
    monkeypatch.setenv("MAILVET_PORT", "1")
    assert Settings.load(port=2).port == 2
