"""Connections to judged literals on loopback, directly and by a SOCKS proxy; the fleet's memory of catch-all probes."""

import asyncio
import socket
import struct

import pytest

from shared import redis_keys
from shared.redis_client import connect_politeness
from shared.settings import Settings
from validator.egress.catch_all import DAY, CatchAllMemory
from validator.egress.identity import ConnectRefused, ConnectTimeout, ForbiddenAddress, Identity, NoWayOut, Unreachable
from validator.evidence import CatchAll
from validator.preflight import greets

LOOPBACK = "127.0.0.0/8"


def identity(**values):
    return Identity(Settings(_env_file=None, probe_helo="probe.example", probe_allow_networks=(LOOPBACK,), **values))


class Greeting(asyncio.Protocol):
    """A client that waits for the greeting."""

    def __init__(self):
        self.got = asyncio.get_running_loop().create_future()

    def data_received(self, data):
        if not self.got.done():
            self.got.set_result(data)


class MailServer:
    """Greets, and remembers who came and what was said."""

    def __init__(self):
        self.peers, self.lines = [], []

    async def __call__(self, reader, writer):
        self.peers.append(writer.get_extra_info("peername")[0])
        writer.write(b"220 mx.example ESMTP\r\n")
        self.lines += [line async for line in reader]
        writer.close()


@pytest.fixture
async def mail_server():
    server = MailServer()
    listening = await asyncio.start_server(server, "127.0.0.1", 0)
    server.port = listening.sockets[0].getsockname()[1]
    yield server
    listening.close()
    await listening.wait_closed()


def closed_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


async def test_a_connection_goes_to_the_literal_from_the_chosen_source(mail_server):
    ours = identity(probe_source_addresses=("127.0.0.5",))
    transport, protocol = await ours.connect("127.0.0.1", mail_server.port, 5, Greeting, mail_domain="a.example")
    assert await protocol.got == b"220 mx.example ESMTP\r\n"
    assert mail_server.peers == ["127.0.0.5"]
    transport.close()


async def test_a_closed_port_is_the_hosts_and_a_foreign_source_address_is_ours():
    with pytest.raises(ConnectRefused) as refused:
        await identity().connect("127.0.0.1", closed_port(), 5, Greeting)
    assert refused.value.theirs
    with pytest.raises(NoWayOut) as ours:
        await identity(probe_source_addresses=("192.31.10.1",)).connect("127.0.0.1", closed_port(), 5, Greeting)
    assert not ours.value.theirs


async def test_a_host_that_does_not_answer_is_given_up_in_time():
    with socket.socket() as full:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        fillers = []
        for _ in range(3):  # beyond the backlog the kernel drops what comes
            filler = socket.socket()
            filler.setblocking(False)
            filler.connect_ex(full.getsockname())
            fillers.append(filler)
        with pytest.raises(ConnectTimeout):
            await identity().connect("127.0.0.1", full.getsockname()[1], 0.2, Greeting)
        for filler in fillers:
            filler.close()


async def test_a_peer_that_is_not_where_it_was_sent_is_dropped(mail_server):
    transport, _ = await identity().connect("127.0.0.1", mail_server.port, 5, Greeting)
    strict = Identity(Settings(_env_file=None, probe_helo="probe.example"))
    with pytest.raises(ForbiddenAddress):  # as if the route had ended on this very machine
        strict._check_peer(transport)
    assert transport.is_closing()


class SocksProxy:
    """SOCKS5 (RFC 1928) without passwords: one reply code for everything, or a real connection."""

    def __init__(self, code=0):
        self.code, self.asked = code, []

    async def __call__(self, reader, writer):
        _, methods = struct.unpack("!BB", await reader.readexactly(2))
        await reader.readexactly(methods)
        writer.write(b"\x05\x00")
        *_, kind = await reader.readexactly(4)
        host = socket.inet_ntoa(await reader.readexactly(4)) if kind == 1 else f"type {kind}"
        port = int.from_bytes(await reader.readexactly(2), "big")
        self.asked.append((host, port))
        writer.write(bytes([5, self.code, 0, 1]) + bytes(6))
        if self.code == 0:
            there, back = await asyncio.open_connection(host, port)
            writer.write(await there.readline())
            back.close()
        await writer.drain()
        writer.close()


async def socks(code=0):
    proxy = SocksProxy(code)
    listening = await asyncio.start_server(proxy, "127.0.0.1", 0)
    return proxy, listening, f"socks5://127.0.0.1:{listening.sockets[0].getsockname()[1]}"


async def test_a_proxy_is_given_the_literal(mail_server):
    proxy, listening, url = await socks()
    transport, protocol = await identity(probe_proxy=url).connect("127.0.0.1", mail_server.port, 5, Greeting)
    assert await protocol.got == b"220 mx.example ESMTP\r\n"
    assert proxy.asked == [("127.0.0.1", mail_server.port)]
    transport.close()
    listening.close()
    with pytest.raises(ForbiddenAddress):
        await identity(probe_proxy=url).connect("10.0.0.1", 25, 5, Greeting)


