from __future__ import annotations

from typing import Any

import msgspec
import pytest

from gateway.batches.store import _pending
from gateway.results.announce import entry_after, event_id
from gateway.results.record import LONGEST_HINT, MOST_WAITS, plan_record
from gateway.results.verdicts import found_results
from gateway.uploads.plan import PlannedBatch
from shared.errors import MessageUndecodable
from shared.messages import PutOff, ResultMessage, WorkMessage
from shared.verdict import ADDRESS, Finding, Reason, RiskLevel, SmtpDetails, Status, Verdict
from shared.verdicts import Verdicts

DELAYS = (60.0, 300.0)
NOW = 1_000.0


def batch(**fields):
    emails = ["a@x.example", "b@x.example", "c@y.example"]
    return (
        _pending("f", "o", PlannedBatch(1, emails, [2, 3, 5]), 0, 0.0) | {"status": "dispatched", "attempt": 1} | fields
    )


FOUND = Finding(status=Status.VALID, reason=Reason.ACCEPTED, risk_level=RiskLevel.LOW, score=90)
OK = "2026-01-01T00:00:00Z"


def message(*checked_at: str | None, put_off=(), **fields: Any) -> ResultMessage:
    told: dict[str, Any] = {
        "batch_id": "f.1",
        "file_id": "f",
        "org_id": "o",
        "attempt": 1,
        "findings": [FOUND],
        "found": [None if at is None else 0 for at in checked_at],
        "checked_at": [at or "" for at in checked_at],
        "put_off": list(put_off),
    }
    return ResultMessage(**(told | fields))


WHOLE = (OK, OK, OK)


def test_a_whole_answer_finishes_the_batch() -> None:
    outcome = plan_record(batch(), message(*WHOLE), DELAYS, NOW)
    assert outcome is not None
    change = outcome.change.set
    assert (change["status"], change["emails"], change["processedEmails"], change["recordedAt"]) == ("done", [], 3, NOW)
    assert [result["row"] for result in change["results"]] == [2, 3, 5]
    assert outcome.where["look"] == 0


def test_addresses_that_were_put_off_stay_for_their_next_look() -> None:
    off = PutOff(index=1, reason=Reason.PUT_OFF)
    outcome = plan_record(batch(), message(OK, None, OK, put_off=[off]), DELAYS, NOW)
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
    last = batch(look=2, emails=["b@x.example"], rows=[3], results=[{"email": "a@x.example"}], processedEmails=1)
    outcome = plan_record(last, message(None, put_off=[off], look=2), DELAYS, NOW)
    assert outcome is not None
    change = outcome.change.set
    assert (change["status"], change["processedEmails"]) == ("done", 2)
    final = change["results"][-1]
    assert (final["status"], final["reason"], final["row"]) == ("unknown", "circuit_open", 3)


UNASKED = PutOff(index=1, reason=Reason.PUT_OFF, unasked=True)
GREYLISTED = PutOff(index=2, reason=Reason.PUT_OFF)


def test_whoever_had_no_turn_gets_another_one_at_once_and_the_look_is_the_same() -> None:
    outcome = plan_record(batch(waits=3), message(OK, None, OK, put_off=[UNASKED]), DELAYS, NOW)
    assert outcome is not None
    change = outcome.change.set
    assert (change["status"], change["emails"]) == ("pending", ["b@x.example"])
    assert (change["look"], change["waits"], change["lookAttempt"], change["dueAt"]) == (0, 4, 2, NOW)


def test_beside_others_that_are_put_off_they_wait_for_these() -> None:
    outcome = plan_record(batch(), message(OK, None, None, put_off=[UNASKED, GREYLISTED]), DELAYS, NOW)
    assert outcome is not None
    change = outcome.change.set
    assert change["emails"] == ["b@x.example", "c@y.example"]
    assert (change["look"], change["waits"], change["dueAt"]) == (0, 1, NOW + 60)


def test_having_no_turn_is_no_last_look_either() -> None:
    told = message(OK, None, None, put_off=[UNASKED, GREYLISTED], look=2)
    outcome = plan_record(batch(look=2), told, DELAYS, NOW)
    assert outcome is not None
    change = outcome.change.set
    assert (change["emails"], change["look"], change["dueAt"]) == (["b@x.example"], 2, NOW)
    assert [(result["row"], result["reason"]) for result in change["results"]] == [(2, "accepted"), (5, "put_off")]


