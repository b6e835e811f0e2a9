"""Who gets the next session in one process: room is never exceeded, never lost, and turns are fair."""

import asyncio

from hypothesis import given, settings
from hypothesis import strategies as st

from validator.egress.scopes import Line, Lines, Scope, Want


def scope(name, cap, rate=0.0):
    return Scope(name, cap, 1, rate, patience=4)


class Process:
    """Lines over made-up scopes, with every grant written down."""

    def __init__(self, caps, everywhere):
        self.lines = Lines()
        self.everywhere = scope("global", everywhere)
        self.each = [Line((str(n),), (self.everywhere, scope(f"mx:{n}", cap))) for n, cap in enumerate(caps)]
        self.running = []
        self.order = []
        self.loop = asyncio.new_event_loop()

    def join(self, number):
        want = Want(f"{len(self.order)}:{number}", self.each[number], self.loop.create_future())
        self.lines.join(want)
        return want

    def pick(self, most=100):
        picked, _ = self.lines.pick(most, 0.0, alone=False)
        for want in picked:
            want.granted.set_result(True)
            self.lines.pass_on(want.line.scopes, 0.0, alone=False)
        self.running += picked
        self.order += [int(want.line.key[0]) for want in picked]
        return len(picked)

    def end(self, place):
        want = self.running.pop(place)
        self.lines.give_back(want.line.scopes, 0.0, alone=False)

    def close(self):
        self.loop.close()


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.integers(1, 3), min_size=1, max_size=5),
    st.integers(1, 4),
    st.lists(st.tuples(st.sampled_from(["join", "end", "leave"]), st.integers(0, 100)), max_size=60),
)
def test_caps_hold_and_nobody_waits_for_room_that_is_there(caps, everywhere, steps):
    process = Process(caps, everywhere)
    waiting = []
    for what, number in steps:
        if what == "join":
            waiting.append(process.join(number % len(caps)))
        elif what == "end" and process.running:
            process.end(number % len(process.running))
        elif what == "leave" and waiting:
            waiting[number % len(waiting)].granted.cancel()
        while process.pick():
            pass
        assert process.everywhere.held == len(process.running) <= everywhere
        for line, cap in zip(process.each, caps, strict=True):
            held = sum(want.line is line for want in process.running)
            assert held == line.scopes[1].held <= cap
            stuck = [want for want in line.wants if not want.granted.done()]
            assert not stuck or held == cap or process.everywhere.held == everywhere
    process.close()


def test_lines_take_turns_and_each_keeps_its_order():
    process = Process([5, 5], 10)
    wants = [process.join(number) for number in (0, 0, 0, 1, 1)]
    process.pick()
    assert process.order == [0, 1, 0, 1, 0]
    assert [want.id for want in process.running if want.line.key == ("0",)] == [want.id for want in wants[:3]]
    process.close()


def test_without_redis_a_scope_has_its_floor_and_a_quarter_of_its_rate():
    lone = scope("mx:a", 5, rate=10)
    assert lone.room(0.0, alone=False) == 5
    assert lone.room(0.0, alone=True) == 1
    lone.start_alone(0.0)
    assert lone.room(0.39, alone=True) == 0
    assert lone.room(0.41, alone=True) == 1


def test_a_scope_that_is_full_elsewhere_has_no_room_until_then():
    full = scope("mx:a", 5)
    full.blocked_until = 1.0
    assert full.room(0.9, alone=False) == 0
    assert full.room(1.0, alone=False) == 5