@pytest.mark.parametrize(
    ("code", "error"), [(5, ConnectRefused), (4, Unreachable), (6, ConnectTimeout), (1, NoWayOut), (2, NoWayOut)]
)
async def test_what_a_proxy_says_is_told_apart(code, error):
    _, listening, url = await socks(code)
    with pytest.raises(error):
        await identity(probe_proxy=url).connect("127.0.0.1", 25, 5, Greeting)
    listening.close()


async def test_a_proxy_that_is_away_is_not_the_hosts_fault():
    with pytest.raises(NoWayOut):
        await identity(probe_proxy=f"socks5://127.0.0.1:{closed_port()}").connect("127.0.0.1", 25, 5, Greeting)


async def test_a_greeting_is_recognised_and_left_with_quit(mail_server):
    assert await greets("127.0.0.1", mail_server.port, 5)
    async with asyncio.timeout(5):
        while not mail_server.lines:
            await asyncio.sleep(0.001)
    assert mail_server.lines == [b"QUIT\r\n"]
    assert not await greets("127.0.0.1", closed_port(), 5)


@pytest.fixture
async def redis(valkey):
    client = connect_politeness(valkey.url.replace("/0", "/7"))
    await client.flushdb()
    yield client
    await client.aclose()


async def test_one_validator_claims_a_domain_and_all_learn_the_answer(redis):
    ours, theirs = CatchAllMemory(redis), CatchAllMemory(redis)
    granted = await asyncio.gather(*(memory.claim("a.example") for memory in (ours, theirs) for _ in range(20)))
    assert sum(granted) == 1
    prober, other = (ours, theirs) if any(granted[:20]) else (theirs, ours)
    waiter = asyncio.create_task(other.wait("a.example", 5))
    await prober.remember("a.example", CatchAll.YES)
    assert await waiter is CatchAll.YES
    assert not await other.claim("a.example")
    assert 0 < await redis.ttl(redis_keys.catch_all("a.example")) <= DAY


async def test_what_many_domains_want_at_once_goes_to_redis_together(redis):
    memory = CatchAllMemory(redis)
    domains = [f"d{number}.example" for number in range(300)]
    await memory.claim("first.example")  # the script is loaded
    await redis.config_resetstat()
    assert all(await asyncio.gather(*map(memory.claim, domains)))
    await asyncio.gather(*(memory.remember(domain, CatchAll.NO) for domain in domains))
    assert set(await asyncio.gather(*map(CatchAllMemory(redis).recall, domains))) == {CatchAll.NO}
    assert (await redis.info("commandstats"))["cmdstat_evalsha"]["calls"] <= 6


async def test_releasing_takes_away_a_claim_but_never_an_answer(redis):
    ours, theirs = CatchAllMemory(redis), CatchAllMemory(redis)
    assert await ours.claim("a.example")
    await theirs.remember("a.example", CatchAll.YES)
    await ours.release("a.example")
    assert await CatchAllMemory(redis).recall("a.example") is CatchAll.YES


async def test_an_inconclusive_probe_leaves_the_domain_to_the_next(redis):
    ours, theirs = CatchAllMemory(redis), CatchAllMemory(redis)
    assert await ours.claim("a.example")
    assert not await theirs.claim("a.example")
    await ours.remember("a.example", CatchAll.INCONCLUSIVE)
    assert await theirs.recall("a.example") is None
    assert await theirs.claim("a.example")


async def test_a_prober_that_crashed_holds_a_domain_up_for_seconds_only(redis):
    assert await CatchAllMemory(redis).claim("a.example")
    assert 0 < await redis.ttl(redis_keys.catch_all("a.example")) <= 15
    waiter = asyncio.create_task(CatchAllMemory(redis).wait("a.example", 60))
    await redis.delete(redis_keys.catch_all("a.example"))  # as when its time is over
    async with asyncio.timeout(5):
        assert await waiter is None


async def test_a_wiped_or_lost_redis_costs_no_knowledge_of_this_process(redis):
    memory = CatchAllMemory(redis)
    await memory.remember("a.example", CatchAll.NO)
    await redis.flushdb()
    assert await memory.recall("a.example") is CatchAll.NO
    away = connect_politeness(f"redis://127.0.0.1:{closed_port()}/0")
    alone = CatchAllMemory(away)
    assert await alone.claim("a.example")
    assert not await alone.claim("a.example")
    await alone.remember("a.example", CatchAll.YES)
    assert await alone.recall("a.example") is CatchAll.YES
    await away.aclose()


async def test_an_answer_is_a_day_old_at_most():
    now = [0.0]
    memory = CatchAllMemory(None, lambda: now[0])
    await memory.remember("a.example", CatchAll.YES)
    assert await memory.recall("a.example") is CatchAll.YES
    now[0] = DAY
    assert await memory.recall("a.example") is None
