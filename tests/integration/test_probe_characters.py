"""Every character of the mail lab, and the verdicts it must lead to; manners are asserted on the wire log at the end."""

from __future__ import annotations

from typing import Any

import pytest

from services.maillab.characters import CHARACTERS
from services.maillab.world import World
from tests.integration.probe_lab import probing

TRUE = ("accepted", "mailbox_missing")
UNSAID = ("protocol_error", "protocol_error")
# What an existing and a missing mailbox get at the last look.
EXPECTED: dict[str, tuple[str, str]] = {
    "catch_all": ("catch_all", "catch_all"),
    "greylisting": ("put_off", "mailbox_missing"),
    "greylisting_first_session": ("server_error", "server_error"),
    "full": ("mailbox_full", "mailbox_missing"),
    "disabled": ("mailbox_disabled", "mailbox_missing"),
    "blocks_us": ("prober_blocked", "prober_blocked"),
    "rate_limited": ("put_off", "put_off"),
    "server_error": ("server_error", "server_error"),
    "relay_denied": ("relay_denied", "relay_denied"),
    "defers_random": ("accepted", "mailbox_missing"),
    "half_catch_all": ("catch_all", "mailbox_missing"),
    "accepts_all_then_bounces": ("catch_all", "catch_all"),
    "replies_252": UNSAID,
    "domain_not_hosted": ("relay_denied", "relay_denied"),
    "unverified_first": ("put_off", "put_off"),
    "refuses_null_sender": ("prober_blocked", "prober_blocked"),
    "silent": ("timeout", "timeout"),
    "silent_after_ehlo": ("timeout", "timeout"),
    "silent_rcpt": ("timeout", "timeout"),
    "dripping": ("timeout", "timeout"),
    "drops": ("server_error", "server_error"),
    "disconnects_on_random": ("accepted", "mailbox_missing"),
    "down": ("unreachable", "unreachable"),
    "black_hole": ("unreachable", "unreachable"),
    "starttls_broken": ("tls_failed", "tls_failed"),
    "starttls_injects": UNSAID,
    "glued": UNSAID,
    "injected_lines": UNSAID,
    "mixed_codes": UNSAID,
    "bad_codes": UNSAID,
    "endless_reply": UNSAID,
    "endless_line": UNSAID,
    "garbage": UNSAID,
    "wrong_order": UNSAID,
}
WITHOUT_HASTE: dict[str, dict[str, Any]] = {"slow_banner": {"delay": 0.3}, "tarpit": {"delay": 0.02}}


async def seen_at(character: str, people: int, **options: Any) -> tuple[set[str], set[str]]:
    """The reasons given to `people` existing and as many missing mailboxes of one domain."""
    world = World()
    world.host("mx.lab.test", character, **options)
    world.domain("lab.test", mx=[(10, "mx.lab.test")])
    good = [f"ann{number}@lab.test" for number in range(people)]
    bad = [f"missing{number}@lab.test" for number in range(people)]
    async with probing(world, probe_timeout=0.4) as bench:
        reasons = await bench.reasons(*good, *bad)
    return set(reasons[:people]), set(reasons[people:])


@pytest.mark.parametrize("character", sorted(CHARACTERS))
async def test_a_character_leads_to_the_verdicts_it_deserves(character):
    good, bad = await seen_at(character, 12, **WITHOUT_HASTE.get(character, {}))
    expected = EXPECTED.get(character, TRUE)
    assert (good, bad) == ({expected[0]}, {expected[1]})


@pytest.mark.parametrize("at", ["connect", "ehlo", "mail", "rcpt"])
@pytest.mark.parametrize("character", ["glued", "mixed_codes", "bad_codes", "garbage", "endless_line"])
async def test_a_spoilt_reply_at_any_stage_is_never_a_verdict(character, at):
    good, bad = await seen_at(character, 3, at=at)
    assert (good, bad) == ({"protocol_error"}, {"protocol_error"})


@pytest.mark.parametrize("at", ["mail", "rcpt"])
async def test_a_reply_injected_late_is_never_a_verdict(at):
    assert await seen_at("injected_lines", 3, at=at, pause=0.03) == ({"protocol_error"}, {"protocol_error"})


async def test_swapped_replies_are_told_by_the_address_they_name_and_asked_again_one_by_one():
    assert await seen_at("wrong_order", 6, swapped=True) == ({"accepted"}, {"mailbox_missing"})


@pytest.mark.parametrize("reset", [False, True])
@pytest.mark.parametrize("after", [1, 4])
async def test_a_host_that_hangs_up_after_some_recipients_still_answers_for_all(after, reset):
    assert await seen_at("drops", 8, at="rcpt", after=after, reset=reset) == ({"accepted"}, {"mailbox_missing"})


@pytest.mark.parametrize("per", ["transaction", "session"])
@pytest.mark.parametrize("recipients", [1, 3, 7])
async def test_a_recipient_limit_costs_nobody_a_verdict(recipients, per):
    seen = await seen_at("recipient_limit", 10, recipients=recipients, per=per)
    assert seen == ({"accepted"}, {"mailbox_missing"})
