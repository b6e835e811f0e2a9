"""One question to the name servers and its reply: UDP with repeats, TCP for what is truncated.

The order of an `ask`: the first server that is not known to be silent gets the question by UDP; without a reply it is
repeated, to the next server where there is one, with growing patience, until the deadline. A late reply to an earlier
sending still counts. SERVFAIL, REFUSED and the like are the answer only after every server said so. A truncated reply
is asked again by TCP from the server that gave it. A reply counts only from the socket that the question left on, with
its id and its question; everything else is dropped. Sockets are used in turn, because 200 replies at once overflow the
receive buffer of one, and are replaced now and then, so that their source ports cannot be learned.
"""

from __future__ import annotations

import asyncio
import secrets
import socket
from collections.abc import Sequence
from typing import cast

from validator.dns import wire
from validator.dns.nameservers import NameServer

SOCKETS = 8  # for each server
QUESTIONS_PER_SOCKET = 2_000  # then a new source port
IDENTS_AT_ONCE = 256
IN_FLIGHT = 200  # more lose replies in a busy resolver's buffers
FIRST_PATIENCE = 1.0  # seconds before the first repeat; a recursive resolver's cold answer is mostly there by then
SENDINGS_PER_SERVER = 3
SILENT_FOR = 30.0  # a server that let a question time out is asked last for so long
RECEIVE_BUFFER = 1 << 20
_FINAL = (wire.NOERROR, wire.NXDOMAIN)


class NoReply(Exception):
    """No server gave a usable reply before the deadline. The message says how it went."""


class _Asked:
    """A question under way: every socket it left on reports here."""

    __slots__ = ("failed", "question", "replies", "waiter")

    def __init__(self, question: bytes) -> None:
        self.question = question
        self.replies: list[tuple[NameServer, wire.Reply | None]] = []  # None: the server's port is closed
        self.failed: dict[NameServer, wire.Reply | None] = {}  # servers that will not answer, and what they said
        self.waiter: asyncio.Future[None] | None = None

    def deliver(self, server: NameServer, reply: wire.Reply | None) -> None:
        self.replies.append((server, reply))
        self.wake()

    def wake(self) -> None:
        if self.waiter is not None and not self.waiter.done():
            self.waiter.set_result(None)


class _Socket(asyncio.DatagramProtocol):
    """A connected UDP socket: the kernel drops datagrams that come from elsewhere."""

    def __init__(self, server: NameServer) -> None:
        self.server = server
        self.asked: dict[int, _Asked] = {}
        self.sent = 0
        self._idents: list[int] = []
        self.retired = False
        self.transport: asyncio.DatagramTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.DatagramTransport", transport)
        sock: socket.socket = transport.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER)

    def send(self, asked: _Asked) -> int:
        """The id under which the question went out."""
        ident = self._new_ident()
        while ident in self.asked:
            ident = self._new_ident()
        self.asked[ident] = asked
        self.sent += 1
        if self.transport is not None:
            self.transport.sendto(wire.write_query(ident, asked.question))
        return ident

    def _new_ident(self) -> int:
        """Not to be guessed; drawn from the system many at a time, because asking it costs more than all else here."""
        if not self._idents:
            self._idents = list(memoryview(secrets.token_bytes(2 * IDENTS_AT_ONCE)).cast("H"))
        return self._idents.pop()

    def forget(self, ident: int) -> None:
        self.asked.pop(ident, None)
        if self.retired and not self.asked:
            self.close()

    def retire(self) -> None:
        """Close as soon as nothing is awaited on it."""
        self.retired = True
        if not self.asked:
            self.close()

    def datagram_received(self, data: bytes, addr: tuple[str | object, int]) -> None:  # noqa: ARG002
        try:
            asked = self.asked.get(wire.read_ident(data))
            if asked is not None:
                asked.deliver(self.server, wire.read_reply(data, asked.question))
        except wire.BadReply:
            return  # forged, late or broken: the question stays open until a good reply or its deadline

    def error_received(self, exc: Exception) -> None:  # noqa: ARG002
        """The server's port is closed, or the network is: all questions on this socket go elsewhere at once."""
        for asked in list(self.asked.values()):
            asked.deliver(self.server, None)

    def close(self) -> None:
        if self.transport is not None:
            self.transport.close()


