from typing import Any

import pytest

from gateway.batches.state import BatchStatus
from gateway.results.summary import summarise
from gateway.results.verdicts import malformed_result, undecided_result
from gateway.retention.erase_address import without_address
from shared.address import Address, parse_address
from shared.verdict import Reason

NOW = 5.0


def address(text: str) -> Address:
    parsed = parse_address(text)
    assert isinstance(parsed, Address)
    return parsed


ANN = address("ann@a.example")


def told(email: str, row: int) -> dict[str, Any]:
    return {**undecided_result(email, Reason.TIMEOUT, NOW), "row": row, "normalized": email, "suggestion": email}


def batch(*, results: list[dict[str, Any]], emails: list[str], status: str = "dispatched") -> dict[str, Any]:
    return {
        "_id": "f.1",
        "status": status,
        "look": 1,
        "attempt": 3,
        "lookAttempt": 2,
        "results": results,
        "emails": emails,
        "rows": list(range(100, 100 + len(emails))),
        "processedEmails": len(results),
        "summary": summarise(results),
    }


def test_a_batch_without_it_is_left_alone() -> None:
    assert without_address(batch(results=[told("ben@a.example", 1)], emails=["joann@a.example"]), ANN, NOW) is None


def test_a_result_keeps_its_verdict_and_loses_its_name() -> None:
    planned = without_address(batch(results=[told("Ann@A.example", 1)], emails=[], status="done"), ANN, NOW)
    assert planned is not None
    change, count = planned
    [result] = change.set["results"]
    assert (result["status"], result["reason"], result["row"], count) == ("unknown", "timeout", 1, 1)
    assert "ann" not in str(change.set).lower()
    assert change.set.keys() == {"results"}


def test_a_malformed_cell_that_holds_it_loses_it_too() -> None:
    bad = {**malformed_result("Ann <ANN@a.example>", "no", NOW), "row": 4}
    planned = without_address(batch(results=[bad], emails=[], status="done"), ANN, NOW)
    assert planned is not None
    assert planned[0].set["results"][0]["email"] == ""
    assert planned[0].set["results"][0]["reason"] == "invalid_syntax"


def test_one_that_waits_becomes_suppressed_and_what_is_on_its_way_counts_no_more() -> None:
    planned = without_address(batch(results=[], emails=["ben@a.example", "ann@a.example", "cy@a.example"]), ANN, NOW)
    assert planned is not None
    change = planned[0].set
    assert (change["emails"], change["rows"]) == (["ben@a.example", "cy@a.example"], [100, 102])
    assert [(one["reason"], one["row"]) for one in change["results"]] == [("suppressed", 101)]
    assert (change["status"], change["lookAttempt"], change["processedEmails"]) == ("pending", 4, 1)
    assert change["summary"]["unknown"] == 1
    assert change["summary"]["billable"] == 0


@pytest.mark.parametrize("status", ["pending", "dispatched"])
def test_the_last_one_that_waits_ends_the_batch(status: str) -> None:
    planned = without_address(batch(results=[], emails=["ann@a.example"], status=status), ANN, NOW)
    assert planned is not None
    assert planned[0].set["status"] == BatchStatus.DONE


def test_a_cancelled_batch_stays_cancelled() -> None:
    planned = without_address(batch(results=[], emails=["ann@a.example"], status="cancelled"), ANN, NOW)
    assert planned is not None
    assert "status" not in planned[0].set
    assert planned[0].set["emails"] == []
