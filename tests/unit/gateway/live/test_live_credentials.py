"""Streams of whoever is not welcome any more."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import pytest

from gateway.live.hub import Watch
from gateway.live.routes import end_when_unwelcome


async def test_a_stream_in_which_nothing_happens_ends_when_its_key_is_refused() -> None:
    watch, answers = Watch("file", "org", cast("Any", None)), [True, True, False]

    async def welcome() -> bool:
        return answers.pop(0)

    waiting = asyncio.create_task(watch.next())
    async with asyncio.timeout(5):
        await end_when_unwelcome(watch, welcome, every=0)
        assert await waiting is None
    assert answers == []


async def test_a_stream_whose_caller_cannot_be_judged_ends_too() -> None:
    watch = Watch("file", "org", cast("Any", None))

    async def welcome() -> bool:
        raise RuntimeError("a fault of ours")

    with pytest.raises(RuntimeError):
        await end_when_unwelcome(watch, welcome, every=0)
    async with asyncio.timeout(5):
        assert await watch.next() is None
