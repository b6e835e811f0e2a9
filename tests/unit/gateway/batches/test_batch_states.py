from __future__ import annotations

import pytest

from gateway.batches.state import (
    ACCEPT,
    BATCH_MOVES,
    CANCEL_BATCH,
    CLOSE,
    DISPATCH,
    FILE_MOVES,
    FINISH_BATCH,
    PAUSE,
    PUT_OFF,
    RESUME,
    SETTLE,
    TAKE_BACK,
    TERMINAL_FILE,
    BatchStatus,
    FileStatus,
    shown,
)
from shared.documents import In


def reachable(moves, start: str) -> set[str]:
    seen = {start}
    while True:
        more = {move.target for move in moves if move.sources & seen} - seen
        if not more:
            return seen
        seen |= more


def test_every_state_is_reached_from_the_first_one() -> None:
    assert reachable(BATCH_MOVES, BatchStatus.PENDING) == set(BatchStatus)
    assert reachable(FILE_MOVES, FileStatus.READY) == set(FileStatus)


def test_nothing_leaves_a_final_state() -> None:
    for move in BATCH_MOVES:
        assert not move.sources & {BatchStatus.DONE, BatchStatus.CANCELLED}
    for move in FILE_MOVES:
        assert not move.sources & TERMINAL_FILE


def test_every_state_that_is_not_final_leads_to_a_final_one() -> None:
    for status in set(FileStatus) - TERMINAL_FILE:
        assert reachable(FILE_MOVES, status) & TERMINAL_FILE
    for batch in (BatchStatus.PENDING, BatchStatus.DISPATCHED):
        assert BatchStatus.DONE in reachable(BATCH_MOVES, batch)


def test_only_pending_batches_go_out_and_only_dispatched_ones_come_back() -> None:
    assert DISPATCH.sources == {"pending"}
    assert TAKE_BACK.sources == {"dispatched"}


def test_results_count_also_for_a_batch_that_was_taken_back() -> None:
    for move in (FINISH_BATCH, PUT_OFF, CANCEL_BATCH):
        assert move.sources == {"pending", "dispatched"}


def test_a_file_that_is_being_received_can_only_be_accepted_or_put_back() -> None:
    assert [move.target for move in FILE_MOVES if "receiving" in move.sources] == ["ready", "queued"]
    assert ACCEPT.target == "queued"


def test_a_paused_file_may_end_because_its_last_batches_came_in() -> None:
    assert "paused" in SETTLE.sources
    assert PAUSE.target in RESUME.sources


def test_the_money_moves_before_a_file_is_seen_as_ended() -> None:
    assert all(move.sources == {"settling"} for move in CLOSE.values())
    assert {move.target for move in CLOSE.values()} == TERMINAL_FILE


def test_a_move_is_a_condition_and_a_change() -> None:
    assert PAUSE.where == {"status": In(("processing", "queued"))}
    assert PAUSE.set == {"status": "paused"}


@pytest.mark.parametrize(("status", "seen"), [("settling", "processing"), ("paused", "paused"), ("queued", "queued")])
def test_settling_is_inside_only(status: str, seen: str) -> None:
    assert shown(status) == seen
