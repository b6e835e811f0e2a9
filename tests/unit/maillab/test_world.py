from __future__ import annotations

import pytest

from services.maillab.world import World, WorldError, plain_address, plain_name


def test_hosts_get_addresses_of_their_own_in_order():
    world = World()
    hosts = [world.host(f"mx{n}.test") for n in range(300)]
    assert hosts[0].ip == "127.1.0.1"
    assert hosts[253].ip == "127.1.0.254"
    assert hosts[254].ip == "127.1.1.1"
    assert len({host.ip for host in hosts}) == 300
    assert world.domains["mx0.test"].a == ["127.1.0.1"]


def test_an_ipv6_host_gets_an_aaaa_record():
    world = World()
    world.host("six.test", ip="::1")
    assert (world.domains["six.test"].aaaa, world.domains["six.test"].a) == (["::1"], [])


def test_a_host_twice_or_off_loopback_is_refused():
    world = World()
    world.host("mx.test")
    with pytest.raises(WorldError, match="twice"):
        world.host("MX.test.")
    with pytest.raises(WorldError, match="loopback"):
        world.host("far.test", ip="192.0.2.1")


def test_a_host_keeps_the_worlds_limits_unless_told_otherwise():
    world = World(cap=3, max_rejects=None, known="all")
    assert (world.host("a.test").cap, world.host("b.test", cap=None).cap) == (3, None)
    assert (world.host("c.test").max_rejects, world.host("d.test", max_rejects=1).max_rejects) == (None, 1)
    assert (world.host("e.test").known, world.host("f.test", known="names").known) == ("all", "names")


def test_a_host_serves_what_dns_leads_to_it():
    world = World()
    host = world.host("mx.test")
    world.domain("by-mx.test", mx=[(10, "MX.test.")])
    world.domain("by-a.test", a=[host.ip])
    world.domain("by-alias.test", cname="by-mx.test")
    world.domain("by-aliased-target.test", mx=[(10, "target.test")])
    world.domain("target.test", cname="mx.test")
    world.domain("by-literal.test", mx=[(10, host.ip)])
    world.domain("flips.test", flip=[["10.0.0.1"], [host.ip]])
    world.domain("elsewhere.test", mx=[(10, "other.test")], a=[host.ip])
    world.domain("loop.test", cname="loop.test")
    served = [name for name in world.domains if world.serves(host, name)]
    assert served == [
        "mx.test",
        "by-mx.test",
        "by-a.test",
        "by-alias.test",
        "by-aliased-target.test",
        "target.test",
        "by-literal.test",
        "flips.test",
    ]
    assert not world.serves(host, "nowhere.test")
    assert world.serves(world.host("open.test", any_domain=True), "nowhere.test")


def test_null_mx_serves_nobody():
    world = World()
    host = world.host("mx.test")
    world.domain("null.test", null_mx=True, a=[host.ip])
    assert world.domains["null.test"].mx == [(0, ".")]
    assert not world.serves(host, "null.test")


def test_names_and_addresses_have_one_spelling():
    assert plain_name("MX.Bücher.Example.") == "mx.xn--bcher-kva.example"
    assert plain_name("under_score.test") == "under_score.test"
    assert plain_name("\u2028") == "\u2028"
    assert plain_address("Ann@BÜCHER.example") == "ann@xn--bcher-kva.example"


def test_a_mailbox_without_a_reply_is_refused():
    with pytest.raises(WorldError, match="no reply"):
        World().mailbox("ann@x.test", [])
