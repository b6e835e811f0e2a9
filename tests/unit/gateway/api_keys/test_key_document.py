from __future__ import annotations

from ipaddress import ip_network

import pytest

from gateway.accounts.caller import Caller
from gateway.api_keys.keys import KnownKey, hash_key, key_document, make_key


def known(*networks: str) -> KnownKey:
    caller = Caller("org_one", "key:a", frozenset())
    return KnownKey("hash", caller, tuple(ip_network(network) for network in networks), None, 0.0)


@pytest.mark.parametrize(
    ("networks", "address", "admitted"),
    [
        ((), None, True),
        ((), "192.0.2.1", True),
        (("192.0.2.0/24",), "192.0.2.1", True),
        (("192.0.2.0/24",), "::ffff:192.0.2.1", True),
        (("192.0.2.0/24",), "198.51.100.1", False),
        (("192.0.2.0/24",), "2001:db8::1", False),
        (("192.0.2.0/24", "2001:db8::/32"), "2001:db8::1", True),
        (("192.0.2.0/24",), None, False),
        (("192.0.2.0/24",), "not an address", False),
    ],
)
def test_a_key_is_admitted_from_its_networks_only(
    networks: tuple[str, ...], address: str | None, *, admitted: bool
) -> None:
    assert known(*networks).admits(address) is admitted


def test_a_made_key_is_kept_as_its_hash_and_its_first_characters() -> None:
    key = make_key()
    document = key_document(key, "org_one", "name", ["files:read"], created_by="user:a", now=1.0)
    assert document["_id"] == hash_key(key)
    assert key.startswith(document["prefix"])
    assert len(document["prefix"]) == 12
    assert key not in str(document)
    assert not document["test"]


def test_of_a_key_that_somebody_chose_nothing_but_the_hash_is_kept() -> None:
    key = "mv_test_chosen-by-a-person"
    document = key_document(key, "org_one", "bootstrap", ["*"], created_by="settings", now=1.0, bootstrap=True)
    assert (document["prefix"], document["test"]) == ("", False)
    assert "chosen" not in str(document)


def test_any_header_value_has_a_hash() -> None:
    assert len({hash_key(value) for value in ("", "ä", "\udcff", "x" * 8_192)}) == 4
