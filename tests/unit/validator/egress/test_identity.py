"""Who we are: the sender, the source address of a domain, and settings that are refused."""

import pytest

from shared.errors import SettingsError
from shared.settings import Settings
from validator.egress.identity import ForbiddenAddress, Identity, check_sources

SOURCES = ("192.0.2.1", "192.0.2.2", "192.0.2.3", "2001:db8::1")


def identity(**values):
    return Identity(Settings(_env_file=None, probe_helo="probe.example", **values))


@pytest.mark.parametrize(
    ("given", "sender"), [("<>", ""), ("", ""), ("<a@b.example>", "a@b.example"), ("a@b.example", "a@b.example")]
)
def test_the_sender_comes_without_brackets(given, sender):
    assert identity(probe_mail_from=given).mail_from == sender


def test_a_domain_always_meets_the_same_source_address_and_domains_are_spread():
    ours = identity(probe_source_addresses=SOURCES)
    chosen = [ours.source_for(f"d{number}.example", "8.8.8.8") for number in range(300)]
    assert chosen == [ours.source_for(f"d{number}.example", "1.1.1.1") for number in range(300)]
    for source in SOURCES[:3]:
        assert 50 < chosen.count(source) < 150


def test_a_new_source_address_moves_only_its_share():
    before, after = identity(probe_source_addresses=SOURCES[:2]), identity(probe_source_addresses=SOURCES[:3])
    for number in range(300):
        source = after.source_for(f"d{number}.example", "8.8.8.8")
        assert source in (before.source_for(f"d{number}.example", "8.8.8.8"), SOURCES[2])


def test_the_source_is_of_the_targets_kind_or_the_systems_choice():
    ours = identity(probe_source_addresses=SOURCES)
    assert ours.source_for("a.example", "2606:4700::1") == "2001:db8::1"
    assert identity(probe_source_addresses=SOURCES[:1]).source_for("a.example", "2606:4700::1") is None
    assert identity().source_for("a.example", "8.8.8.8") is None


@pytest.mark.parametrize("url", ["proxy", "http://127.0.0.1:1", "socks4://127.0.0.1:1", "socks5://127.0.0.1"])
def test_a_proxy_that_is_not_socks5_is_refused(url):
    with pytest.raises(SettingsError, match="MAILVET_PROBE_PROXY"):
        identity(probe_proxy=url)


@pytest.mark.parametrize("address", ["127.0.0.1", "10.0.0.1", "::ffff:127.0.0.1", "mx.example.com", "127.1"])
async def test_nothing_is_sent_to_a_forbidden_address(address):
    with pytest.raises(ForbiddenAddress) as refused:
        await identity().connect(address, 25, 1, lambda: None)
    assert not refused.value.theirs
    assert not refused.value.temporary


def test_a_source_address_of_another_machine_is_refused_by_name():
    check_sources(["127.0.0.1"])
    with pytest.raises(SettingsError, match=r"MAILVET_PROBE_SOURCE_ADDRESSES: .*192\.0\.2\.1"):
        check_sources(["127.0.0.1", "192.0.2.1"])
