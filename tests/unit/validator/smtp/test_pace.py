"""How much is asked at once, as what a host bears shows itself."""

from __future__ import annotations

import random

import pytest

from validator.smtp.pace import (
    CAREFUL_SESSIONS,
    FIRST_FLIGHT,
    FLIGHT,
    MOST_REJECTS,
    REJECTS,
    SESSION,
    STRIKES,
    WARY_SESSIONS,
    WIDEN_AFTER,
    Pace,
)


def break_off(pace: Pace, answered: int, flight: int, *, told: bool = False, silent: bool = False) -> None:
    pace.broke(answered, 0, flight, told=told, silent=silent)


def test_the_first_flight_of_a_session_cannot_pass_the_reject_limit_whatever_is_known():
    pace = Pace()
    assert pace.next_flight(0, 0, 1_000) == FIRST_FLIGHT <= REJECTS
    pace.session_done(SESSION, 0)
    assert pace.next_flight(0, 0, 1_000) == FIRST_FLIGHT


def test_flights_grow_once_a_host_accepts():
    assert Pace().next_flight(FIRST_FLIGHT, 0, 1_000) == FLIGHT


def test_never_more_than_is_waiting_or_the_session_has_left():
    assert Pace().next_flight(50, 0, 3) == 3
    assert Pace().next_flight(SESSION - 4, 0, 1_000) == 4
    assert Pace().next_flight(SESSION, 0, 1_000) == 0


def test_a_session_ends_at_the_reject_limit():
    assert Pace().next_flight(20, REJECTS, 1_000) == 0


def test_the_providers_row_bounds_a_session():
    assert Pace(5).next_flight(0, 0, 1_000) == 5
    assert Pace(5).next_flight(5, 0, 1_000) == 0


def play(fates: list[bool]) -> tuple[list[int], float]:
    """Ask about recipients of which so many are missing: refusals by session, and flights for each recipient."""
    pace, at, flights, sessions = Pace(), 0, 0, []
    while at < len(fates):
        asked = refused = 0
        while size := pace.next_flight(asked, refused, len(fates) - at):
            refused += sum(fates[at : at + size])
            at += size
            asked += size
            flights += 1
        pace.session_done(asked, refused)
        sessions.append(refused)
    return sessions, flights / len(fates)


@pytest.mark.parametrize(
    ("bad", "connections", "trips"),
    [
        (0.0, 0.0101, 0.09),
        (0.05, 0.0105, 0.097),
        (0.2, 0.027, 0.215),
        (0.5, 0.065, 0.41),
        (0.8, 0.13, 0.65),
        (1, 0.15, 1),
    ],
)
def test_sessions_hardly_ever_see_more_than_ten_refusals_and_are_few(bad, connections, trips):
    """`trips`: round trips for each recipient: four a session (connect, banner, EHLO, QUIT), and its flights."""
    chance = random.Random(7)
    sessions, flights = play([chance.random() < bad for _ in range(60_000)])
    assert sum(refused > 10 for refused in sessions) <= len(sessions) * 0.002
    assert max(sessions) <= 12
    assert len(sessions) / 60_000 <= connections
    assert flights + 4 * len(sessions) / 60_000 <= trips


@pytest.mark.parametrize(("bad", "connections"), [(0.05, 0.0135), (0.2, 0.027), (0.5, 0.061)])
def test_where_the_missing_come_in_runs_few_sessions_are_led_too_far(bad, connections):
    chance, fates, missing = random.Random(5), [], False
    while len(fates) < 60_000:
        fates += [missing] * max(1, int(chance.expovariate(1 / (15 if missing else 15 * (1 - bad) / bad))))
        missing = not missing
    sessions, _ = play(fates)
    assert sum(refused > 10 for refused in sessions) <= len(sessions) * 0.02
    assert sum(refused > 13 for refused in sessions) <= len(sessions) * 0.01
    assert len(sessions) / len(fates) <= connections


def test_after_a_run_of_refusals_no_flight_has_room_for_another_for_a_while():
    pace = Pace()
    pace.session_done(SESSION, 20)
    for _ in range(WARY_SESSIONS):
        assert pace.next_flight(50, 2, 1_000) == MOST_REJECTS - 2
        pace.session_done(SESSION, 0)
    assert pace.next_flight(50, 2, 1_000) > MOST_REJECTS - 2


def test_a_slow_host_gets_smaller_flights_and_a_fast_one_larger_again():
    pace = Pace()
    pace.flight_done(25, 25.0)
    assert pace.flight == 5
    pace.flight_done(5, 0.1)
    assert pace.flight == 10


def test_a_limit_told_in_words_is_kept_just_below_at_once():
    pace = Pace()
    break_off(pace, 12, 13, told=True)
    assert pace.session == 11


def test_a_single_hang_up_is_no_limit_and_a_second_one_is():
    pace = Pace()
    break_off(pace, 12, 13)
    assert pace.session == SESSION
    break_off(pace, 12, 13)
    assert pace.session == 12


def test_a_limit_is_widened_after_sessions_that_end_well_at_it():
    pace = Pace()
    break_off(pace, 11, 15, told=True)
    for _ in range(WIDEN_AFTER):
        assert pace.session == 10
        pace.session_done(10, 0)
    assert pace.session == 20


def test_a_recipient_limit_holds_for_the_transaction():
    pace = Pace()
    pace.limit_met(5)
    assert pace.transaction == 5
    pace.limit_met(0)
    assert pace.transaction == 1


def test_breaks_without_an_answer_shrink_the_flight_and_end_in_hopelessness():
    pace = Pace()
    sizes = []
    for _ in range(STRIKES):
        assert not pace.hopeless
        break_off(pace, 0, 25)
        sizes.append(pace.flight)
    assert sizes[0] == 6
    assert pace.hopeless


def test_silence_costs_patience_faster_than_hang_ups():
    pace = Pace()
    for _ in range(STRIKES // 2 + 1):
        assert not pace.hopeless
        break_off(pace, 0, 25, silent=True)
    assert pace.hopeless


def test_an_answer_restores_hope():
    pace = Pace()
    for _ in range(STRIKES - 1):
        break_off(pace, 0, 25)
    break_off(pace, 1, 3)
    assert pace.strikes == 0


def test_distrust_means_one_command_at_a_time_until_many_sessions_went_well():
    pace = Pace()
    pace.distrust()
    for _ in range(CAREFUL_SESSIONS):
        assert pace.careful
        assert pace.next_flight(0, 0, 100) == 1
        pace.session_done(5, 0)
    assert not pace.careful


def test_a_flight_lost_whole_means_one_command_at_a_time_for_a_while_and_longer_each_time():
    pace = Pace()
    for sessions in (2, 4, 8, 16, CAREFUL_SESSIONS, CAREFUL_SESSIONS):
        pace.doubt()
        for _ in range(sessions):
            assert pace.careful
            pace.session_done(5, 0)
        assert not pace.careful
