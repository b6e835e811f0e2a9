from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.results.summary import MAX_DOMAINS, TOP_DOMAINS, Totals, add_up, by_domain, empty_summary, summarise
from gateway.results.verdicts import malformed_result, undecided_result
from shared.verdict import Reason


def result(email: str, status: str = "valid", reason: str = "accepted") -> dict[str, str]:
    return {"email": email, "normalized": email.lower(), "status": status, "reason": reason}


RESULTS = st.lists(
    st.builds(
        lambda name, domain, outcome: result(f"{name}@{domain}", *outcome),
        st.sampled_from("abc"),
        st.sampled_from(["x.example", "y.example", "z.example"]),
        st.sampled_from(
            [("valid", "accepted"), ("invalid", "mailbox_missing"), ("risky", "catch_all"), ("unknown", "timeout")]
        ),
    )
)


def test_counts_by_status_reason_and_domain() -> None:
    summary = summarise(
        [
            result("a@X.example"),
            result("b@x.example", "invalid", "mailbox_missing"),
            result("c@y.example", "unknown", "timeout"),
        ]
    )
    assert (summary["valid"], summary["invalid"], summary["risky"], summary["unknown"]) == (1, 1, 0, 1)
    assert summary["billable"] == 2
    assert summary["reasons"] == {"accepted": 1, "mailbox_missing": 1, "timeout": 1}
    assert dict(by_domain(summary["domains"])) == {"x.example": [1, 1, 0, 0], "y.example": [0, 0, 0, 1]}


def test_bad_syntax_is_invalid_and_free_and_of_no_domain() -> None:
    summary = summarise([malformed_result("not@an@address", "two at signs", 0.0)])
    assert (summary["invalid"], summary["billable"], summary["domains"]) == (1, 0, [])


def test_an_address_nobody_decided_is_unknown_and_free() -> None:
    given_up = undecided_result("a@x.example", Reason.TIMEOUT, 0.0)
    summary = summarise([given_up])
    assert (summary["unknown"], summary["billable"]) == (1, 0)
    assert dict(by_domain(summary["domains"])) == {"x.example": [0, 0, 0, 1]}


def test_nothing_is_the_empty_summary() -> None:
    assert summarise([]) == empty_summary()


def test_a_status_nobody_knows_is_refused() -> None:
    with pytest.raises(KeyError):
        summarise([result("a@x.example", "splendid")])


@given(RESULTS, RESULTS)
def test_two_parts_add_up_to_the_whole(first, second) -> None:
    whole, added = summarise([*first, *second]), add_up(summarise(first), summarise(second))
    assert dict(by_domain(added["domains"])) == dict(by_domain(whole["domains"]))
    assert {**added, "domains": []} == {**whole, "domains": []}


@given(RESULTS, RESULTS)
def test_what_is_taken_out_leaves_no_trace_in_the_counts(first, second) -> None:
    totals = Totals()
    totals.add(summarise(first))
    totals.add(summarise(second))
    totals.add(summarise(second), -1)
    alone = Totals()
    alone.add(summarise(first))
    assert totals.processed == alone.processed
    assert totals.fields()["reasons"] == alone.fields()["reasons"]
    assert totals.billable == alone.billable


def test_only_the_largest_domains_are_shown_and_kept() -> None:
    totals = Totals()
    for n in range(2 * MAX_DOMAINS + 2):
        totals.add({**empty_summary(), "valid": 1 + (n == 7), "domains": [f"d{n}.example", 1 + (n == 7), 0, 0, 0]})
    shown = list(by_domain(totals.fields()["domains"]))
    assert len(shown) == TOP_DOMAINS
    assert shown[0] == ("d7.example", [2, 0, 0, 0])
    assert len(totals.domains) <= 2 * MAX_DOMAINS
    assert totals.processed == 2 * MAX_DOMAINS + 3
