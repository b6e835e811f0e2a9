"""The resolver against a scripted DNS server on loopback: what it makes of each kind of zone, and at what cost."""

import asyncio
import struct

import dns.flags
import dns.message
import dns.rrset
import pytest

from shared.settings import Settings
from tests.servers.scripted_dns import ScriptedDns, rcode, silence
from validator.dns.resolver import MAX_QUERIES, Resolver
from validator.dns.route import MailHost, Outcome

ADDRESS = "192.31.10.1"  # looks public to the guard; nothing is ever sent there


class Clock:
    now = 1_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
async def dns_server():
    async with ScriptedDns() as server:
        yield server


@pytest.fixture
async def clock():
    return Clock()


@pytest.fixture
async def resolver(dns_server, clock):
    settings = Settings(_env_file=None, dns_nameservers=(dns_server.address,), dns_timeout=2)
    async with Resolver(settings, clock) as made:
        yield made


def mail_domain(server, domain="a.example", host="mx.a.example", address=ADDRESS):
    server.zone[domain, "MX"] = [f"10 {host}."]
    server.zone[host, "A"] = [address]


async def test_a_domain_with_one_mx_leads_to_its_address(dns_server, resolver):
    mail_domain(dns_server)
    route = await resolver.mail_route("a.example")
    assert route.outcome is Outcome.HOSTS
    assert route.hosts == (MailHost("mx.a.example", 10, (ADDRESS,)),)
    assert route.mx_names == ("mx.a.example",)
    assert not route.implicit


async def test_hosts_come_in_order_of_preference_and_each_only_once(dns_server, resolver):
    dns_server.zone["a.example", "MX"] = ["30 c.a.example.", "10 a.a.example.", "20 b.a.example.", "40 a.a.example."]
    for name in "abc":
        dns_server.zone[f"{name}.a.example", "A"] = [ADDRESS]
    route = await resolver.mail_route("a.example")
    assert [(host.name, host.preference) for host in route.hosts] == [
        ("a.a.example", 10),
        ("b.a.example", 20),
        ("c.a.example", 30),
    ]


async def test_hosts_of_equal_preference_are_spread(dns_server, resolver, clock):
    dns_server.zone["a.example", "MX"] = [f"10 mx{number}.a.example." for number in range(5)]
    for number in range(5):
        dns_server.zone[f"mx{number}.a.example", "A"] = [ADDRESS]
    orders = set()
    for _ in range(30):
        orders.add(tuple(host.name for host in (await resolver.mail_route("a.example")).hosts))
        clock.now += 4_000
    assert len(orders) > 3


async def test_ipv4_comes_before_ipv6(dns_server, resolver):
    mail_domain(dns_server)
    dns_server.zone["mx.a.example", "AAAA"] = ["2a00:1450::1"]
    route = await resolver.mail_route("a.example")
    assert route.hosts[0].addresses == (ADDRESS, "2a00:1450::1")


async def test_a_host_with_ipv6_only_is_used(dns_server, resolver):
    mail_domain(dns_server)
    dns_server.zone["mx.a.example", "AAAA"] = ["2a00:1450::1"]
    del dns_server.zone["mx.a.example", "A"]
    assert (await resolver.mail_route("a.example")).hosts[0].addresses == ("2a00:1450::1",)


async def test_without_mx_the_domain_itself_is_the_host(dns_server, resolver):
    dns_server.zone["a.example", "A"] = [ADDRESS]
    route = await resolver.mail_route("a.example")
    assert route.implicit
    assert route.hosts == (MailHost("a.example", 0, (ADDRESS,)),)
    assert route.mx_names == ()


async def test_null_mx_says_no_mail_and_costs_one_question(dns_server, resolver):
    dns_server.zone["a.example", "MX"] = ["0 ."]
    dns_server.zone["a.example", "A"] = [ADDRESS]
    assert (await resolver.mail_route("a.example")).outcome is Outcome.NULL_MX
    assert len(dns_server.log) == 1


async def test_a_root_mx_beside_a_real_one_is_ignored(dns_server, resolver):
    mail_domain(dns_server)
    dns_server.zone["a.example", "MX"].append("0 .")
    assert [host.name for host in (await resolver.mail_route("a.example")).hosts] == ["mx.a.example"]


async def test_a_missing_domain_and_one_without_mail_are_facts(dns_server, resolver):
    dns_server.zone["text.example", "TXT"] = ['"only text"']
    missing = await resolver.mail_route("gone.example")
    empty = await resolver.mail_route("text.example")
    assert missing.outcome is Outcome.DOMAIN_MISSING
    assert empty.outcome is Outcome.NO_MAIL_HOST
    assert not missing.temporary


