"""Without a credential only the machine itself is let in, and no web page through it."""

import pytest
from starlette.requests import Request

from gateway.accounts.own_machine import from_own_machine


def request(host, origin=None):
    headers = [(b"host", host.encode())] + ([(b"origin", origin.encode())] if origin else [])
    return Request({"type": "http", "method": "POST", "path": "/", "query_string": b"", "headers": headers})


@pytest.mark.parametrize(
    "host", ["127.0.0.1:8080", "localhost:8080", "[::1]:8080", "gateway:8080", "mailvet.localhost"]
)
def test_the_machine_itself_is_let_in(host):
    assert from_own_machine(request(host), "127.0.0.1", None)
    assert from_own_machine(request(host, f"http://{host}"), "::1", None)


@pytest.mark.parametrize("address", ["192.0.2.7", "10.0.0.2", "::ffff:192.0.2.7", "testclient", None])
def test_others_are_not(address):
    assert not from_own_machine(request("127.0.0.1:8080"), address, None)


def test_a_page_from_elsewhere_cannot_post():
    assert not from_own_machine(request("127.0.0.1:8080", "https://evil.example"), "127.0.0.1", None)
    assert not from_own_machine(request("127.0.0.1:8080", "null"), "127.0.0.1", None)
    assert not from_own_machine(request("127.0.0.1:8080", "http://127.0.0.1:9999"), "127.0.0.1", None)


def test_a_name_that_was_pointed_here_reads_nothing():
    assert not from_own_machine(request("rebound.evil.example:8080"), "127.0.0.1", None)


def test_the_operators_own_name_is_known():
    assert from_own_machine(request("vet.corp.example"), "127.0.0.1", "https://vet.corp.example/")
