from itertools import product

import pytest

from shared.address import parse_address
from shared.verdict import VERIFY_STATUS, Finding, Reason, Result, RiskLevel, Status
from validator import judge as judging
from validator.evidence import Attempt, CatchAll, DnsAnswer, Evidence, Later, Outcome, Phase, Route
from validator.lists import list_flags
from validator.providers import Provider
from validator.smtp.classify import ReplyClass, classify


def judge(about):
    """The verdict as users see it."""
    email, facts = about
    found = judging.judge(facts)
    return found.about(email, email, "") if isinstance(found, Finding) else found


TRUTHFUL = Provider(name="honest", mx=("mx.corp.test",), truthful=True)
ACCEPTS_ALL = Provider(name="yes-man", mx=("mx.corp.test",), accepts_all=True)


def reply(code, text="", phase=Phase.RCPT, after=None):
    return Attempt(
        host="mx.corp.test",
        address="192.0.2.1",
        outcome=Outcome.REPLIED,
        phase=phase,
        code=code,
        text=text,
        kind=classify(code, text, phase).cls,
        after=after,
    )


def silence(outcome, phase=Phase.CONNECT):
    return Attempt(host="mx.corp.test", outcome=outcome, phase=phase)


def evidence(*attempts, email="ann@corp.test", answer=DnsAnswer.FOUND, provider=None, allowed=True, **facts):
    address = parse_address(email)
    return email, Evidence(
        domain=address.domain,
        flags=list_flags(address.local, address.domain),
        route=Route(answer=answer, hosts=("mx.corp.test",), provider=provider, probe_allowed=allowed),
        attempts=attempts,
        **facts,
    )


def verdict(found):
    assert isinstance(found, Result), found
    return found.status, found.reason


ACCEPTED = reply(250, "2.1.5 Ok")


@pytest.mark.parametrize("code", [250, 251])
def test_accepted_where_a_random_address_is_refused_is_valid(code):
    found = judge(evidence(reply(code), catch_all=CatchAll.NO))
    assert verdict(found) == (Status.VALID, Reason.ACCEPTED)
    assert found.is_valid
    assert found.risk_level is RiskLevel.LOW
    assert found.score == 95
    assert found.details.smtp.code == code


@pytest.mark.parametrize("attempt", [reply(252), reply(200), reply(250, phase=Phase.MAIL), reply(354), reply(299)])
def test_no_other_reply_is_proof_of_a_mailbox(attempt):
    assert verdict(judge(evidence(attempt, catch_all=CatchAll.NO))) == (Status.UNKNOWN, Reason.PROTOCOL_ERROR)


def test_accepted_with_everything_else_is_catch_all():
    found = judge(evidence(ACCEPTED, catch_all=CatchAll.YES))
    assert verdict(found) == (Status.RISKY, Reason.CATCH_ALL)
    assert found.details.flags.catch_all
    assert found.risk_level is RiskLevel.MEDIUM


@pytest.mark.parametrize("catch_all", [CatchAll.INCONCLUSIVE, CatchAll.NOT_ASKED])
def test_accepted_without_a_clear_random_answer_waits_and_is_never_called_valid(catch_all):
    assert judge(evidence(ACCEPTED, catch_all=catch_all)) == Later(Reason.PUT_OFF)
    last = judge(evidence(ACCEPTED, catch_all=catch_all, look=3, last_look=True))
    assert verdict(last) == (Status.UNKNOWN, Reason.PUT_OFF)


def test_the_wait_that_a_host_asked_for_the_random_address_is_kept():
    found = judge(evidence(reply(250), catch_all=CatchAll.INCONCLUSIVE, random_after=300.0))
    assert found == Later(Reason.PUT_OFF, 300.0)


def test_accepted_without_a_clear_random_answer_is_valid_at_a_provider_known_to_refuse_strangers():
    sure = judge(evidence(ACCEPTED, catch_all=CatchAll.NO, provider=TRUTHFUL))
    unsure = judge(evidence(ACCEPTED, catch_all=CatchAll.INCONCLUSIVE, provider=TRUTHFUL, last_look=True))
    assert verdict(unsure) == (Status.VALID, Reason.ACCEPTED)
    assert unsure.score < sure.score