async def test_mx_hosts_that_do_not_exist_are_not_replaced_by_the_domains_own_address(dns_server, resolver):
    dns_server.zone["a.example", "MX"] = ["10 gone.example."]
    dns_server.zone["a.example", "A"] = [ADDRESS]
    route = await resolver.mail_route("a.example")
    assert route.outcome is Outcome.NO_MAIL_HOST
    assert route.mx_names == ("gone.example",)


@pytest.mark.parametrize("code", ["SERVFAIL", "REFUSED", "NOTIMP", "FORMERR", "YXDOMAIN"])
async def test_a_server_that_will_not_say_leaves_the_domain_unknown(dns_server, resolver, code):
    dns_server.scripts["a.example"] = rcode(code)
    route = await resolver.mail_route("a.example")
    assert route.outcome is Outcome.DNS_FAILURE
    assert route.temporary


async def test_silence_ends_at_the_deadline_after_repeats(dns_server, clock):
    dns_server.scripts["a.example"] = silence
    settings = Settings(_env_file=None, dns_nameservers=(dns_server.address,), dns_timeout=1.3)
    loop = asyncio.get_running_loop()
    async with Resolver(settings, clock) as resolver:
        began = loop.time()
        route = await resolver.mail_route("a.example")
        assert loop.time() - began < 1.8
    assert route.outcome is Outcome.DNS_FAILURE
    assert route.temporary
    assert dns_server.asked("a.example", "MX") == 2


async def test_a_lost_reply_is_made_up_by_the_repeat(dns_server, resolver):
    mail_domain(dns_server)
    lost = iter([True])

    def lose_the_first(query, transport):
        return None if next(lost, False) else dns_server.answer(query, transport)

    dns_server.scripts["a.example", "MX"] = lose_the_first
    assert (await resolver.mail_route("a.example")).outcome is Outcome.HOSTS


async def test_a_closed_port_fails_at_once_and_the_next_server_answers(dns_server, clock):
    mail_domain(dns_server)
    async with ScriptedDns() as gone:
        pass
    loop = asyncio.get_running_loop()
    for servers, outcome in (
        ((gone.address, dns_server.address), Outcome.HOSTS),
        ((gone.address,), Outcome.DNS_FAILURE),
    ):
        settings = Settings(_env_file=None, dns_nameservers=servers, dns_timeout=5)
        async with Resolver(settings, clock) as resolver:
            began = loop.time()
            assert (await resolver.mail_route("a.example")).outcome is outcome
            assert loop.time() - began < 0.9


async def test_the_next_server_is_asked_when_one_refuses(dns_server, clock):
    mail_domain(dns_server)
    async with ScriptedDns() as lame:
        lame.scripts["a.example"] = rcode("REFUSED")
        lame.scripts["mx.a.example"] = rcode("SERVFAIL")
        settings = Settings(_env_file=None, dns_nameservers=(lame.address, dns_server.address), dns_timeout=2)
        async with Resolver(settings, clock) as resolver:
            assert (await resolver.mail_route("a.example")).outcome is Outcome.HOSTS


async def test_one_failed_host_does_not_cost_the_other_and_alone_makes_it_unknown(dns_server, resolver):
    dns_server.zone["a.example", "MX"] = ["10 bad.example.", "20 mx.example."]
    dns_server.scripts["bad.example"] = rcode("SERVFAIL")
    dns_server.zone["mx.example", "A"] = [ADDRESS]
    dns_server.zone["b.example", "MX"] = ["10 bad.example.", "20 gone.example."]
    assert [host.name for host in (await resolver.mail_route("a.example")).hosts] == ["mx.example"]
    assert (await resolver.mail_route("b.example")).outcome is Outcome.DNS_FAILURE


async def test_an_alias_is_followed_for_the_domain_and_for_its_host(dns_server, resolver):
    dns_server.zone["a.example", "CNAME"] = ["b.example."]
    dns_server.zone["b.example", "MX"] = ["10 mx.b.example."]
    dns_server.zone["mx.b.example", "CNAME"] = ["real.b.example."]
    dns_server.zone["real.b.example", "A"] = [ADDRESS]
    route = await resolver.mail_route("a.example")
    assert route.hosts == (MailHost("mx.b.example", 10, (ADDRESS,)),)


async def test_an_alias_to_nothing_is_a_missing_domain(dns_server, resolver):
    dns_server.zone["a.example", "CNAME"] = ["gone.example."]
    assert (await resolver.mail_route("a.example")).outcome is Outcome.DOMAIN_MISSING


