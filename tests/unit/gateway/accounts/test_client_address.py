from ipaddress import ip_network

import pytest
from fastapi import Request

from gateway.accounts.client_address import client_address

TRUSTED = (ip_network("10.0.0.0/8"), ip_network("fd00::/8"))


def address(peer, *forwarded, trusted=TRUSTED):
    headers = [(b"x-forwarded-for", value.encode()) for value in forwarded]
    client = None if peer is None else (peer, 1)
    return client_address(Request({"type": "http", "headers": headers, "client": client}), trusted)


@pytest.mark.parametrize(
    ("peer", "forwarded", "client"),
    [
        ("192.0.2.1", [], "192.0.2.1"),
        ("192.0.2.1", ["203.0.113.1"], "192.0.2.1"),
        ("10.0.0.1", [], "10.0.0.1"),
        ("10.0.0.1", ["203.0.113.1"], "203.0.113.1"),
        ("10.0.0.1", ["198.51.100.1, 203.0.113.1"], "203.0.113.1"),
        ("10.0.0.1", ["198.51.100.1, 203.0.113.1, 10.2.2.2"], "203.0.113.1"),
        ("10.0.0.1", ["198.51.100.1", "203.0.113.1,10.2.2.2"], "203.0.113.1"),
        ("10.0.0.1", ["10.3.3.3"], "10.3.3.3"),
        ("10.0.0.1", ["203.0.113.1, unknown"], "10.0.0.1"),
        ("10.0.0.1", ["203.0.113.1:443, 10.2.2.2"], "10.2.2.2"),
        ("fd00::1", ["2001:db8::1"], "2001:db8::1"),
        ("::ffff:10.0.0.1", ["203.0.113.1"], "203.0.113.1"),
        ("::ffff:192.0.2.1", [], "192.0.2.1"),
        (None, ["203.0.113.1"], None),
        ("testclient", [], None),
    ],
)
def test_the_client_is_the_first_from_the_right_whom_no_trusted_proxy_is(peer, forwarded, client):
    assert address(peer, *forwarded) == client


def test_without_trusted_proxies_only_the_peer_counts():
    assert address("10.0.0.1", "203.0.113.1", trusted=()) == "10.0.0.1"
