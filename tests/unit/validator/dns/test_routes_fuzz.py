"""Whatever name servers say: a route or a failure, within bounds, and never "no such domain" unless they said so."""

from __future__ import annotations

import asyncio
import struct
from ipaddress import ip_address

import dns.message
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from shared.settings import Settings
from tests.unit.validator.dns.scripted_server import MOST_OVER_UDP, Said, Server, ServerLoop, write_reply
from validator.dns.resolver import MAX_ADDRESSES, MAX_HOSTS, MAX_QUERIES, Resolver
from validator.dns.route import MailRoute, Outcome

TIMEOUT = 5.0
SENDINGS = 3 * 2  # of one question, over two servers
NAMES = ["d.test", *(f"m{number}.test" for number in range(8))]
PUBLIC = ("8.8.8.8", "1.1.1.1", "9.9.9.9", "193.0.6.139")
ODD = ("127.0.0.1", "10.0.0.1", "169.254.169.254", "0.0.0.0", "224.0.0.1", "192.168.1.1")
HEADER = 12

hosts = st.lists(
    st.tuples(st.integers(0, 3), st.sampled_from([*NAMES[1:], "", "127.1", "localhost", "x_y.test", "2130706433"])),
    min_size=1,
    max_size=12,
)
facts = st.one_of(
    hosts.map(lambda pairs: ("MX", tuple(f"{preference} {host}." for preference, host in pairs))),
    st.lists(st.sampled_from(PUBLIC + ODD), min_size=1, max_size=12).map(lambda found: ("A", tuple(found))),
    st.sampled_from(["2606:4700::1111", "::1", "::ffff:127.0.0.1", "64:ff9b::a00:1", "fe80::1"]).map(
        lambda address: ("AAAA", (address,))
    ),
    st.sampled_from(NAMES).map(lambda target: ("CNAME", (f"{target}.",))),
)
zones = st.dictionaries(st.sampled_from(NAMES), st.lists(facts, max_size=3), max_size=9)
codes = st.sampled_from(["NOERROR"] * 6 + ["NXDOMAIN", "SERVFAIL", "REFUSED", "FORMERR", "NOTIMP"])
mutations = st.one_of(
    st.none(),
    st.none(),
    st.none(),
    st.tuples(st.just("set"), st.integers(0, 200), st.integers(0, 255)),
    st.tuples(st.just("cut"), st.integers(0, 200), st.just(0)),
    st.tuples(st.just("pointer"), st.integers(HEADER, 200), st.integers(0, 255)),
    st.tuples(st.just("counts"), st.integers(0, 65_535), st.integers(0, 65_535)),
    st.tuples(st.just("garbage"), st.integers(0, 80), st.integers(0, 255)),
)
behaviours = st.lists(
    st.tuples(codes, mutations, st.sampled_from([0.0, 0.0, 0.0, 0.2, 1.5, 9.0]), st.integers(0, 2)), max_size=12
)
EXAMPLES = settings(
    max_examples=200, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck), database=None
)


def mutate(packet: bytes, how: tuple[str, int, int] | None) -> bytes:
    if how is None:
        return packet
    kind, place, value = how
    changed = bytearray(packet)
    match kind:
        case "set":
            changed[place % len(changed)] = value
        case "cut":
            del changed[place % len(changed) :]
        case "pointer":
            place = min(place, len(changed) - 2)
            changed[place : place + 2] = bytes((0xC0 | value & 3, value))
        case "counts":
            struct.pack_into("!HH", changed, 6, place, value)
        case _:
            changed[2:] = bytes((value * number) & 0xFF for number in range(place))
    return bytes(changed)


class Zone:
    """Answers from `records`; the next of `turns` says with what code, what harm, how late and how often."""

    def __init__(self, records: dict, turns: list) -> None:
        self.records = records
        self.turns = turns
        self.number = 0

    def answer(self, query: bytes, over_tcp: bool) -> list[Said]:  # noqa: FBT001 - a callback's shape
        code, harm, delay, copies = "NOERROR", None, 0.0, 1
        if self.turns and self.number < 3 * len(self.turns):
            code, harm, delay, copies = self.turns[self.number % len(self.turns)]
        self.number += 1
        question = dns.message.from_wire(query).question[0]
        name, kind = question.name.to_text(omit_final_dot=True), dns.rdatatype.to_text(question.rdtype)
        found = self.records.get(name, [])
        if code == "NOERROR":
            chosen = [fact for fact in found if fact[0] == kind] or [fact for fact in found if fact[0] == "CNAME"][:1]
            packet = write_reply(query, tuple((name, fact[0], fact[1]) for fact in chosen))
        else:
            packet = write_reply(query, (), code)
        if len(packet) > MOST_OVER_UDP and not over_tcp:
            head = bytearray(write_reply(query))
            head[2] |= 0x02
            packet = bytes(head)
        return [(delay, mutate(packet, harm))] * copies


