import hashlib
import hmac

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.billing.signature import TOLERANCE, SignatureWrong, sign, verify

NOW = 1_800_000_000.0
SECRET = "whsec_test"
BODY = b'{"id": "evt_1"}'


def test_the_published_scheme_is_met() -> None:
    digest = hmac.new(SECRET.encode(), b"1800000000." + BODY, hashlib.sha256).hexdigest()
    verify(BODY, f"t=1800000000,v1={digest}", SECRET, NOW)
    assert sign(BODY, SECRET, NOW) == f"t=1800000000,v1={digest}"


def test_one_fitting_signature_of_several_is_enough() -> None:
    header = sign(BODY, SECRET, NOW)
    verify(BODY, header.replace(",v1=", ",v1=00ff,v1=") + ",v0=abc", SECRET, NOW)


@pytest.mark.parametrize("off", [-TOLERANCE, 0, TOLERANCE])
def test_a_clock_may_be_off_by_the_tolerance_either_way(off: float) -> None:
    verify(BODY, sign(BODY, SECRET, NOW), SECRET, NOW + off)


@pytest.mark.parametrize("off", [-TOLERANCE - 1, TOLERANCE + 1, -86_400])
def test_neither_the_past_nor_the_future_beyond_it_is_accepted(off: float) -> None:
    with pytest.raises(SignatureWrong, match="timestamp"):
        verify(BODY, sign(BODY, SECRET, NOW), SECRET, NOW + off)


@pytest.mark.parametrize(
    "header",
    [
        None,
        "",
        "t=1800000000",
        "v1=aa",
        "t=x,v1=aa",
        "t=1800000000,v1=",
        "t=1,t=1800000000,v1=aa",
        "t=-1,v1=aa",
        "t=1800000000,v1=\u00e9",
        "t=" + "9" * 400 + ",v1=aa",
        "=,,=,",
    ],
)
def test_headers_that_sign_nothing_are_refused(header: str | None) -> None:
    with pytest.raises(SignatureWrong):
        verify(BODY, header, SECRET, NOW)


@given(body=st.binary(max_size=64), other=st.binary(max_size=64), junk=st.text(max_size=80))
def test_only_the_very_bytes_pass(body: bytes, other: bytes, junk: str) -> None:
    header = sign(body, SECRET, NOW)
    if other == body:
        verify(other, header, SECRET, NOW)
    else:
        with pytest.raises(SignatureWrong):
            verify(other, header, SECRET, NOW)
    with pytest.raises(SignatureWrong):
        verify(body, junk, SECRET, NOW)