async def test_alias_loops_and_endless_chains_end_and_say_nothing_about_the_domain(dns_server, resolver):
    dns_server.zone["a.example", "CNAME"] = ["b.example."]
    dns_server.zone["b.example", "CNAME"] = ["a.example."]
    for number in range(40):
        dns_server.zone[f"c{number}.example", "CNAME"] = [f"c{number + 1}.example."]
    for domain in ("a.example", "c0.example"):
        dns_server.log.clear()
        route = await resolver.mail_route(domain)
        assert route.outcome is Outcome.DNS_FAILURE
        assert len(dns_server.log) <= 10


@pytest.mark.parametrize("address", ["127.0.0.1", "10.1.1.1", "169.254.169.254", "192.0.2.1", "0.0.0.0"])
async def test_a_host_at_a_forbidden_address_is_never_given_out(dns_server, resolver, address):
    mail_domain(dns_server, address=address)
    route = await resolver.mail_route("a.example")
    assert route.outcome is Outcome.PRIVATE_ADDRESS
    assert route.hosts == ()


async def test_of_mixed_addresses_only_the_public_ones_are_given_out(dns_server, resolver):
    mail_domain(dns_server)
    dns_server.zone["mx.a.example", "A"] = ["10.0.0.1", ADDRESS]
    dns_server.zone["mx.a.example", "AAAA"] = ["::ffff:127.0.0.1", "2002:7f00:1::1", "64:ff9b::7f00:1"]
    assert (await resolver.mail_route("a.example")).hosts[0].addresses == (ADDRESS,)


async def test_an_allowed_network_is_given_out(dns_server, clock):
    mail_domain(dns_server, address="127.0.0.7")
    settings = Settings(_env_file=None, dns_nameservers=(dns_server.address,), probe_allow_networks=("127.0.0.0/8",))
    async with Resolver(settings, clock) as resolver:
        assert (await resolver.mail_route("a.example")).hosts[0].addresses == ("127.0.0.7",)


@pytest.mark.parametrize("host", ["127.1", "localhost", "2130706433", "0x7f000001", "192.31.10.1"])
async def test_an_mx_that_is_an_odd_literal_is_refused_before_it_is_looked_up(dns_server, resolver, host):
    dns_server.zone["a.example", "MX"] = [f"10 {host}."]
    assert (await resolver.mail_route("a.example")).outcome is Outcome.PRIVATE_ADDRESS
    assert len(dns_server.log) == 1


async def test_a_host_name_that_is_none_is_no_host(dns_server, resolver):
    dns_server.zone["a.example", "MX"] = ["10 what\\032ever\\010.example."]
    assert (await resolver.mail_route("a.example")).outcome is Outcome.NO_MAIL_HOST
    assert len(dns_server.log) == 1


async def test_a_flood_of_hosts_and_addresses_is_bounded(dns_server, resolver):
    dns_server.zone["a.example", "MX"] = [f"{number} mx{number}.a.example." for number in range(2_000)]
    for number in range(2_000):
        dns_server.zone[f"mx{number}.a.example", "A"] = [f"192.31.11.{last}" for last in range(1, 101)]
    route = await resolver.mail_route("a.example")
    preferences = [host.preference for host in route.hosts]
    assert len(preferences) == 5
    assert preferences == sorted(preferences)
    assert sum(len(host.addresses) for host in route.hosts) == 8
    assert len(dns_server.log) <= MAX_QUERIES + 1  # the truncated MX answer was asked again by TCP
    assert len(route.mx_names) <= 9


async def test_later_hosts_are_tried_when_the_first_five_do_not_exist(dns_server, resolver):
    dns_server.zone["a.example", "MX"] = [f"{number} mx{number}.a.example." for number in range(7)]
    dns_server.zone["mx6.a.example", "A"] = [ADDRESS]
    assert [host.name for host in (await resolver.mail_route("a.example")).hosts] == ["mx6.a.example"]


async def test_hosts_beyond_the_bound_make_it_unknown_not_undeliverable(dns_server, resolver):
    dns_server.zone["a.example", "MX"] = [f"{number} mx{number}.a.example." for number in range(30)]
    route = await resolver.mail_route("a.example")
    assert route.outcome is Outcome.DNS_FAILURE
    assert len(dns_server.log) <= MAX_QUERIES + 1


async def test_a_truncated_reply_is_asked_again_by_tcp(dns_server, resolver):
    dns_server.zone["a.example", "MX"] = [
        f"{number} a-rather-long-host-name-{number}.a.example." for number in range(30)
    ]
    dns_server.zone["a-rather-long-host-name-0.a.example", "A"] = [ADDRESS]
    assert (await resolver.mail_route("a.example")).outcome is Outcome.HOSTS
    assert ("a.example", "MX", "tcp") in dns_server.log


async def test_a_truncated_reply_without_tcp_is_a_failure(dns_server, resolver):
    def always_truncated(query, transport):
        if transport == "tcp":
            return None
        reply = dns.message.make_response(query)
        reply.flags |= dns.flags.TC
        return reply.to_wire()

    dns_server.scripts["a.example"] = always_truncated
    assert (await resolver.mail_route("a.example")).outcome is Outcome.DNS_FAILURE


