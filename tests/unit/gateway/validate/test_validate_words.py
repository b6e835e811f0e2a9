from __future__ import annotations

import httpx
import msgspec
import pytest
from pydantic import ValidationError

from gateway.validate.ask import _read
from gateway.validate.routes import MOST_EMAILS, NewBatch, NewSingle
from shared.messages import PutOff
from shared.verdict import Reason


def test_a_put_off_says_why_and_for_how_long() -> None:
    body = msgspec.json.encode({"putOff": PutOff(index=0, reason=Reason.PUT_OFF, after=30)})
    answer = _read(httpx.Response(202, content=body))
    assert answer is not None
    assert answer.put_off == PutOff(index=0, reason=Reason.PUT_OFF, after=30)
    assert answer.result is None


@pytest.mark.parametrize(
    "response",
    [httpx.Response(500), httpx.Response(401), httpx.Response(200, content=b"{}"), httpx.Response(202, content=b"[]")],
)
def test_an_answer_that_is_none_leaves_it_to_the_next_validator(response: httpx.Response) -> None:
    assert _read(response) is None


def test_the_bounds_of_a_list_are_those_of_the_contract() -> None:
    assert len(NewBatch(emails=["a"] * MOST_EMAILS).emails) == MOST_EMAILS == 10_000
    with pytest.raises(ValidationError):
        NewBatch(emails=["a"] * (MOST_EMAILS + 1))


@pytest.mark.parametrize(("timeout", "fine"), [(1, True), (60, True), (0.99, False), (61, False)])
def test_the_bounds_of_a_timeout_are_those_of_the_contract(timeout: float, *, fine: bool) -> None:
    if fine:
        assert NewSingle(email="a@b.example", timeout=timeout).timeout == timeout
    else:
        with pytest.raises(ValidationError):
            NewSingle(email="a@b.example", timeout=timeout)
