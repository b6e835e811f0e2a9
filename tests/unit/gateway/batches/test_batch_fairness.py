from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from gateway.batches.fairness import Turns, Waiting


def serve(
    waiting: list[Waiting], rounds: int, turns: Turns | None = None, in_flight: dict[str, int] | None = None
) -> list[str]:
    by_file = Counter(in_flight or {})
    by_org: Counter[str] = Counter()
    for file in waiting:
        by_org[file.org_id] += by_file[file.file_id]
    line = (turns or Turns()).line(waiting, by_org, by_file)
    served = []
    for _ in range(rounds):
        file = line.front()
        if file is None:
            break
        line.sent(file)
        served.append(file.file_id)
    return served


def test_nobody_waits_nobody_is_served() -> None:
    assert serve([], 3) == []


def test_organisations_take_turns_whatever_the_number_of_their_files() -> None:
    waiting = [Waiting(f"big{n}", "a") for n in range(9)] + [Waiting("small", "b")]
    assert serve(waiting, 10).count("small") == 5


def test_files_of_one_organisation_take_turns() -> None:
    waiting = [Waiting(f"f{n}", "a") for n in range(3)]
    assert sorted(serve(waiting, 3)) == ["f0", "f1", "f2"]


def test_a_new_small_list_comes_before_one_that_has_much_in_flight() -> None:
    waiting = [Waiting("huge", "a"), Waiting("tiny", "b")]
    assert serve(waiting, 3, in_flight={"huge": 60}) == ["tiny", "tiny", "tiny"]


def test_turns_are_remembered_across_rounds() -> None:
    turns = Turns()
    waiting = [Waiting("x", "a"), Waiting("y", "b")]
    assert [serve(waiting, 1, turns)[0] for _ in range(4)] == ["x", "y", "x", "y"]


def test_a_file_that_leaves_makes_room_for_the_others() -> None:
    turns = Turns()
    line = turns.line([Waiting("x", "a"), Waiting("y", "a")], Counter(), Counter())
    first = line.front()
    assert first is not None
    line.leave(first)
    second = line.front()
    assert second is not None
    assert second.file_id != first.file_id
    line.leave(second)
    assert line.front() is None


def test_those_that_are_gone_are_forgotten() -> None:
    turns = Turns()
    serve([Waiting("x", "a")], 2, turns)
    turns.forget_all_but({"b"})
    assert turns.last == {}


@given(st.lists(st.tuples(st.sampled_from("abcde"), st.integers(0, 9)), min_size=1, max_size=30, unique=True))
def test_no_organisation_is_ever_two_ahead_of_another(pairs: list[tuple[str, int]]) -> None:
    waiting = [Waiting(f"{org}{n}", org) for org, n in pairs]
    served = Counter(name[0] for name in serve(waiting, 40))
    assert max(served.values()) - min(served[org] for org, _ in pairs) <= 1
