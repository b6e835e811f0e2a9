"""Faults of ours inside a session: they cost the session, and nobody a verdict."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from structlog.testing import capture_logs

from shared.verdict import Reason
from tests.unit.validator.smtp.probe_world import Seen, World, probe_all, with_probe
from tests.unit.validator.smtp.scripted_peer import Peer
from tests.unit.validator.smtp.virtual_time import run_virtually
from validator.egress.breaker import Breakers
from validator.egress.catch_all import CatchAllMemory
from validator.mail_domain import Group, MailDomain
from validator.smtp.conversation import Conversation
from validator.smtp.mail_host import FAULT_PAUSE, MOST_FAULTS
from validator.smtp.pace import Pace


@pytest.fixture(autouse=True)
def logged():
    """Nothing is rendered: tracebacks take longer than the tests."""
    with capture_logs() as lines:
        yield lines


KNOWN = [f"ann{number}@a.test" for number in range(30)]
MISSING = [f"missing{number}@a.test" for number in range(5)]
SEAMS = [
    (Group, "companion"),
    (Group, "answered"),
    (MailDomain, "answered"),
    (MailDomain, "random_recipient"),
    (MailDomain, "_learn"),
    (Group, "settle"),
    (Conversation, "ask"),
    (Conversation, "_pair"),
    (Conversation, "end"),
    (Conversation, "_refuse"),
    (Conversation, "open"),
    (Pace, "next_flight"),
    (Pace, "session_done"),
    (Breakers, "admit"),
]


def honest_world() -> World:
    return World({"a.test": (("mx.test", "192.0.2.1"),)}, {"192.0.2.1": Peer(frozenset(KNOWN))})


def break_seam(
    monkeypatch: pytest.MonkeyPatch, owner: type, name: str, fails: Callable[[int, tuple[Any, ...]], bool]
) -> list[int]:
    """Make calls of owner.name raise where `fails(number, arguments)`; returns a list of the numbers that did."""
    real, calls, failed = getattr(owner, name), [0], []

    def broken(*args: Any, **more: Any) -> Any:
        calls[0] += 1
        if fails(calls[0], args):
            failed.append(calls[0])
            raise RuntimeError("injected")
        return real(*args, **more)

    monkeypatch.setattr(owner, name, broken)
    return failed


def reasons(seen: Seen) -> list[Reason]:
    results, put_off = seen.batches[0]
    assert put_off == []
    return [result.reason for result in results]


@pytest.mark.parametrize("turn", [1, 2, 3])
@pytest.mark.parametrize(("owner", "name"), SEAMS, ids=lambda part: getattr(part, "__name__", part))
def test_one_fault_anywhere_in_a_session_costs_nobody_a_verdict(monkeypatch, owner, name, turn):
    failed = break_seam(monkeypatch, owner, name, lambda number, _: number == turn)
    seen = probe_all(honest_world(), KNOWN + MISSING)
    rare = {
        "companion",
        "random_recipient",
        "_learn",
        "open",
        "admit",
        "end",
        "session_done",
    }  # once a session or domain
    assert failed == [turn] or (turn > 1 and (name in rare or owner is MailDomain))
    assert reasons(seen) == [Reason.ACCEPTED] * len(KNOWN) + [Reason.MAILBOX_MISSING] * len(MISSING)
    assert seen.took[0] < 60
    assert all(not call.impolite for call in seen.world.peers["192.0.2.1"].calls)


def test_a_recipient_that_causes_a_fault_each_time_is_put_off_and_nobody_else(monkeypatch):
    poison = KNOWN[7]
    failed = break_seam(
        monkeypatch,
        Group,
        "answered",
        lambda _, args: args[1].address == poison and args[2].outcome == "replied",
    )
    seen = probe_all(honest_world(), KNOWN + MISSING)
    told = dict(zip(KNOWN + MISSING, reasons(seen), strict=True))
    assert len(failed) == 2
    assert told.pop(poison) is Reason.PUT_OFF
    assert set(told.values()) == {Reason.ACCEPTED, Reason.MAILBOX_MISSING}


def test_a_recipient_that_cannot_be_asked_about_is_put_off_and_nobody_else(monkeypatch):
    poison = KNOWN[7]
    break_seam(
        monkeypatch, Conversation, "ask", lambda _, args: any(recipient.address == poison for recipient in args[1])
    )
    told = dict(zip(KNOWN + MISSING, reasons(probe_all(honest_world(), KNOWN + MISSING)), strict=True))
    assert told.pop(poison) is Reason.PUT_OFF
    assert set(told.values()) == {Reason.ACCEPTED, Reason.MAILBOX_MISSING}


@pytest.mark.parametrize(("owner", "name"), SEAMS[3:], ids=lambda part: getattr(part, "__name__", part))
def test_faults_without_end_still_come_to_an_end_and_the_next_batch_is_served(monkeypatch, owner, name):
    """The verdicts of this batch may be lost; nothing is claimed that was not seen, and nothing is left held."""

    async def work(running):
        with monkeypatch.context() as broken:
            break_seam(broken, owner, name, lambda number, _: number <= 400)
            first = asyncio.create_task(running.check(*KNOWN, *MISSING, deadline=60))
            await asyncio.gather(first, return_exceptions=True)
            await asyncio.sleep(30)
        await asyncio.sleep(30)
        second = await running.check(*KNOWN, *MISSING)
        await running.come_to_rest()
        return first, second

    first, (results, put_off) = run_virtually(with_probe(honest_world(), work))
    if first.exception() is None:
        wrong = {(given[:3], told.status.value) for given, told in zip(KNOWN + MISSING, first.result()[0], strict=True)}
        assert wrong <= {("ann", "valid"), ("ann", "unknown"), ("mis", "invalid"), ("mis", "unknown")}
    assert put_off == []
    assert [result.reason for result in results] == [Reason.ACCEPTED] * 30 + [Reason.MAILBOX_MISSING] * 5


def test_after_some_faults_in_a_row_all_that_wait_are_put_off_at_once(monkeypatch):
    failed = break_seam(monkeypatch, Breakers, "admit", lambda *_: True)
    seen = probe_all(honest_world(), KNOWN)
    assert set(reasons(seen)) == {Reason.PUT_OFF}
    assert len(failed) == MOST_FAULTS
    assert seen.took[0] <= MOST_FAULTS * FAULT_PAUSE


def test_whoever_waits_for_another_validators_answer_does_not_wait_for_ever_after_a_fault(monkeypatch):
    async def work(running):
        await running.probe._catch_all.claim("a.test")
        with monkeypatch.context() as broken:
            break_seam(broken, CatchAllMemory, "wait", lambda *_: True)
            lost, _ = await running.check(*KNOWN)
        await running.probe._catch_all.release("a.test")
        found, _ = await running.check(*KNOWN)
        await running.come_to_rest()
        return lost, found

    lost, found = run_virtually(with_probe(honest_world(), work))
    assert {result.reason for result in lost} == {Reason.PUT_OFF}
    assert {result.reason for result in found} == {Reason.ACCEPTED}