def test_turns_that_come_to_nothing_are_bounded() -> None:
    told = message(OK, None, OK, put_off=[UNASKED])
    outcome = plan_record(batch(waits=MOST_WAITS), told, DELAYS, NOW)
    assert outcome is not None
    assert (outcome.change.set["look"], outcome.change.set["dueAt"]) == (1, NOW + 60)
    last = plan_record(batch(waits=MOST_WAITS, look=2), message(OK, None, OK, put_off=[UNASKED], look=2), DELAYS, NOW)
    assert last is not None
    assert last.change.set["status"] == "done"
    assert last.change.set["results"][-1]["reason"] == "put_off"


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
    late = message(*WHOLE, look=look, attempt=attempt)
    assert plan_record(batch(**fields), late, DELAYS, NOW) is None


def test_a_result_counts_for_a_batch_that_was_taken_back() -> None:
    assert plan_record(batch(status="pending"), message(*WHOLE), DELAYS, NOW) is not None


@pytest.mark.parametrize(
    "wrong",
    [
        message(OK),
        message(OK, None, OK),
        message(*WHOLE, put_off=[PutOff(index=1, reason=Reason.PUT_OFF)]),
        message(*WHOLE, found=[0, 1, 0]),
        message(*WHOLE, checked_at=[OK]),
    ],
)
def test_results_that_are_not_those_of_the_batch_are_refused(wrong: ResultMessage) -> None:
    with pytest.raises(MessageUndecodable):
        plan_record(batch(), wrong, DELAYS, NOW)


@pytest.mark.parametrize(
    "body",
    [b"", b"{}", b"\xff", b"[]", b'{"schema":2}', msgspec.json.encode(message()).replace(b'"schema":2', b'"schema":1')],
)
def test_bytes_that_are_no_results_are_refused_and_kept(body: bytes) -> None:
    with pytest.raises(MessageUndecodable) as caught:
        ResultMessage.decode(body)
    assert caught.value.body == body


def test_what_is_said_once_is_stored_with_every_address_it_is_about() -> None:
    found = [
        Finding(
            status=Status.INVALID,
            reason=Reason.MAILBOX_MISSING,
            risk_level=RiskLevel.HIGH,
            score=0,
            better="x.example",
            smtp=SmtpDetails(code=550, text=f"no <{ADDRESS}> here", host="mx.x.example", attempts=1),
        ),
        Finding(status=Status.INVALID, reason=Reason.INVALID_SYNTAX, risk_level=RiskLevel.HIGH, score=0, why="No @."),
    ]
    trace = ({"sent": "RCPT TO:<b@x.example>"},)
    verdicts = [
        Verdict(email="a@X.example", normalized="a@x.example", finding=found[0], checked_at=OK),
        Verdict(email="b@x.example", normalized="b@x.example", finding=found[0], checked_at=OK, trace=trace),
        Verdict(email="nobody", normalized=None, finding=found[1], checked_at=OK),
    ]
    emails = [one.email for one in verdicts]
    work = WorkMessage(batch_id="f.1", file_id="f", org_id="o", attempt=1, emails=emails)
    told = ResultMessage.decode(ResultMessage.about(work, Verdicts.of(emails, verdicts), []).encode())
    assert told.found == [0, 0, 1]
    stored = found_results(told, emails, [2, 3, 4])
    assert stored == [
        msgspec.to_builtins(one.result()) | {"row": row} for one, row in zip(verdicts, (2, 3, 4), strict=True)
    ]
    assert stored[0]["suggestion"] == "a@x.example"
    assert [one["details"]["smtp"]["text"] for one in stored] == [
        "no <a@x.example> here",
        "no <b@x.example> here",
        None,
    ]


def test_event_ids_grow_with_their_entries_and_lead_back_to_them() -> None:
    entries = ["1700000000000-0", "1700000000000-1", "1700000000001-0", "1700000001000-17"]
    ids = [event_id(entry) for entry in entries]
    assert ids == sorted(set(ids))
    assert [entry_after(id_ + 999) for id_ in ids] == entries