def ask(server: Server, *domains: str) -> tuple[list[MailRoute], float]:
    """The routes, asked for at once, and the virtual seconds that took."""
    loop = ServerLoop()
    loop.server = server
    chosen = Settings.load(_env_file=None, dns_nameservers="192.0.2.53,192.0.2.54", dns_timeout=TIMEOUT)

    async def work() -> tuple[list[MailRoute], float]:
        async with Resolver(chosen, clock=loop.time) as resolver:
            routes = await asyncio.gather(*(resolver.mail_route(domain) for domain in domains))
            took = loop.time()
        await asyncio.sleep(60)  # whatever is late comes now
        assert resolver._routes._fetching == {}
        assert resolver._hosts._fetching == {}
        return routes, took

    try:
        return loop.run_until_complete(work())
    finally:
        left = asyncio.all_tasks(loop)
        loop.close()
        assert loop.faults == []
        assert left == set()


def check(server: Server, route: MailRoute) -> None:
    assert len(route.hosts) <= MAX_HOSTS
    addresses = [address for host in route.hosts for address in host.addresses]
    assert len(addresses) <= MAX_ADDRESSES
    assert all(ip_address(address).is_global for address in addresses)
    assert bool(addresses) == (route.outcome is Outcome.HOSTS)
    if route.outcome is Outcome.DOMAIN_MISSING:
        assert server.said_code(3)
    if route.outcome in (Outcome.NO_MAIL_HOST, Outcome.NULL_MX, Outcome.PRIVATE_ADDRESS):
        assert server.said_code(0, 3)


@EXAMPLES
@given(zones, behaviours)
def test_whatever_the_servers_say_a_route_is_true_and_bounded(records, turns):
    server = Server(Zone(records, turns).answer)
    (route,), took = ask(server, "d.test")
    check(server, route)
    assert took <= TIMEOUT + 0.01
    assert len({query[2:] for query in server.queries}) <= MAX_QUERIES
    assert server.datagrams <= MAX_QUERIES * SENDINGS
    assert server.streams <= MAX_QUERIES


@settings(EXAMPLES, max_examples=60)
@given(zones, behaviours)
def test_domains_that_share_their_hosts_do_not_harm_one_another(records, turns):
    server = Server(Zone(records, turns).answer)
    routes, took = ask(server, *NAMES)
    for route in routes:
        check(server, route)
    assert took <= TIMEOUT + 0.01
    assert server.datagrams <= len(NAMES) * MAX_QUERIES * SENDINGS


@settings(EXAMPLES, max_examples=60)
@given(st.lists(st.binary(max_size=600), max_size=4))
def test_garbage_alone_says_nothing_about_a_domain(garbage):
    server = Server(
        lambda query, _: [(0.0, query[:2] + bytes((junk[0] & 0x7F,)) + junk[1:]) for junk in garbage if junk]
    )
    (route,), took = ask(server, "d.test")
    assert route.outcome is Outcome.DNS_FAILURE
    assert route.temporary
    assert took <= TIMEOUT + 0.01


def pointers(query: bytes, count: int) -> bytes:
    """An answer whose owner is a name behind `count` pointers, each to the one before."""
    body = bytearray(query)
    struct.pack_into("!HHHHH", body, 2, 0x8180, 1, 1, 0, 0)
    target = HEADER
    for _ in range(count):
        at = len(body)
        body += struct.pack("!H", 0xC000 | target)
        target = at
    return bytes(body) + struct.pack("!HHIH", 1, 1, 60, 4) + bytes((8, 8, 8, 8))


@pytest.mark.parametrize("count", [17, 200, 4_000])
def test_a_compression_bomb_is_no_answer(count):
    server = Server(lambda query, _: [(0.0, pointers(query, count))])
    (route,), _ = ask(server, "d.test")
    assert route.outcome is Outcome.DNS_FAILURE


@pytest.mark.parametrize("length", [2, 9, 12])
def test_alias_loops_and_long_chains_end_and_do_not_make_a_domain_missing(length):
    records = {f"m{n}.test": [("CNAME", (f"m{(n + 1) % length}.test.",))] for n in range(length)}
    server = Server(Zone({**records, "d.test": [("CNAME", ("m0.test.",))]}, []).answer)
    (route,), _ = ask(server, "d.test")
    assert route.outcome is Outcome.DNS_FAILURE
    assert len(server.queries) <= MAX_QUERIES
