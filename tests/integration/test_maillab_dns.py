"""The lab's DNS server, asked by dnspython over the wire."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import dns.asyncquery
import dns.asyncresolver
import dns.exception
import dns.flags
import dns.message
import dns.query
import dns.rcode
import dns.resolver
import pytest

from services.maillab.lab import Lab
from services.maillab.world import World


@asynccontextmanager
async def lab_of(world: World) -> AsyncIterator[tuple[Lab, dns.asyncresolver.Resolver]]:
    async with Lab(world) as lab:
        resolver = dns.asyncresolver.Resolver(configure=False)
        resolver.nameservers = ["127.0.0.1"]
        resolver.port = lab.dns_port
        resolver.lifetime = 3
        yield lab, resolver


async def records(resolver: dns.asyncresolver.Resolver, name: str, kind: str) -> list[str]:
    return [record.to_text() for record in await resolver.resolve(name, kind)]


async def over_udp(lab: Lab, name: str, kind: str, **options) -> dns.message.Message:
    return await dns.asyncquery.udp(
        dns.message.make_query(name, kind, **options), "127.0.0.1", timeout=0.5, port=lab.dns_port
    )


async def test_the_types_that_mail_needs():
    world = World()
    host = world.host("mx1.good.test")
    world.domain("good.test", mx=[(10, "mx1.good.test"), (20, "mx.other.test")], txt=["v=spf1 -all", "x" * 300])
    world.domain("six.test", aaaa=["::1"], a=["127.1.0.9"])
    async with lab_of(world) as (lab, resolver):
        assert [text.lower() for text in await records(resolver, "GOOD.test", "MX")] == [
            "10 mx1.good.test.",
            "20 mx.other.test.",
        ]
        assert await records(resolver, "mx1.good.test", "A") == [host.ip]
        assert await records(resolver, "six.test", "AAAA") == ["::1"]
        assert '"v=spf1 -all"' in await records(resolver, "good.test", "TXT")
        assert ("good.test", "MX") in [(query.name, query.type) for query in lab.log.queries]


async def test_nodata_and_nxdomain_carry_a_soa():
    world = World()
    world.domain("web.test", a=["127.1.0.9"])
    async with lab_of(world) as (lab, resolver):
        with pytest.raises(dns.resolver.NoAnswer):
            await resolver.resolve("web.test", "MX")
        with pytest.raises(dns.resolver.NXDOMAIN):
            await resolver.resolve("nowhere.test", "MX")
        answer = await over_udp(lab, "nowhere.test", "MX")
        assert [entry.rdtype.name for entry in answer.authority] == ["SOA"]


async def test_null_mx_is_a_single_dot():
    world = World()
    world.domain("null.test", null_mx=True)
    async with lab_of(world) as (_, resolver):
        assert await records(resolver, "null.test", "MX") == ["0 ."]


async def test_cname_chains_are_followed_to_their_end_and_loops_are_not():
    world = World()
    world.domain("end.test", mx=[(10, "mx.end.test")])
    world.domain("middle.test", cname="end.test")
    world.domain("start.test", cname="middle.test")
    world.domain("dangling.test", cname="nowhere.test")
    world.domain("loop-a.test", cname="loop-b.test")
    world.domain("loop-b.test", cname="loop-a.test")
    async with lab_of(world) as (lab, resolver):
        answer = await resolver.resolve("start.test", "MX")
        assert answer.canonical_name.to_text() == "end.test."
        assert [record.to_text() for record in answer] == ["10 mx.end.test."]
        with pytest.raises(dns.resolver.NXDOMAIN):
            await resolver.resolve("dangling.test", "MX")
        loop = await over_udp(lab, "loop-a.test", "MX")
        assert [entry.rdtype.name for entry in loop.answer] == ["CNAME"] * 2
        assert sum(len(entry) for entry in loop.answer) == 2


@pytest.mark.parametrize("rcode", ["SERVFAIL", "REFUSED", "NXDOMAIN", "FORMERR", "NOTIMP"])
async def test_failures_on_demand(rcode):
    world = World()
    world.domain("bad.test", rcode=rcode)
    world.domain("half.test", a=["127.1.0.9"], rcode={"MX": rcode})
    world.domain("passing.test", null_mx=True, rcode=rcode, rcode_times=1)
    async with lab_of(world) as (lab, _):
        assert (await over_udp(lab, "bad.test", "MX")).rcode() == dns.rcode.from_text(rcode)
        assert (await over_udp(lab, "half.test", "MX")).rcode() == dns.rcode.from_text(rcode)
        assert (await over_udp(lab, "half.test", "A")).rcode() == dns.rcode.NOERROR
        assert (await over_udp(lab, "passing.test", "MX")).rcode() == dns.rcode.from_text(rcode)
        assert (await over_udp(lab, "passing.test", "MX")).rcode() == dns.rcode.NOERROR


async def test_a_name_that_times_out_is_not_answered_at_all():
    world = World()
    world.domain("slow.test", rcode="timeout")
    async with lab_of(world) as (lab, _):
        with pytest.raises(dns.exception.Timeout):
            await over_udp(lab, "slow.test", "MX")
        assert len(lab.log.queries) == 1


async def test_long_answers_are_truncated_over_udp_and_whole_over_tcp():
    world = World()
    world.domain("many.test", mx=[(n, f"mx{n}.many.test") for n in range(2_500)])
    async with lab_of(world) as (lab, resolver):
        assert (await over_udp(lab, "many.test", "MX")).flags & dns.flags.TC
        assert (await over_udp(lab, "many.test", "MX", use_edns=0, payload=4_096)).flags & dns.flags.TC
        assert len(await records(resolver, "many.test", "MX")) == 2_500


async def test_edns_makes_room_for_middling_answers():
    world = World()
    world.domain("some.test", mx=[(n, f"mx{n}.mail.some.test") for n in range(30)])
    async with lab_of(world) as (lab, _):
        assert (await over_udp(lab, "some.test", "MX")).flags & dns.flags.TC
        answer = await over_udp(lab, "some.test", "MX", use_edns=0, payload=1_232)
        assert not answer.flags & dns.flags.TC
        assert (answer.edns, len(answer.answer[0])) == (0, 30)


async def test_huge_names_fit():
    name = ".".join(["a" * 63, "b" * 63, "c" * 63, "d" * 50, "test"])
    world = World()
    world.domain(name, mx=[(10, f"mx.{name[64:]}")])
    async with lab_of(world) as (_, resolver):
        assert (await records(resolver, name, "MX"))[0].endswith(".test.")


async def test_an_address_flips_from_one_look_up_to_the_next():
    world = World()
    world.domain("flip.test", flip=[["127.1.0.1"], ["10.0.0.1"]], ttl=0)
    async with lab_of(world) as (_, resolver):
        seen = [await records(resolver, "flip.test", "A") for _ in range(3)]
        assert seen == [["127.1.0.1"], ["10.0.0.1"], ["10.0.0.1"]]


@pytest.mark.parametrize("trick", ["wrong_id", "wrong_question", "garbage"])
async def test_answers_that_are_none_are_not_believed_by_dnspython_either(trick):
    world = World()
    world.domain("trick.test", a=["127.1.0.1"], trick=trick)
    async with lab_of(world) as (lab, _):
        with pytest.raises((dns.query.BadResponse, dns.exception.DNSException)):
            await over_udp(lab, "trick.test", "A")


async def test_truncation_on_demand_and_a_tcp_side_that_hangs_up():
    world = World()
    world.domain("cut.test", a=["127.1.0.1"], trick="truncate")
    world.domain("dead-end.test", a=["127.1.0.1"], trick="tcp_closes")
    async with lab_of(world) as (lab, resolver):
        assert await records(resolver, "cut.test", "A") == ["127.1.0.1"]
        assert (await over_udp(lab, "dead-end.test", "A")).flags & dns.flags.TC
        with pytest.raises((EOFError, dns.exception.DNSException)):
            await records(resolver, "dead-end.test", "A")


async def test_odd_mx_targets_go_out_as_they_were_written():
    world = World()
    targets = ["127.0.0.1", "localhost", "0x7f000001", "10.0.0.1", "alias.odd.test"]
    world.domain("odd.test", mx=[(n, target) for n, target in enumerate(targets)])
    world.domain("alias.odd.test", cname="odd.test")
    async with lab_of(world) as (_, resolver):
        assert await records(resolver, "odd.test", "MX") == [f"{n} {target}." for n, target in enumerate(targets)]


async def test_what_is_asked_next_sees_a_change_of_the_world():
    world = World()
    world.domain("new.test", a=["127.1.0.1"])
    async with lab_of(world) as (_, resolver):
        assert await records(resolver, "new.test", "A") == ["127.1.0.1"]
        world.domain("new.test", a=["127.1.0.2"])
        assert await records(resolver, "new.test", "A") == ["127.1.0.2"]
