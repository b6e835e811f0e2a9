"""The sandbox's verdicts: what the part before the @ says, whatever the domain, and always the same."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.problem import Problem
from gateway.results.verdicts import found_results
from gateway.sandbox.answer import SandboxedBroker, answer
from gateway.sandbox.simulate import FINDINGS, HOST, PROVIDER, refuse_if_asked, simulate
from shared.broker.inprocess import InProcessBroker
from shared.messages import ResultMessage, WorkMessage
from shared.topology import RESULTS, WORK
from shared.verdict import BILLABLE, Reason, Status, Verdict

NOW = 1_700_000_000.0


def verdict(email: str, look: int = 0, *, last_look: bool = False) -> Verdict:
    found = simulate(email, look=look, last_look=last_look, now=NOW)
    assert found is not None
    return found


def test_every_reason_there_is_can_be_had() -> None:
    assert FINDINGS.keys() == set(map(str, Reason))
    for reason in Reason:
        found = verdict(f"{reason}@anything.example")
        assert found.reason is reason
        assert found.finding.provider == PROVIDER


@pytest.mark.parametrize(
    ("email", "status", "reason"),
    [
        ("mailbox-missing@a.example", Status.INVALID, Reason.MAILBOX_MISSING),
        ("Mailbox_Missing@b.example", Status.INVALID, Reason.MAILBOX_MISSING),
        ("ann+catch-all@c.example", Status.RISKY, Reason.CATCH_ALL),
        ("ann+timeout+role-account@c.example", Status.RISKY, Reason.ROLE_ACCOUNT),
        ("catch-all+ann@c.example", Status.VALID, Reason.ACCEPTED),
        ("ann.lee@example.com", Status.VALID, Reason.ACCEPTED),
    ],
)
def test_a_word_is_taken_in_any_spelling_alone_or_behind_the_last_plus(email: str, status: Status, reason: Reason):
    found = verdict(email)
    assert (found.status, found.reason) == (status, reason)


def test_a_greylisted_address_is_put_off_once_and_then_accepted() -> None:
    assert simulate("greylisted@a.example", look=0, last_look=False, now=NOW) is None
    assert verdict("greylisted@a.example", look=1).reason is Reason.ACCEPTED
    assert verdict("greylisted@a.example", last_look=True).reason is Reason.PUT_OFF


def test_a_result_has_the_shape_of_every_other_and_names_no_real_server() -> None:
    result = verdict("mailbox-full@a.example").result()
    assert (result.email, result.normalized) == ("mailbox-full@a.example", "mailbox-full@a.example")
    assert result.details.smtp.code == 552
    assert result.details.dns.mx == [HOST]
    assert HOST.endswith(".invalid")
    assert result.details.flags.mailbox_full
    assert result.details.syntax["domain"] == "a.example"
    assert verdict("domain-missing@a.example").result().details.smtp.host is None
    broken = verdict("invalid-syntax@a.example").result()
    assert (broken.normalized, broken.details.syntax["valid"]) == (None, False)


@given(st.emails())
def test_the_same_address_gets_the_same_verdict_and_only_definite_ones_have_a_status(email: str) -> None:
    once, again = (simulate(email, look=1, last_look=False, now=NOW) for _ in range(2))
    assert once == again
    assert once is not None
    assert once.status in BILLABLE | {Status.UNKNOWN}


def test_only_the_word_for_it_has_a_request_refused_for_lack_of_credits() -> None:
    refuse_if_asked(["ann@a.example", "no address", ""])
    with pytest.raises(Problem) as refused:
        refuse_if_asked(["ann@a.example", " insufficient-credits@a.example "])
    assert (refused.value.status, refused.value.code) == (402, "insufficient_credits")


def work(file_id: str) -> WorkMessage:
    emails = ["ann@a.example", "greylisted@a.example", "catch-all@b.example"]
    return WorkMessage(batch_id=f"{file_id}.0000001", file_id=file_id, org_id="org", attempt=2, emails=emails)


def test_an_answer_is_what_a_validator_would_publish() -> None:
    asked = work("test_1")
    message = ResultMessage.decode(answer(asked, NOW).encode())
    assert (message.batch_id, message.attempt, message.look) == (asked.batch_id, 2, 0)
    assert [one.index for one in message.put_off] == [1]
    results = found_results(message, asked.emails, [1, 2, 3])
    assert [(one["row"], one["reason"]) for one in results] == [(1, "accepted"), (3, "catch_all")]


async def test_work_of_a_test_file_is_answered_and_never_queued_while_other_work_is() -> None:
    async with InProcessBroker() as inner:
        broker = SandboxedBroker(inner, clock=lambda: NOW)
        for file_id in ("test_1", "1"):
            asked = work(file_id)
            await broker.publish(WORK, asked.encode(), f"{asked.batch_id}:2")
        assert (await inner.depth(WORK), await inner.depth(RESULTS)) == (1, 1)
        async with broker.subscribe(WORK, 1) as deliveries:
            delivery = await anext(aiter(deliveries))
            assert WorkMessage.decode(delivery.body).file_id == "1"
            await delivery.ack()