async def test_forged_and_broken_replies_are_dropped_and_the_real_one_counts(dns_server, resolver):
    mail_domain(dns_server)

    def forge_then_answer(query, transport):
        right = dns_server.answer(query, transport)
        wrong_id = struct.pack("!H", query.id ^ 1) + right[2:]
        other = dns_server.answer(dns.message.make_query("other.example", "MX", id=query.id), transport)
        for forged in (wrong_id, other, right[:20], right[:2] + b"\xff" * 30, b"", b"x", query.to_wire()):
            dns_server._udp.sendto(forged, resolver_peer(dns_server))
        return right

    def resolver_peer(server):
        return ("127.0.0.1", max(server.peers))

    dns_server.scripts["a.example", "MX"] = forge_then_answer
    assert (await resolver.mail_route("a.example")).outcome is Outcome.HOSTS


async def test_a_referral_is_not_taken_for_an_empty_answer(dns_server, resolver):
    def refer(query, _transport):
        reply = dns.message.make_response(query)
        reply.authority.append(dns.rrset.from_text("a.example.", 300, "IN", "NS", "ns.a.example."))
        return reply.to_wire()

    dns_server.scripts["a.example"] = refer
    assert (await resolver.mail_route("a.example")).outcome is Outcome.DNS_FAILURE


async def test_a_thousand_askers_cost_one_look_up_for_a_domain_and_for_a_host(dns_server, resolver):
    for number in range(20):
        dns_server.zone[f"d{number}.example", "MX"] = ["10 mx.shared.example."]
    dns_server.zone["mx.shared.example", "A"] = [ADDRESS]
    routes = await asyncio.gather(*(resolver.mail_route(f"d{number % 20}.example") for number in range(1_000)))
    assert all(route.outcome is Outcome.HOSTS for route in routes)
    assert len(dns_server.log) == 20 + 2


async def test_a_cancelled_asker_does_not_cost_the_others_their_answer(dns_server, resolver):
    mail_domain(dns_server)
    first = asyncio.create_task(resolver.mail_route("a.example"))
    second = asyncio.create_task(resolver.mail_route("a.example"))
    await asyncio.sleep(0)
    first.cancel()
    assert (await second).outcome is Outcome.HOSTS
    assert dns_server.asked("a.example") == 1


@pytest.mark.parametrize(("ttl", "kept"), [(0, 60), (300, 300), (100_000_000, 3_600)])
async def test_an_answer_is_kept_for_its_time_to_live_within_bounds(dns_server, resolver, clock, ttl, kept):
    dns_server.ttl = ttl
    mail_domain(dns_server)
    began = clock.now
    for later, questions in ((0, 1), (kept - 1, 1), (kept + 1, 2)):
        clock.now = began + later
        await resolver.mail_route("a.example")
        assert dns_server.asked("a.example") == questions


async def test_a_missing_domain_is_asked_again_after_minutes_and_a_failure_after_seconds(dns_server, resolver, clock):
    dns_server.scripts["bad.example"] = rcode("SERVFAIL")
    for domain, seconds in (("gone.example", 300), ("bad.example", 15)):
        began = clock.now
        for later, questions in ((0, 1), (seconds - 1, 1), (seconds + 1, 2)):
            clock.now = began + later
            await resolver.mail_route(domain)
            assert dns_server.asked(domain) == questions


async def test_a_failure_is_forgotten_before_the_next_look_at_an_address(dns_server, clock):
    mail_domain(dns_server)
    settings = Settings(_env_file=None, dns_nameservers=(dns_server.address,), retry_delays=(4, 60))
    async with Resolver(settings, clock) as resolver:
        dns_server.scripts["a.example"] = rcode("SERVFAIL")
        assert (await resolver.mail_route("a.example")).outcome is Outcome.DNS_FAILURE
        del dns_server.scripts["a.example"]
        clock.now += 4
        assert (await resolver.mail_route("a.example")).outcome is Outcome.HOSTS


async def test_a_closed_resolver_leaves_no_task_behind(dns_server, clock):
    asked = asyncio.Event()
    dns_server.scripts["a.example"] = lambda *_: asked.set()
    settings = Settings(_env_file=None, dns_nameservers=(dns_server.address,), dns_timeout=60)
    resolver = Resolver(settings, clock)
    asker = asyncio.create_task(resolver.mail_route("a.example"))
    await asked.wait()
    await resolver.close()
    with pytest.raises(asyncio.CancelledError):
        await asker
    assert not [task for task in asyncio.all_tasks() if task.get_name().startswith("dns-")]
