from __future__ import annotations

from typing import Any, cast

import pytest

from gateway.live.hub import MAX_STREAMS, QUEUED, Happened, LiveHub, MayHaveMissed, read_event
from gateway.problem import Problem


def hub() -> LiveHub:
    return LiveHub(cast("Any", None), cast("Any", None))


def test_an_announced_event_is_read_without_decoding_its_data() -> None:
    event = read_event(b'{"id":"1700000000000001000","event":"stats","total":3,"domains":["a,b"]}')
    assert event == Happened(1700000000000001000, "stats", b'{"total":3,"domains":["a,b"]}')


@pytest.mark.parametrize("message", [b"", b"{}", b'{"id":"x","event":"stats",}', b"no json"])
def test_what_is_no_event_is_refused(message: bytes) -> None:
    with pytest.raises(ValueError):
        read_event(message)


async def test_every_watch_of_a_file_hears_and_others_do_not() -> None:
    live = hub()
    first, second, other = live.watch("f", "a"), live.watch("f", "b"), live.watch("g", "a")
    live._hear("file_stats:f", b'{"id":"7","event":"stats","total":3}')
    for watch in (first, second):
        assert await watch.next() == Happened(7, "stats", b'{"total":3}')
    assert not other._items


async def test_undecodable_news_are_left_out() -> None:
    live = hub()
    watch = live.watch("f", "a")
    live._hear("file_stats:f", b"nonsense")
    live._hear("batch_progress", b"nonsense")
    assert not watch._items


async def test_a_reader_that_is_too_slow_is_let_go() -> None:
    watch = hub().watch("f", "a")
    for _ in range(QUEUED):
        watch.put(MayHaveMissed())
    watch.put(MayHaveMissed())
    assert await watch.next() is None


def test_streams_are_bounded_per_organisation() -> None:
    live = hub()
    watches = [live.watch("f", "a") for _ in range(MAX_STREAMS)]
    with pytest.raises(Problem) as caught:
        live.watch("g", "a")
    assert caught.value.status == 429
    live.watch("g", "b")
    watches[0].close()
    watches[0].close()
    live.watch("g", "a")
    with pytest.raises(Problem):
        live.watch("g", "a")


async def test_ending_closes_every_stream_and_lets_no_other_in() -> None:
    live = hub()
    watch = live.watch("f", "a")
    live.end_streams()
    assert await watch.next() is None
    with pytest.raises(Problem) as caught:
        live.watch("f", "a")
    assert caught.value.status == 503


def test_nothing_is_remembered_of_a_file_nobody_watches() -> None:
    live = hub()
    watch = live.watch("f", "a")
    live._hints["f"] = {"b": 1}
    watch.close()
    assert (live._watches, live._hints) == ({}, {})
