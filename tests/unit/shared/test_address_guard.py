"""The table of what may be contacted. Each row is an address that some library or platform gets wrong."""

from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.address_guard import NOT_AN_ADDRESS, allowed_networks, forbidden, is_ip_like

FORBIDDEN = [
    ("0.0.0.0", "this network"),
    ("0.1.2.3", "this network"),
    ("10.0.0.1", "private"),
    ("100.64.0.1", "carrier-grade NAT"),
    ("100.127.255.255", "carrier-grade NAT"),
    ("100.100.100.200", "metadata"),
    ("127.0.0.1", "loopback"),
    ("127.255.255.254", "loopback"),
    ("169.254.1.1", "link-local"),
    ("169.254.169.254", "metadata"),
    ("168.63.129.16", "metadata"),
    ("172.16.0.1", "private"),
    ("172.31.255.255", "private"),
    ("192.0.0.1", "protocol assignments"),
    ("192.0.0.8", "protocol assignments"),
    ("192.0.2.1", "documentation"),
    ("192.88.99.1", "6to4 relay"),
    ("192.168.1.1", "private"),
    ("198.18.0.1", "benchmarking"),
    ("198.19.255.255", "benchmarking"),
    ("198.51.100.7", "documentation"),
    ("203.0.113.9", "documentation"),
    ("224.0.0.1", "multicast"),
    ("239.255.255.255", "multicast"),
    ("240.0.0.1", "reserved"),
    ("255.255.255.255", "broadcast"),
    ("::", "unspecified"),
    ("::1", "loopback"),
    ("::127.0.0.1", "loopback"),
    ("::8.8.8.8", "IPv4-compatible"),
    ("::ffff:127.0.0.1", "loopback"),
    ("::ffff:10.0.0.1", "private"),
    ("::ffff:169.254.169.254", "metadata"),
    ("64:ff9b::7f00:1", "loopback"),
    ("64:ff9b::a9fe:a9fe", "metadata"),
    ("64:ff9b::a00:1", "private"),
    ("64:ff9b:1::1", "this network"),
    ("64:ff9b:1::808:808", "this network"),
    ("64:ff9b:1:808:8:800::", "this network"),
    ("100::1", "discard only"),
    ("2001:0:7f00:1::", "loopback"),  # Teredo server
    ("2001:0:4136:e378:8000:63bf:80ff:fffe", "loopback"),  # Teredo client, bits inverted
    ("2001:0:808:808:0:0:f7f7:f7f7", "protocol assignments"),  # Teredo between public addresses
    ("2001:2::1", "protocol assignments"),
    ("2001:db8::1", "documentation"),
    ("2002:7f00:1::", "loopback"),
    ("2002:a9fe:a9fe::", "metadata"),
    ("2002:a00:1::1", "private"),
    ("3fff::1", "documentation"),
    ("2606:4700::5efe:127.0.0.1", "loopback"),  # ISATAP
    ("2606:4700::200:5efe:192.168.0.1", "private"),
    ("5f00::1", "segment routing"),
    ("fc00::1", "private"),
    ("fd00:ec2::254", "metadata"),
    ("fd12:3456::1", "private"),
    ("fe80::1", "link-local"),
    ("fe80::1%eth0", "link-local"),
    ("fec0::1", "site-local"),
    ("ff02::1", "multicast"),
    ("4000::1", "outside global unicast"),
    ("2606:4700::1%eth0", "outside global unicast"),
    ("mx.example.com", NOT_AN_ADDRESS),
    ("127.1", NOT_AN_ADDRESS),
    ("", NOT_AN_ADDRESS),
]

ALLOWED = [
    "8.8.8.8",
    "1.1.1.1",
    "9.255.255.255",
    "11.0.0.0",
    "100.63.255.255",
    "100.128.0.0",
    "128.0.0.1",
    "168.63.129.15",
    "172.32.0.1",
    "192.0.1.1",
    "198.20.0.1",
    "223.255.255.255",
    "2606:4700::1111",
    "2a00:1450:4001::1a",
    "::ffff:8.8.8.8",
    "64:ff9b::808:808",
    "2002:808:808::1",
    "2606:4700::5efe:8.8.8.8",
]


@pytest.mark.parametrize(("address", "name"), FORBIDDEN)
def test_a_special_purpose_address_is_refused_by_the_name_of_its_range(address, name):
    assert forbidden(address) == name


@pytest.mark.parametrize("address", ALLOWED)
def test_a_public_address_may_be_contacted(address):
    assert forbidden(address) is None
    assert forbidden(ip_address(address)) is None


def test_an_allowed_network_wins_over_every_range_also_when_hidden_in_ipv6():
    allow = allowed_networks(("127.0.0.0/8", "fd00:1::/32"))
    assert forbidden("127.0.0.1", allow) is None
    assert forbidden("::ffff:127.0.0.1", allow) is None
    assert forbidden("fd00:1::5", allow) is None
    assert forbidden("10.0.0.1", allow) == "private"
    assert forbidden("::1", allow) == "loopback"


def test_an_allowed_network_may_have_host_bits_set_and_must_be_one():
    assert allowed_networks(("10.1.2.3/8",)) == (ip_network("10.0.0.0/8"),)
    with pytest.raises(ValueError):
        allowed_networks(("ten",))


@pytest.mark.parametrize(
    "name",
    [
        "127.1",
        "0x7f000001",
        "0x7F.1",
        "2130706433",
        "0177.0.0.1",
        "017700000001",
        "169.254.43518",
        "①②⑦.⓪.⓪.①",
        "１２７.0.0.1",
        "127。0。0。1",
        "127.0.0.1.",
        "127.0.0.1..",
        "8.8.8.8",
        "1.2.3.4.5",
        "[::1]",
        "::1",
        "[IPv6:::1]",
        "localhost",
        "LOCALHOST.",
        "a.localhost",
        "localhost.localdomain",
        "mx.example.com..",
        "0x",
        "",
        ".",
        " ",
    ],
)
def test_an_odd_literal_is_never_looked_up(name):
    assert is_ip_like(name)


@pytest.mark.parametrize(
    "name",
    ["mx.example.com", "mx.example.com.", "1.example", "127.0.0.1.example.com", "0x7f.example", "xn--p1ai", "mx1"],
)
def test_a_host_name_may_be_looked_up(name):
    assert not is_ip_like(name)


@given(st.integers(0, 2**32 - 1).map(IPv4Address))
def test_ipv4_inside_ipv6_is_judged_as_itself(address):
    bits = int(address)
    for hidden in (0xFFFF << 32 | bits, 0x64FF9B << 96 | bits):
        assert forbidden(IPv6Address(hidden)) == forbidden(address)
    if (why := forbidden(address)) is not None:
        assert forbidden(IPv6Address(0x2002 << 112 | bits << 80 | 1)) == why


@given(st.integers(0, 2**128 - 1).map(IPv6Address))
def test_nothing_outside_global_unicast_passes_but_mapped_and_translated_addresses(address):
    if forbidden(address) is None:
        assert (
            address in ip_network("2000::/3")
            or address in ip_network("::ffff:0:0/96")
            or address in ip_network("64:ff9b::/96")
        )


@given(st.text())
def test_the_guard_never_raises(text):
    forbidden(text)
    is_ip_like(text)
