"""Whatever mail hosts do with delays and bytes: what may be said about an address, and how we behave meanwhile."""

from __future__ import annotations

import re

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from shared.verdict import Reason, Status
from tests.unit.validator.smtp.probe_world import Seen, World, probe_all
from tests.unit.validator.smtp.scripted_peer import CLOSE, HONEST, PIECES, Peer

SLOTS = 2
HARD_END = 90.0
ABOUT_US = (
    b"550 5.7.1 Service unavailable; client host [192.0.2.9] blocked using zen.spamhaus.org",
    b"554 5.7.1 You are not allowed to connect: your IP has a poor reputation",
    b"421 4.7.0 Too many errors from your IP, try again later",
    b"450 4.7.1 Greylisted, retry after 00:05:00",
)
OTHERS = (
    b"250 2.1.5 Ok", b"251 will forward", b"252 cannot verify", b"220 hello", b"221 bye", b"354 go on", b"334 ",
    b"421 4.3.2 shutting down", b"450 4.2.0 busy", b"452 4.5.3 too many recipients", b"451 4.3.0 try later",
    b"500 what", b"502 not here", b"503 bad sequence", b"530 5.7.0 Must issue a STARTTLS command first",
    b"550 5.1.1 no such user", b"550 <b@a.test> unknown", b"552 5.2.2 over quota", b"550-one\r\n550 two",
    b"250-one\r\n550 mixed", b"199 low", b"600 high", b"abc", b"", b"25", b"250-never ends", b"250\xff\xfe\x00",
    b"250-PIPELINING\r\n250-STARTTLS\r\n250 SMTPUTF8",
)  # fmt: skip
HUGE = (b"250 " + b"x" * 5_000 + b"\r\n", b"250-x\r\n" * 200, b"250-" + b"y" * 900 + b"\r\n", b"z" * 70_000)

delays = st.sampled_from([0.0, 0.0, 0.0, 0.0, 0.01, 0.5, 1.0, 4.0, 14.9, 15.1, 31.0, 70.0, 200.0])
said = st.one_of(
    st.sampled_from(ABOUT_US + OTHERS).map(lambda line: line + b"\r\n"),
    st.sampled_from(HUGE),
    st.binary(max_size=40),
    st.lists(st.sampled_from(OTHERS[:20]), min_size=2, max_size=4).map(
        lambda lines: b"".join(x + b"\r\n" for x in lines)
    ),
)
op = st.tuples(delays, st.one_of(st.just(HONEST), st.just(PIECES), st.just(CLOSE), said))
acts = st.one_of(
    st.just(((0.0, HONEST),)),
    st.just(((0.0, HONEST),)),
    delays.map(lambda delay: ((delay, HONEST),)),
    st.tuples(st.just((0.0, HONEST)), op),  # one too many, now or later
    st.tuples(op),
    st.lists(op, max_size=3).map(tuple),
)
peers = st.builds(
    Peer,
    mailboxes=st.just(frozenset({"b@a.test", "d@a.test", "b@b.test", "e1@a.test", "e2@b.test", "e3@a.test"})),
    extensions=st.sampled_from(
        [(), ("PIPELINING",), ("PIPELINING", "STARTTLS"), ("PIPELINING", "STARTTLS", "SMTPUTF8")]
    ),
    acts=st.builds(
        lambda well, strange: ((((0.0, HONEST),),) * well) + tuple(strange),
        st.integers(0, 8),  # banner, EHLO, MAIL and some RCPT go well first
        st.lists(acts, max_size=12),
    ),
    again=st.booleans(),
    connects=st.lists(st.sampled_from(["ok"] * 8 + ["refused", "silent"]), max_size=4).map(tuple),
    handshake=st.sampled_from(["ok", "ok", "reset", "ssl", "hangs"]),
    takes_all=st.sampled_from([False, False, True]),
    wants_tls=st.sampled_from([False, False, False, True]),
)
routes = st.sampled_from(
    [
        {"a.test": (("mx1.test", "192.0.2.1"),), "b.test": (("mx2.test", "192.0.2.1"),)},
        {"a.test": (("mx1.test", "192.0.2.1"), ("mx2.test", "192.0.2.2")), "b.test": (("mx2.test", "192.0.2.2"),)},
    ]
)
EMAILS = ["b@a.test", "c@a.test", "d@a.test", "b@b.test", "x@b.test", "jürgen@a.test", "not an address", "B@A.test"]
emails = st.lists(
    st.sampled_from([*EMAILS, *(f"e{n}@{d}.test" for n in range(30) for d in "ab")]), min_size=1, max_size=40
)
worlds = st.builds(lambda route, one, two: World(route, {"192.0.2.1": one, "192.0.2.2": two}), routes, peers, peers)
EXAMPLES = settings(
    max_examples=150, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck), database=None
)


def said_to(seen: Seen, address: str) -> list[tuple[int, bytes]]:
    return [reply for peer in seen.world.peers.values() for call in peer.calls for reply in call.said_about(address)]


def randoms(seen: Seen, domain: str) -> set[str]:
    pattern = re.compile(rb"RCPT TO:<(n[0-9a-f]{16}@%s)>" % domain.encode())
    lines = [line for peer in seen.world.peers.values() for call in peer.calls for line in call.commands]
    return {found[1].decode() for line in lines if (found := pattern.fullmatch(line))}


def check_verdicts(seen: Seen, batches: list[list[str]], *, last_look: bool) -> None:
    for asked, (results, put_off) in zip(batches, seen.batches, strict=True):
        assert len(results) == len(asked)
        late = [each.index for each in put_off]
        assert sorted(late) == [index for index, result in enumerate(results) if result is None]
        assert not last_look or all(each.unasked for each in put_off)
        for result in results:
            if result is None or result.normalized is None:
                continue
            codes = [(code, line) for code, line in said_to(seen, result.normalized)]
            if result.status is Status.VALID:
                assert {250, 251} & {code for code, _ in codes}, result
                domain = result.normalized.rpartition("@")[2]
                assert any(code >= 500 for r in randoms(seen, domain) for code, _ in said_to(seen, r)), result
            if result.status is Status.INVALID:
                assert any(code >= 500 and line not in ABOUT_US for code, line in codes), result
            if result.reason is Reason.CATCH_ALL:
                assert {250, 251} & {code for code, _ in codes}, result


def check_manners(seen: Seen, asked: set[str]) -> None:
    allowed = {f"RCPT TO:<{address}>".encode() for address in asked}
    for domain in seen.world.routes:
        found = randoms(seen, domain)
        assert len(found) <= 1
        allowed |= {f"RCPT TO:<{address}>".encode() for address in found}
    for peer in seen.world.peers.values():
        for call in peer.calls:
            assert call.impolite == "", (call.impolite, call.commands, call.replies)
            assert (call.ended or 0) - call.began <= HARD_END + 0.1
            assert {line for line in call.commands if line.startswith(b"RCPT")} <= allowed
    assert max(seen.wire.peak.values(), default=0) <= SLOTS * 2  # one address under two names that differ


@EXAMPLES
@given(worlds, st.lists(emails, min_size=1, max_size=2), st.booleans(), st.sampled_from([20.0, 300.0]))
def test_no_peer_makes_the_probe_lie_raise_or_forget_its_manners(world, batches, last_look, deadline):
    seen = probe_all(world, *batches, last_look=last_look, deadline=deadline)
    assert seen.faults == 0
    assert max(seen.took) <= deadline + 0.1
    check_verdicts(seen, batches, last_look=last_look)
    check_manners(seen, {address.replace("@A.", "@a.") for batch in batches for address in batch})