def test_accepted_where_the_random_address_was_dodged_and_another_refused_is_valid_last_of_all_and_for_less():
    assert judge(evidence(ACCEPTED, catch_all=CatchAll.NOT_ALL)) == Later(Reason.PUT_OFF)
    row = judge(evidence(ACCEPTED, catch_all=CatchAll.INCONCLUSIVE, provider=TRUTHFUL, last_look=True))
    shown = judge(evidence(ACCEPTED, catch_all=CatchAll.NOT_ALL, last_look=True))
    role = judge(evidence(ACCEPTED, email="info@corp.test", catch_all=CatchAll.NOT_ALL, last_look=True))
    assert verdict(shown) == (Status.VALID, Reason.ACCEPTED)
    assert verdict(role) == (Status.RISKY, Reason.ROLE_ACCOUNT)
    assert role.score < shown.score < row.score


def test_a_skipped_random_probe_trusts_the_providers_row():
    assert verdict(judge(evidence(ACCEPTED, catch_all=CatchAll.SKIPPED))) == (Status.VALID, Reason.ACCEPTED)


def test_a_250_of_a_provider_that_accepts_everything_says_nothing():
    for catch_all in CatchAll:
        found = judge(evidence(ACCEPTED, catch_all=catch_all, provider=ACCEPTS_ALL))
        assert verdict(found) == (Status.UNKNOWN, Reason.PROVIDER_POLICY)


def test_a_refusal_of_a_provider_that_accepts_everything_still_counts():
    found = judge(evidence(reply(550, "5.1.1 User unknown"), provider=ACCEPTS_ALL))
    assert verdict(found) == (Status.INVALID, Reason.MAILBOX_MISSING)


def test_a_provider_that_forbids_probing_is_unknown_without_an_attempt():
    assert verdict(judge(evidence(allowed=False))) == (Status.UNKNOWN, Reason.PROVIDER_POLICY)


@pytest.mark.parametrize(
    ("email", "catch_all", "reason"),
    [
        ("ann@mailinator.com", CatchAll.NO, Reason.DISPOSABLE),
        ("ann@mailinator.com", CatchAll.YES, Reason.DISPOSABLE),
        ("info@corp.test", CatchAll.NO, Reason.ROLE_ACCOUNT),
        ("info@corp.test", CatchAll.YES, Reason.CATCH_ALL),
        ("info@mailinator.com", CatchAll.NO, Reason.DISPOSABLE),
    ],
)
def test_an_attribute_makes_an_accepted_address_risky(email, catch_all, reason):
    assert verdict(judge(evidence(ACCEPTED, email=email, catch_all=catch_all))) == (Status.RISKY, reason)


@pytest.mark.parametrize("email", ["info@corp.test", "ann@mailinator.com", "noreply@gmail.com"])
@pytest.mark.parametrize(
    ("text", "reason"),
    [("5.1.1 User unknown", Reason.MAILBOX_MISSING), ("5.2.1 Mailbox disabled", Reason.MAILBOX_DISABLED)],
)
def test_no_attribute_hides_an_invalid(email, text, reason):
    found = judge(evidence(reply(550, text), email=email))
    assert verdict(found) == (Status.INVALID, reason)
    assert found.score == 0
    assert found.risk_level is RiskLevel.HIGH
    assert found.details.flags.disabled is (reason is Reason.MAILBOX_DISABLED)


@pytest.mark.parametrize("code", [452, 552])
def test_a_full_mailbox_is_risky_at_once(code):
    found = judge(evidence(reply(code, "mailbox full")))
    assert verdict(found) == (Status.RISKY, Reason.MAILBOX_FULL)
    assert found.details.flags.mailbox_full


def test_a_domain_that_is_not_hosted_there_is_invalid_only_when_said_for_good():
    assert verdict(judge(evidence(reply(554, "5.7.1 Relay access denied")))) == (Status.INVALID, Reason.RELAY_DENIED)
    later = judge(evidence(reply(454, "4.7.1 Relay access denied")))
    assert later == Later(Reason.PUT_OFF)


