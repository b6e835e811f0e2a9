from __future__ import annotations

import pytest

from gateway.batches.store import receiving_file
from gateway.files.emails import Filter, Place, read_place, write_place
from gateway.files.present import eta_seconds, present_file, present_progress, present_stats, progress_of
from gateway.problem import Problem


def file(**fields):
    made = receiving_file(
        "f", "o", kind="upload", filename="list.csv", created_at=0.0, total=10, unique=7, duplicates=2, malformed=1
    )
    return made | {"status": "processing", "totalBatches": 1} | fields


@pytest.mark.parametrize(
    ("fields", "seconds"),
    [
        ({}, None),
        ({"eta": {"at": 100.0, "seconds": 30.0}}, 20),
        ({"eta": {"at": 100.0, "seconds": 5.0}}, 0),
        ({"eta": {"at": 100.0, "seconds": 30.0}, "status": "paused"}, None),
        ({"status": "completed"}, 0),
        ({"status": "cancelled"}, 0),
    ],
)
def test_the_eta_runs_down_and_is_unknown_while_paused(fields: dict, seconds: int | None) -> None:
    assert eta_seconds(file(**fields), 110.0) == seconds


def test_progress_is_a_share_of_the_results_not_of_the_rows() -> None:
    assert progress_of(file(processed=4)) == 0.5
    assert progress_of(file(processed=8)) == 1.0
    assert progress_of(file(uniqueEmails=0, malformed=0)) == 1.0


def test_a_file_is_shown_in_the_words_of_the_contract() -> None:
    shown = present_file(file(status="settling", startedAt=1.5), 2.0)
    assert (shown["fileId"], shown["status"], shown["totalEmails"], shown["uniqueEmails"]) == ("f", "processing", 10, 7)
    assert (shown["createdAt"], shown["startedAt"]) == ("1970-01-01T00:00:00.000Z", "1970-01-01T00:00:01.500Z")
    assert "orgId" not in shown
    assert "table" not in shown


def test_events_and_stats_carry_the_counts() -> None:
    running = file(processed=3, valid=2, invalid=1, reasons={"accepted": 2}, domains=["x.example", 2, 1, 0, 0])
    assert present_progress(running, 0.0)["processed"] == 3
    stats = present_stats(running)
    assert (stats["total"], stats["valid"], stats["reasons"]) == (8, 2, {"accepted": 2})
    assert stats["domains"] == [{"domain": "x.example", "total": 3, "valid": 2, "invalid": 1, "risky": 0, "unknown": 0}]


def test_a_file_that_was_never_started_can_be_shown() -> None:
    ready = {name: value for name, value in file().items() if name not in ("processed", "valid", "creditsCharged")}
    assert present_file(ready, 0.0)["processed"] == 0


@pytest.mark.parametrize("place", [Place(), Place(1, 0), Place(3, 499), Place(20_000, 4_999)])
def test_a_place_survives_its_cursor(place: Place) -> None:
    assert read_place(write_place(place, "f")) == place


def test_cursors_of_other_lists_are_refused() -> None:
    from gateway.cursor import write_cursor

    for cursor in (write_cursor("a", "b"), write_cursor(-1, "b"), write_cursor(1.5, "b")):
        with pytest.raises(Problem):
            read_place(cursor)


@pytest.mark.parametrize(
    ("wanted", "fits"),
    [
        (Filter(), True),
        (Filter("valid"), True),
        (Filter("risky"), False),
        (Filter(q="ANN"), True),
        (Filter("valid", "bob"), False),
    ],
)
def test_results_are_filtered_by_status_and_part_of_the_address(wanted: Filter, *, fits: bool) -> None:
    assert wanted.wants({"email": "Ann.Lee@x.example", "status": "valid"}) is fits
