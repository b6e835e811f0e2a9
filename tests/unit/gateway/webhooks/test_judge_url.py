from ipaddress import ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.webhooks.judge_url import UrlRefused, judge_url
from shared.address_guard import is_ip_like

LOOPBACK = (ip_network("127.0.0.0/8"),)


@pytest.mark.parametrize(
    "url",
    [
        "https://hooks.example.com/",
        "https://hooks.example.com:8443/a/b?c=d&e=%20",
        "HTTPS://Hooks.Example.COM",
        "https://b\u00fccher.example/x",
    ],
)
def test_public_https_urls_are_taken(url: str) -> None:
    assert judge_url(url).scheme == "https"


@pytest.mark.parametrize(
    "url",
    [
        "http://hooks.example.com/",
        "https://hooks.example.com:22/",
        "https://93.184.216.34/",
        "https://[2606:4700::1111]/",
        "https://[::ffff:127.0.0.1]/",
        "https://\u2460\u2461\u2466.0.0.1/",
        "https://127.0.0.1./",
        "https://host/",
        "https://a.b.internal/",
        "https://metadata.google.internal./",
        "https:///path",
        "https://a.example.com\\@b.example.com/",
        "https://a.example.com\t/",
        "https://a@b.example.com/",
        "//hooks.example.com/",
        "https://" + "a" * 2_000 + ".example.com/",
        "javascript:alert(1)",
    ],
)
def test_everything_else_is_refused(url: str) -> None:
    with pytest.raises(UrlRefused):
        judge_url(url)


def test_allowed_networks_may_be_named_by_address_and_without_tls() -> None:
    assert judge_url("http://127.0.0.1:9000/x", LOOPBACK).port == 9000
    assert judge_url("http://hooks.example.com:9000/", LOOPBACK).host == "hooks.example.com"
    with pytest.raises(UrlRefused):
        judge_url("http://10.0.0.1/", LOOPBACK)


@given(st.text(max_size=60))
def test_no_text_gets_past_with_an_address_or_without_tls(text: str) -> None:
    for given_ in (text, f"https://{text}/"):
        try:
            url = judge_url(given_)
        except UrlRefused:
            continue
        assert url.scheme == "https"
        assert not is_ip_like(url.raw_host.decode())
        assert not url.userinfo