@pytest.mark.parametrize(
    ("answer", "status", "reason"),
    [
        (DnsAnswer.NULL_MX, Status.INVALID, Reason.NULL_MX),
        (DnsAnswer.DOMAIN_MISSING, Status.INVALID, Reason.DOMAIN_MISSING),
        (DnsAnswer.NO_MAIL_HOST, Status.INVALID, Reason.NO_MAIL_HOST),
        (DnsAnswer.PRIVATE_ADDRESS, Status.UNKNOWN, Reason.PRIVATE_ADDRESS),
    ],
)
def test_the_dns_alone_can_decide(answer, status, reason):
    assert verdict(judge(evidence(answer=answer))) == (status, reason)


def test_a_failing_dns_is_asked_again_and_never_invalid():
    assert judge(evidence(answer=DnsAnswer.FAILURE)) == Later(Reason.DNS_FAILURE)
    assert verdict(judge(evidence(answer=DnsAnswer.FAILURE, last_look=True))) == (Status.UNKNOWN, Reason.DNS_FAILURE)


@pytest.mark.parametrize(
    ("attempt", "put_off", "final"),
    [
        (reply(450, "4.2.0 Greylisted, try again in 5 minutes", after=300.0), Reason.PUT_OFF, Reason.PUT_OFF),
        (reply(452, "4.5.3 Too many recipients"), Reason.PUT_OFF, Reason.PUT_OFF),
        (reply(550, "5.2.1 receiving mail at a rate that prevents"), Reason.PUT_OFF, Reason.PUT_OFF),
        (reply(421, "4.7.0 your IP has a poor reputation"), Reason.PROBER_BLOCKED, Reason.PROBER_BLOCKED),
        (reply(451, "4.3.0 internal error"), Reason.SERVER_ERROR, Reason.SERVER_ERROR),
        (silence(Outcome.TIMEOUT), Reason.TIMEOUT, Reason.TIMEOUT),
        (silence(Outcome.UNREACHABLE), Reason.UNREACHABLE, Reason.UNREACHABLE),
        (silence(Outcome.HUNG_UP), Reason.SERVER_ERROR, Reason.SERVER_ERROR),
        (silence(Outcome.TLS_FAILED), Reason.TLS_FAILED, Reason.TLS_FAILED),
        (silence(Outcome.CIRCUIT_OPEN), Reason.CIRCUIT_OPEN, Reason.CIRCUIT_OPEN),
        (silence(Outcome.LIMITED), Reason.PUT_OFF, Reason.PUT_OFF),
        (silence(Outcome.OUT_OF_TIME), Reason.PUT_OFF, Reason.PUT_OFF),
    ],
)
def test_what_may_change_is_looked_at_again_and_ends_as_unknown(attempt, put_off, final):
    assert judge(evidence(attempt)) == Later(put_off, attempt.after)
    assert verdict(judge(evidence(attempt, look=3, last_look=True))) == (Status.UNKNOWN, final)


def test_a_dead_host_gets_one_more_look_a_greylist_all_of_them():
    assert verdict(judge(evidence(silence(Outcome.TIMEOUT), look=1)))[0] is Status.UNKNOWN
    assert judge(evidence(reply(450, "greylisted"), look=2)) == Later(Reason.PUT_OFF)


@pytest.mark.parametrize(
    ("attempt", "reason"),
    [
        (reply(554, "5.7.1 blocked using zen.spamhaus.org"), Reason.PROBER_BLOCKED),
        (reply(550, "rejected"), Reason.PROBER_BLOCKED),
        (reply(554, "5.3.0 internal system error"), Reason.SERVER_ERROR),
        (reply(550, "5.1.1 User unknown", Phase.MAIL), Reason.PROBER_BLOCKED),
        (silence(Outcome.PROTOCOL_ERROR), Reason.PROTOCOL_ERROR),
        (silence(Outcome.NO_SMTPUTF8), Reason.PROTOCOL_ERROR),
    ],
)
def test_a_refusal_of_us_is_unknown_at_once_and_not_repeated(attempt, reason):
    assert verdict(judge(evidence(attempt))) == (Status.UNKNOWN, reason)


