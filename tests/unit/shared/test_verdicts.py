"""Verdicts as columns, and replies that name the address they are about."""

from hypothesis import given
from hypothesis import strategies as st

from shared.messages import ResultMessage, WorkMessage
from shared.verdict import ADDRESS, MAX_REPLY_TEXT, Finding, Reason, RiskLevel, SmtpDetails, Status, Verdict, named
from shared.verdicts import Verdicts

texts = st.text(st.characters(exclude_categories=("Cc", "Cs")), max_size=60)


def finding(text: str | None = None) -> Finding:
    return Finding(
        status=Status.INVALID,
        reason=Reason.MAILBOX_MISSING,
        risk_level=RiskLevel.HIGH,
        score=0,
        smtp=SmtpDetails(code=550, text=text, host="mx.x.test"),
    )


FINDINGS = [finding(), finding(f"no <{ADDRESS}>")]
verdicts = st.builds(
    Verdict,
    email=st.sampled_from(["a@x.test", "A@X.test", "b"]),
    normalized=st.sampled_from(["a@x.test", "b@x.test", None]),
    finding=st.sampled_from(FINDINGS),
    checked_at=st.sampled_from(["2026-01-01T00:00:00Z", "2026-01-01T00:00:01Z"]),
    trace=st.sampled_from([(), ({"sent": "QUIT"},)]),
)


@given(st.lists(st.none() | verdicts, max_size=9))
def test_columns_hold_what_was_put_into_them(told):
    emails = [verdict.email if verdict is not None else "c@x.test" for verdict in told]
    columns = Verdicts.of(emails, told)
    assert list(columns) == told
    assert len(columns) == len(told)
    work = WorkMessage(batch_id="b", file_id="f", org_id="o", attempt=1, emails=emails)
    message = ResultMessage.decode(ResultMessage.about(work, columns, []).encode())
    assert len(message.findings) <= len(FINDINGS)
    assert [None if at is None else message.findings[at] for at in message.found] == columns.findings


@given(texts, texts, st.sampled_from(["a@x.test", "o'neil@x.test", "jürgen@x.test", "a"]))
def test_a_reply_is_shown_as_it_was_said(before, after, address):
    said = f"{before}{address}{after}"[:MAX_REPLY_TEXT]
    assert named(said.replace(address, ADDRESS), address) == said


def test_a_finding_is_about_whomever_it_is_told_of():
    told = finding(f"5.1.1 <{ADDRESS}>: {ADDRESS} is not here")
    one, two = (told.about(email, email, "") for email in ("a@x.test", "b@x.test"))
    assert one.details.smtp.text == "5.1.1 <a@x.test>: a@x.test is not here"
    assert two.details.smtp.text == "5.1.1 <b@x.test>: b@x.test is not here"
    assert told.smtp.text is not None
    assert ADDRESS in told.smtp.text  # it is shared, and stays as it is
    long = finding(ADDRESS * 100).about("somebody@x.test", "somebody@x.test", "").details.smtp.text
    assert long is not None
    assert len(long) == MAX_REPLY_TEXT