class Exchange:
    """The way to the name servers. Opens its sockets when they are first needed; `close` closes them."""

    def __init__(self, servers: Sequence[NameServer]) -> None:
        self._servers = tuple(servers)
        self._sockets: dict[tuple[NameServer, int], _Socket] = {}
        self._turn = 0
        self._opening = asyncio.Lock()
        self._places = asyncio.Semaphore(IN_FLIGHT)
        self._silent_until: dict[NameServer, float] = {}

    async def ask(self, question: bytes, deadline: float) -> wire.Reply:
        """`deadline` by the loop's clock. A reply with any rcode is an answer; raises NoReply where there was none."""
        if not self._places.locked():
            async with self._places:
                return await self._ask(question, deadline)
        try:
            async with asyncio.timeout_at(deadline):
                await self._places.acquire()
        except TimeoutError:
            raise NoReply("too many questions under way") from None
        try:
            return await self._ask(question, deadline)
        finally:
            self._places.release()

    async def _ask(self, question: bytes, deadline: float) -> wire.Reply:
        loop = asyncio.get_running_loop()
        asked = _Asked(question)
        left: list[tuple[_Socket, int]] = []  # on which sockets, under which ids
        order = self._order(loop.time())
        patience = FIRST_PATIENCE
        try:
            for number in range(SENDINGS_PER_SERVER * len(order), 0, -1):
                server = order[-number % len(order)]
                if server in asked.failed:
                    continue
                sock = await self._socket(server)
                if sock is None:
                    asked.failed[server] = None
                    continue
                left.append((sock, sock.send(asked)))
                until = deadline if number == 1 else min(deadline, loop.time() + patience)
                reply = await self._listen(asked, server, until)
                if reply is not None:
                    return await self._whole(asked, reply, deadline)
                if loop.time() >= deadline:
                    break
                patience *= 2
        finally:
            for sock, ident in left:
                sock.forget(ident)
        refusal = next((reply for reply in asked.failed.values() if reply is not None), None)
        if refusal is not None:
            return refusal
        raise NoReply("refused by the network" if asked.failed else "no reply in time")

    def _order(self, now: float) -> tuple[NameServer, ...]:
        if not self._silent_until:
            return self._servers
        return tuple(sorted(self._servers, key=lambda server: self._silent_until.get(server, 0.0) > now))

    async def _listen(self, asked: _Asked, server: NameServer, until: float) -> tuple[NameServer, wire.Reply] | None:
        """A reply that answers, from whichever server was asked; None once `server` failed or nothing came by then."""
        loop = asyncio.get_running_loop()
        while server not in asked.failed:
            if not asked.replies:
                asked.waiter = loop.create_future()
                alarm = loop.call_at(until, asked.wake)
                try:
                    await asked.waiter
                finally:
                    alarm.cancel()
                if not asked.replies:
                    self._silent_until[server] = loop.time() + SILENT_FOR
                    return None
            source, reply = asked.replies.pop(0)
            if reply is not None and (reply.truncated or (reply.rcode in _FINAL and not reply.referral)):
                return source, reply
            asked.failed[source] = reply
        return None

    async def _whole(self, asked: _Asked, came: tuple[NameServer, wire.Reply], deadline: float) -> wire.Reply:
        server, reply = came
        return await self._ask_by_tcp(server, asked.question, deadline) if reply.truncated else reply

    async def _socket(self, server: NameServer) -> _Socket | None:
        """None: the server cannot be reached from here (no route, no IPv6)."""
        self._turn += 1
        place = (server, self._turn % SOCKETS)
        sock = self._sockets.get(place)
        if sock is not None and sock.sent < QUESTIONS_PER_SOCKET:
            return sock
        async with self._opening:
            sock = self._sockets.get(place)
            if sock is not None and sock.sent < QUESTIONS_PER_SOCKET:
                return sock  # another asker was faster
            try:
                _, fresh = await asyncio.get_running_loop().create_datagram_endpoint(
                    lambda: _Socket(server), remote_addr=(server.address, server.port)
                )
            except OSError:
                return None
            self._sockets[place] = fresh
        if sock is not None:
            sock.retire()
        return fresh

    @staticmethod
    async def _ask_by_tcp(server: NameServer, question: bytes, deadline: float) -> wire.Reply:
        """RFC 7766: the same message with its length before it. Raises NoReply."""
        ident = secrets.randbits(16)
        query = wire.write_query(ident, question)
        writer: asyncio.StreamWriter | None = None
        try:
            async with asyncio.timeout_at(deadline):
                reader, writer = await asyncio.open_connection(server.address, server.port)
                writer.write(len(query).to_bytes(2, "big") + query)
                packet = await reader.readexactly(int.from_bytes(await reader.readexactly(2), "big"))
            if wire.read_ident(packet) != ident:
                raise NoReply("a reply with another id over TCP")
            reply = wire.read_reply(packet, question)
        except (OSError, TimeoutError, EOFError, wire.BadReply) as error:
            raise NoReply(f"truncated, and no answer over TCP: {type(error).__name__}") from error
        finally:
            if writer is not None:
                writer.close()
        if reply.truncated:
            raise NoReply("truncated over TCP")
        return reply

    def close(self) -> None:
        """Questions under way end at their deadline without a reply."""
        for sock in self._sockets.values():
            sock.close()
        self._sockets.clear()
