"""Name servers made of a script, below a loop without sockets: datagrams and streams end here, in virtual time."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Callable
from typing import Any

import dns.flags
import dns.message
import dns.rcode
import dns.rrset

from tests.unit.validator.smtp.virtual_time import VirtualLoop

Records = tuple[tuple[str, str, tuple[str, ...]], ...]  # owner, type, values
Said = tuple[float, bytes]  # seconds later, packet
MOST_OVER_UDP = 512


def write_reply(query: bytes, answer: Records = (), rcode: str = "NOERROR", authority: Records = ()) -> bytes:
    """By dnspython, so that both sides do not share a mistake."""
    reply = dns.message.make_response(dns.message.from_wire(query))
    reply.set_rcode(dns.rcode.from_text(rcode))
    reply.flags |= dns.flags.RA
    for records, section in ((answer, reply.answer), (authority, reply.authority)):
        for owner, kind, values in records:
            section.append(dns.rrset.from_text_list(owner + ".", 300, "IN", kind, values))
    return reply.to_wire()


class Server:
    """`answer` gives the packets for a query; `over_tcp` tells it which way it came."""

    def __init__(self, answer: Callable[[bytes, bool], list[Said]]) -> None:
        self.answer = answer
        self.queries: list[bytes] = []
        self.datagrams = 0
        self.streams = 0
        self.replies: list[tuple[bytes, bytes]] = []  # query, packet

    def hear(self, query: bytes, *, over_tcp: bool) -> list[Said]:
        self.queries.append(query)
        self.streams += over_tcp
        self.datagrams += not over_tcp
        said = self.answer(query, over_tcp)
        self.replies += [(query, packet) for _, packet in said]
        return said

    def said_code(self, *codes: int) -> bool:
        """Whether a reply with one of the codes was given to the query it claims to answer."""
        for query, packet in self.replies:
            if len(packet) >= 12 and packet[:2] == query[:2]:
                (flags,) = struct.unpack_from("!H", packet, 2)
                if flags & 0x8000 and flags & 0xF in codes:
                    return True
        return False


class _Socket:
    def setsockopt(self, *_: object) -> None:
        """Nothing to be set."""


class _Datagrams(asyncio.DatagramTransport):
    def __init__(self, protocol: Any, server: Server) -> None:
        super().__init__()
        self.protocol = protocol
        self.server = server
        self.closed = False

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return _Socket() if name == "socket" else default

    def sendto(self, data: bytes, addr: Any = None) -> None:
        for delay, packet in self.server.hear(bytes(data), over_tcp=False):
            asyncio.get_running_loop().call_later(delay, self._deliver, packet)

    def _deliver(self, packet: bytes) -> None:
        if not self.closed:
            self.protocol.datagram_received(packet, ("192.0.2.53", 53))

    def close(self) -> None:
        self.closed = True


class _Stream(asyncio.Transport):
    def __init__(self, protocol: Any, server: Server) -> None:
        super().__init__()
        self.protocol = protocol
        self.server = server
        self.closed = False

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return default

    def write(self, data: bytes) -> None:
        for delay, packet in self.server.hear(bytes(data[2:]), over_tcp=True):
            framed = len(packet).to_bytes(2, "big") + packet
            asyncio.get_running_loop().call_later(delay, self._deliver, framed)

    def _deliver(self, data: bytes) -> None:
        if not self.closed:
            self.protocol.data_received(data)

    def is_closing(self) -> bool:
        return self.closed

    def close(self) -> None:
        if not self.closed:
            self.closed = True
            asyncio.get_running_loop().call_soon(self.protocol.connection_lost, None)

    abort = close


class ServerLoop(VirtualLoop):
    """Every connection leads to `server`."""

    server: Server

    async def create_datagram_endpoint(self, protocol_factory: Any, *_: Any, **__: Any) -> Any:
        protocol = protocol_factory()
        transport = _Datagrams(protocol, self.server)
        protocol.connection_made(transport)
        return transport, protocol

    async def create_connection(self, protocol_factory: Any, *_: Any, **__: Any) -> Any:
        protocol = protocol_factory()
        transport = _Stream(protocol, self.server)
        protocol.connection_made(transport)
        return transport, protocol