def test_a_breaker_that_opened_because_we_are_blocked_says_so():
    shut_out = Attempt(
        host="mx.corp.test", outcome=Outcome.CIRCUIT_OPEN, phase=Phase.CONNECT, kind=ReplyClass.SENDER_BLOCKED
    )
    assert judge(evidence(shut_out)) == Later(Reason.PROBER_BLOCKED)
    assert verdict(judge(evidence(shut_out, last_look=True))) == (Status.UNKNOWN, Reason.PROBER_BLOCKED)


def test_a_recipient_kind_before_rcpt_is_not_believed_even_if_classified_so():
    attempt = Attempt(
        host="mx", outcome=Outcome.REPLIED, phase=Phase.MAIL, code=550, text="x", kind=ReplyClass.MAILBOX_MISSING
    )
    assert verdict(judge(evidence(attempt))) == (Status.UNKNOWN, Reason.PROBER_BLOCKED)


def test_nobody_asked_is_put_off():
    assert judge(evidence()) == Later(Reason.PUT_OFF)
    assert verdict(judge(evidence(last_look=True))) == (Status.UNKNOWN, Reason.PUT_OFF)


def test_bad_syntax_is_invalid_and_says_why():
    found = judging.malformed(parse_address("ann@").why).about("ann@", None, "")
    assert verdict(found) == (Status.INVALID, Reason.INVALID_SYNTAX)
    assert found.normalized is None
    assert found.details.syntax["valid"] is False
    assert found.details.syntax["why"]


def test_a_mistyped_domain_is_named_and_costs_points():
    found = judge(evidence(email="ann@gmial.com", answer=DnsAnswer.DOMAIN_MISSING))
    assert found.suggestion == "ann@gmail.com"
    assert verdict(found) == (Status.INVALID, Reason.DOMAIN_MISSING)


def test_the_score_is_the_sum_of_its_parts():
    found = judge(evidence(ACCEPTED, email="info@corp.test", catch_all=CatchAll.YES))
    assert found.score == sum(found.details.score_parts.values())
    assert found.details.score_parts == {"answer": 55, "role": -10}


def test_the_result_carries_what_it_rests_on():
    found = judge(evidence(silence(Outcome.TIMEOUT), reply(550, "5.1.1 User unknown"), look=1, provider=TRUTHFUL))
    assert found.details.smtp.host == "mx.corp.test"
    assert (found.details.smtp.code, found.details.smtp.enhanced) == (550, "5.1.1")
    assert found.details.smtp.attempts == 2
    assert found.details.provider == "honest"
    assert found.details.dns.mx == ["mx.corp.test"]
    assert found.details.syntax == {"valid": True, "local": "ann", "domain": "corp.test", "smtputf8": False}


def test_over_every_combination_the_laws_of_the_contract_hold():
    codes = [250, 251, 252, 354, 421, 450, 452, 500, 550, 551, 552, 554, None]
    kinds = [*ReplyClass, None]
    for code, kind, phase, outcome, catch_all, look in product(codes, kinds, Phase, Outcome, CatchAll, (0, 3)):
        attempt = Attempt(host="mx", address="192.0.2.1", outcome=outcome, phase=phase, code=code, kind=kind)
        found = judge(evidence(attempt, catch_all=catch_all, look=look, last_look=look == 3))
        if isinstance(found, Later):
            assert look == 0 or found.unasked
            assert found.unasked is (outcome is Outcome.NO_TURN)
            continue
        assert found.verify_status is VERIFY_STATUS[found.status]
        assert found.is_valid is (found.status is Status.VALID)
        assert 0 <= found.score <= 100
        spoke = outcome is Outcome.REPLIED and phase is Phase.RCPT
        if found.status is not Status.UNKNOWN:
            assert spoke
        if found.status is Status.INVALID:
            assert code >= 500
        if found.status is Status.VALID:
            assert code in (250, 251)
            assert catch_all in (CatchAll.NO, CatchAll.SKIPPED) or (catch_all is CatchAll.NOT_ALL and look == 3)
