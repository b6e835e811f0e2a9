from __future__ import annotations

import msgspec
import pytest

from gateway.batches.store import _pending
from gateway.results.announce import entry_after, event_id
from gateway.results.record import LONGEST_HINT, Arrived, decode_results, plan_record
from gateway.uploads.plan import PlannedBatch
from shared.errors import MessageUndecodable
from shared.messages import PutOff
from shared.verdict import Reason

DELAYS = (60.0, 300.0)
NOW = 1_000.0


def batch(**fields):
    emails = ["a@x.example", "b@x.example", "c@y.example"]
    return (
        _pending("f", "o", PlannedBatch(1, emails, [2, 3, 5]), 0, 0.0) | {"status": "dispatched", "attempt": 1} | fields
    )


def ok(email: str) -> dict:
    return {"email": email, "normalized": email, "status": "valid", "reason": "accepted", "score": 90}


def message(*results, put_off=(), attempt: int = 1, look: int = 0) -> Arrived:
    return Arrived(
        schema=1, batch_id="f.1", file_id="f", attempt=attempt, look=look, results=list(results), put_off=list(put_off)
    )


WHOLE = (ok("a@x.example"), ok("b@x.example"), ok("c@y.example"))


def test_a_whole_answer_finishes_the_batch() -> None:
    outcome = plan_record(batch(), message(*map(dict, WHOLE)), DELAYS, NOW)
    assert outcome is not None
    change = outcome.change.set
    assert (change["status"], change["emails"], change["processedEmails"], change["recordedAt"]) == ("done", [], 3, NOW)
    assert [result["row"] for result in change["results"]] == [2, 3, 5]
    assert outcome.where["look"] == 0


def test_addresses_that_were_put_off_stay_for_their_next_look() -> None:
    off = PutOff(index=1, reason=Reason.PUT_OFF)
    outcome = plan_record(batch(), message(dict(WHOLE[0]), None, dict(WHOLE[2]), put_off=[off]), DELAYS, NOW)
    assert outcome is not None
    change = outcome.change.set
    assert (change["status"], change["emails"], change["rows"]) == ("pending", ["b@x.example"], [3])
    assert (change["look"], change["lookAttempt"], change["dueAt"]) == (1, 2, NOW + 60)
    assert outcome.put_off == 1


@pytest.mark.parametrize(("after", "delay"), [(None, 60), (10.0, 60), (120.0, 120), (1e9, LONGEST_HINT)])
def test_a_server_that_asks_for_longer_is_given_longer_within_bounds(after: float | None, delay: float) -> None:
    off = [PutOff(index=at, reason=Reason.PUT_OFF, after=after) for at in range(3)]
    outcome = plan_record(batch(), message(None, None, None, put_off=off), DELAYS, NOW)
    assert outcome is not None
    assert outcome.change.set["dueAt"] == NOW + delay


def test_on_the_last_look_what_is_still_put_off_becomes_unknown() -> None:
    off = PutOff(index=0, reason=Reason.CIRCUIT_OPEN)
    last = batch(look=2, emails=["b@x.example"], rows=[3], results=[dict(WHOLE[0])], processedEmails=1)
    outcome = plan_record(last, message(None, put_off=[off], look=2), DELAYS, NOW)
    assert outcome is not None
    change = outcome.change.set
    assert (change["status"], change["processedEmails"]) == ("done", 2)
    final = change["results"][-1]
    assert (final["status"], final["reason"], final["row"]) == ("unknown", "circuit_open", 3)


@pytest.mark.parametrize(
    ("fields", "look", "attempt"),
    [
        ({"status": "done"}, 0, 1),
        ({"status": "cancelled"}, 0, 1),
        ({"look": 1, "lookAttempt": 2}, 0, 1),
        ({"look": 1, "lookAttempt": 3, "attempt": 3}, 1, 2),
        ({}, 1, 1),
    ],
)
def test_late_and_double_results_change_nothing(fields: dict, look: int, attempt: int) -> None:
    late = message(*map(dict, WHOLE), look=look, attempt=attempt)
    assert plan_record(batch(**fields), late, DELAYS, NOW) is None


def test_a_result_counts_for_a_batch_that_was_taken_back() -> None:
    assert plan_record(batch(status="pending"), message(*map(dict, WHOLE)), DELAYS, NOW) is not None


@pytest.mark.parametrize(
    "wrong",
    [
        message(dict(WHOLE[0])),
        message(dict(WHOLE[0]), None, dict(WHOLE[2])),
        message(*map(dict, WHOLE), put_off=[PutOff(index=1, reason=Reason.PUT_OFF)]),
        message(dict(WHOLE[0]), {"status": "splendid"}, dict(WHOLE[2])),
        message(dict(WHOLE[0]), {**WHOLE[1], "email": 7, "normalized": None}, dict(WHOLE[2])),
    ],
)
def test_results_that_are_not_those_of_the_batch_are_refused(wrong: Arrived) -> None:
    with pytest.raises(MessageUndecodable):
        plan_record(batch(), wrong, DELAYS, NOW)


@pytest.mark.parametrize(
    "body",
    [b"", b"{}", b"\xff", b"[]", b'{"schema":1}', msgspec.json.encode(message()).replace(b'"schema":1', b'"schema":2')],
)
def test_bytes_that_are_no_results_are_refused_and_kept(body: bytes) -> None:
    with pytest.raises(MessageUndecodable) as caught:
        decode_results(body)
    assert caught.value.body == body


def test_event_ids_grow_with_their_entries_and_lead_back_to_them() -> None:
    entries = ["1700000000000-0", "1700000000000-1", "1700000000001-0", "1700000001000-17"]
    ids = [event_id(entry) for entry in entries]
    assert ids == sorted(set(ids))
    assert [entry_after(id_ + 999) for id_ in ids] == entries
