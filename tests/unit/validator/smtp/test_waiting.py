"""Who has a turn when, at one mail host."""

from __future__ import annotations

from dataclasses import dataclass

from hypothesis import given
from hypothesis import strategies as st

from validator.smtp.crowd import Crowd
from validator.smtp.recipient import Recipient
from validator.smtp.waiting import Waiting

FLIGHT = 25


@dataclass
class Somebody:
    closed: bool = False


ANYBODY = Somebody()


def people(name: str, count: int, asker: Somebody = ANYBODY, *, smtputf8: bool = False) -> list[Recipient]:
    return [Recipient(f"{name}{number}@a.test", asker, number, smtputf8=smtputf8) for number in range(count)]  # type: ignore[arg-type]


def crowd(name: str, count: int, asker: Somebody = ANYBODY, *, smtputf8: bool = False) -> Crowd:
    return Crowd(asker, count, people(name, count, asker, smtputf8=smtputf8).__getitem__)  # type: ignore[arg-type]


def flight(waiting: Waiting, size: int = FLIGHT) -> list[str]:
    taken: list[Recipient] = []
    waiting.take(size, taken)
    return [recipient.address.partition("@")[0] for recipient in taken]


def test_an_urgent_one_is_in_the_next_flight_and_ten_others_in_the_one_after_that():
    waiting = Waiting()
    waiting.join(crowd("many", 10_000), "million")
    flight(waiting)
    waiting.join(crowd("few", 10), "ten")
    waiting.put_first(people("now", 1))
    first, second = flight(waiting), flight(waiting)
    assert first[0] == "now0"
    assert len(first) == len(second) == FLIGHT
    assert sum(name.startswith("few") for name in first + second) == 10


def test_lines_have_their_turns_and_a_flight_that_one_cannot_fill_is_filled_from_the_next():
    waiting = Waiting()
    waiting.join(crowd("a", 60), "a")
    waiting.join(crowd("b", 30), "b")
    seen = [{name[0] for name in flight(waiting)} for _ in range(4)]
    assert seen == [{"a"}, {"b"}, {"a"}, {"b", "a"}]
    assert len(waiting) == 0


def test_batches_of_one_file_stand_in_one_line():
    waiting = Waiting()
    waiting.join(crowd("a", FLIGHT), "file")
    waiting.join(crowd("b", FLIGHT), "file")
    waiting.join(crowd("c", FLIGHT), "other")
    assert [flight(waiting)[0][0] for _ in range(3)] == ["a", "c", "b"]


def test_neighbours_of_a_list_are_asked_far_from_one_another():
    waiting = Waiting()
    waiting.join(crowd("a", 100), "file")
    assert flight(waiting, 10) == [f"a{number}" for number in range(0, 100, 10)]


def test_those_given_back_come_first_in_their_order_and_suspects_last_and_alone():
    waiting = Waiting()
    waiting.suspect(people("s", 2))
    waiting.join(crowd("a", 2), "file")
    waiting.put_first(people("back", 2))
    assert [flight(waiting) for _ in range(4)] == [["back0", "back1", "a0", "a1"], ["s0"], ["s1"], []]


def test_a_flight_is_of_one_kind():
    waiting = Waiting()
    waiting.join(crowd("a", 2), "a")
    waiting.join(crowd("ü", 2, smtputf8=True), "b")
    waiting.join(crowd("c", 2), "c")
    assert [flight(waiting) for _ in range(3)] == [["a0", "a1"], ["ü0", "ü1"], ["c0", "c1"]]


def test_nobody_is_asked_about_whose_asker_is_closed():
    waiting, gone = Waiting(), Somebody()
    waiting.join(crowd("a", 3, gone), "a")
    waiting.put_first(people("b", 1, gone))
    waiting.join(crowd("c", 1), "c")
    gone.closed = True
    assert len(waiting) == 5
    waiting.drop_closed()
    assert len(waiting) == 1
    waiting.suspect(people("s", 1, gone))
    assert [one.address for one in waiting.clear()] == ["c0@a.test"]
    assert len(waiting) == 0


def test_nobody_is_made_a_recipient_before_the_turn_comes():
    made: list[int] = []

    def recipient(place: int) -> Recipient:
        made.append(place)
        return Recipient(f"a{place}@a.test", ANYBODY, place)  # type: ignore[arg-type]

    waiting = Waiting()
    waiting.join(Crowd(ANYBODY, 10_000, recipient), "file")  # type: ignore[arg-type]
    assert len(waiting) == 10_000
    flight(waiting)
    assert len(made) == FLIGHT
    assert len(waiting.clear()) == 10_000 - FLIGHT
    assert sorted(made) == list(range(10_000))


Step = st.tuples(st.sampled_from(["join", "first", "suspect", "take", "drop"]), st.integers(0, 30), st.integers(0, 3))


@given(st.lists(Step, max_size=30))
def test_nobody_is_lost_or_asked_twice_and_the_count_is_right(steps):
    waiting, came, went = Waiting(), [], []
    for number, (what, count, line) in enumerate(steps):
        if what == "take":
            taken: list[Recipient] = []
            waiting.take(count, taken)
            assert len(taken) <= count
            assert len({one.smtputf8 for one in taken}) <= 1
            went += taken
        elif what == "drop":
            waiting.drop_closed()
        else:
            new = people(f"{number}x", count, smtputf8=line == 0)
            came += new
            if what == "join":
                waiting.join(Crowd(ANYBODY, count, new.__getitem__), line)  # type: ignore[arg-type]
            else:
                (waiting.put_first if what == "first" else waiting.suspect)(new)
        assert len(waiting) == len(came) - len(went)
    went += waiting.clear()
    assert sorted(map(id, went)) == sorted(map(id, came))
