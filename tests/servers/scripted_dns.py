"""A DNS server on loopback whose zone and misbehaviour the test writes down. Its codec is dnspython's, not ours."""

import asyncio
from collections.abc import Callable
from typing import Self

import dns.flags
import dns.message
import dns.rcode
import dns.rdatatype
import dns.rrset

Script = Callable[
    [dns.message.Message, str], bytes | None
]  # (query, "udp" or "tcp") -> the reply's bytes; None: silence


class ScriptedDns:
    """`zone` maps (name, type) to record texts such as "10 mx.example"; `scripts` maps names or (name, type) to a Script.

    A name that is in neither is NXDOMAIN; a name that has only other types is nodata. CNAMEs are not chased.
    """

    def __init__(self, zone: dict[tuple[str, str], list[str]] | None = None, ttl: int = 300) -> None:
        self.zone = dict(zone or {})
        self.scripts: dict[object, Script] = {}
        self.ttl = ttl
        self.log: list[tuple[str, str, str]] = []  # (name, type, transport)
        self.host, self.port = "127.0.0.1", 0
        self.peak = 0
        self.peers: set[int] = set()

    @property
    def address(self) -> str:
        return f"{self.host}:{self.port}"

    async def __aenter__(self) -> Self:
        loop = asyncio.get_running_loop()
        self._tcp = await asyncio.start_server(self._serve_tcp, self.host, 0)
        self.port = self._tcp.sockets[0].getsockname()[1]
        self._udp, _ = await loop.create_datagram_endpoint(lambda: _Udp(self), local_addr=(self.host, self.port))
        return self

    async def __aexit__(self, *_: object) -> None:
        self._udp.close()
        self._tcp.close()
        await self._tcp.wait_closed()

    def asked(self, name: str, rtype: str | None = None) -> int:
        return sum(1 for entry in self.log if entry[0] == name and rtype in (None, entry[1]))

    def reply(self, packet: bytes, transport: str) -> bytes | None:
        query = dns.message.from_wire(packet)
        name = query.question[0].name.to_text(omit_final_dot=True)
        rtype = dns.rdatatype.to_text(query.question[0].rdtype)
        self.log.append((name, rtype, transport))
        script = self.scripts.get((name, rtype)) or self.scripts.get(name)
        if script is not None:
            return script(query, transport)
        return self.answer(query, transport)

    def answer(self, query: dns.message.Message, transport: str = "tcp") -> bytes:
        """What the zone says, truncated to 512 octets over UDP."""
        name = query.question[0].name.to_text(omit_final_dot=True)
        rtype = dns.rdatatype.to_text(query.question[0].rdtype)
        reply = dns.message.make_response(query)
        reply.flags |= dns.flags.AA | dns.flags.RA
        records = self.zone.get((name, rtype))
        if records is None and (name, "CNAME") in self.zone:
            records, rtype = self.zone[name, "CNAME"], "CNAME"
        if records is not None:
            reply.answer.append(dns.rrset.from_text_list(name + ".", self.ttl, "IN", rtype, records))
        elif not any(known == name for known, _ in self.zone):
            reply.set_rcode(dns.rcode.NXDOMAIN)
        wire = reply.to_wire(max_size=65535)
        if transport == "udp" and len(wire) > 512:
            short = dns.message.make_response(query)
            short.flags |= dns.flags.TC
            wire = short.to_wire()
        return wire

    async def _serve_tcp(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            packet = await reader.readexactly(int.from_bytes(await reader.readexactly(2), "big"))
            reply = self.reply(packet, "tcp")
            if reply is not None:
                writer.write(len(reply).to_bytes(2, "big") + reply)
                await writer.drain()
        except (EOFError, ConnectionError):
            pass
        finally:
            writer.close()


class _Udp(asyncio.DatagramProtocol):
    def __init__(self, server: ScriptedDns) -> None:
        self.server = server

    def connection_made(self, transport) -> None:
        self.transport = transport

    def datagram_received(self, data: bytes, addr) -> None:
        self.server.peers.add(addr[1])
        reply = self.server.reply(data, "udp")
        if reply is not None:
            self.transport.sendto(reply, addr)


def rcode(name: str) -> Script:
    def script(query: dns.message.Message, _: str) -> bytes:
        reply = dns.message.make_response(query)
        reply.set_rcode(dns.rcode.from_text(name))
        return reply.to_wire()

    return script


def silence(_query: dns.message.Message, _transport: str) -> None:
    return None
