"""Mail hosts made of a script: whatever a peer may do with delays and bytes, and what was seen of us meanwhile.

A peer keeps its own, very small idea of SMTP (`Call.replies`): the n-th reply it said belongs to the n-th command it
heard, the banner to none. Nothing here uses the code under test.
"""

from __future__ import annotations

import asyncio
import re
import ssl
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

from validator.egress.identity import ConnectRefused, ConnectTimeout

HONEST: Final = "honest"  # the reply an honest server has for the command
PIECES: Final = "pieces"  # the same, byte by byte
CLOSE: Final = "close"
Act = tuple[tuple[float, str | bytes], ...]  # (seconds after the last one, what)
Peers = dict[str, "Peer"]

_LINE = re.compile(rb"([2-5][0-9][0-9])([ -].*)?")


@dataclass
class Peer:
    """One host. `acts` are what it does at each banner and command, over all connections; then it is honest."""

    mailboxes: frozenset[str]
    extensions: tuple[str, ...] = ("PIPELINING",)
    acts: tuple[Act, ...] = ()
    again: bool = False  # the acts begin anew when they are at their end
    connects: tuple[str, ...] = ()  # what happens to each connection: "ok", "refused", "silent"; then "ok"
    handshake: str = "ok"
    takes_all: bool = False
    wants_tls: bool = False
    calls: list[Call] = field(default_factory=list)
    turn: int = 0

    def next_act(self) -> Act:
        place = self.turn % len(self.acts) if self.again and self.acts else self.turn
        self.turn += 1
        return self.acts[place] if place < len(self.acts) else ((0.0, HONEST),)

    def honest(self, command: bytes, call: Call) -> bytes:
        word, _, argument = command.partition(b" ")
        match word.upper():
            case b"EHLO":
                names = [name for name in self.extensions if not (call.secure and name == "STARTTLS")]
                return b"".join(b"250-%s\r\n" % line.encode() for line in ("mx.test", *names)) + b"250 HELP\r\n"
            case b"MAIL" | b"RCPT" if self.wants_tls and not call.secure:
                return b"530 5.7.0 Must issue a STARTTLS command first\r\n"
            case b"RCPT":
                address = argument[4:-1].decode()
                if self.takes_all or address in self.mailboxes:
                    return b"250 2.1.5 Ok\r\n"
                return b"550 5.1.1 <%s>: user unknown\r\n" % address.encode()
            case b"QUIT":
                return b"221 2.0.0 Bye\r\n"
            case b"STARTTLS" | b"":
                return b"220 mx.test\r\n"
        return b"250 2.0.0 Ok\r\n"

    @property
    def open_calls(self) -> int:
        return sum(call.ended is None for call in self.calls)


class Call(asyncio.Transport):
    """One connection, from the peer's side of it: the transport that the session is given."""

    def __init__(self, peer: Peer, address: str) -> None:
        super().__init__()
        self.peer = peer
        self.address = address
        self.loop = asyncio.get_running_loop()
        self.session: Any = None
        self.began = self.loop.time()
        self.ended: float | None = None
        self.ended_by = ""  # "peer", "us", "abort"
        self.secure = False
        self.tls_failed = False
        self.commands: list[bytes] = []
        self.replies: list[tuple[int, bytes]] = []
        self.surplus = False  # more replies than commands
        self.goodbye = False  # the first of those is a 421, which is no answer to anything
        self.nonsense = False
        self.complaints: list[str] = []
        self._written = b""
        self._said = b""
        self._code = b""
        self._lines = 0
        self._busy_until = self.began

    def start(self, session: Any) -> None:
        self.session = session
        session.connection_made(self)
        self._act(b"")

    # --- speaking ---

    def _act(self, command: bytes) -> None:
        for delay, what in self.peer.next_act():
            match what:
                case bytes():
                    self._later(delay, what)
                case "close":
                    self._later(delay, None)
                case "pieces":
                    for place, byte in enumerate(self.peer.honest(command, self)):
                        self._later(delay if place == 0 else 0.3, bytes((byte,)))
                case _:
                    self._later(delay, self.peer.honest(command, self))
        if command.upper() == b"QUIT":
            self._later(0.0, None)

    def _later(self, delay: float, data: bytes | None) -> None:
        self._busy_until = max(self._busy_until, self.loop.time()) + delay
        self.loop.call_at(self._busy_until, self._say, data)

    def _say(self, data: bytes | None) -> None:
        if self.ended is not None:
            return
        if data is None:
            self._end("peer")
            self.session.eof_received()
            self.session.connection_lost(None)
            return
        self._listen_to_self(data)
        self.session.data_received(data)
        reader, held = self.session._reader, self.session._replies
        if len(reader._tail) > 2_048 or sum(map(len, reader._lines)) > 40_000 or len(held) > self.session._expected:
            self.complaints.append("more is kept than is allowed")

    def _listen_to_self(self, data: bytes) -> None:
        *lines, self._said = (self._said + data).split(b"\n")
        for line in lines:
            found = _LINE.fullmatch(line.removesuffix(b"\r")) if not self.nonsense else None
            self._lines += 1
            if found is None or (self._code and found[1] != self._code) or len(line) > 2_048 or self._lines > 100:
                self.nonsense = True
                continue
            self._code = found[1]
            if not (found[2] or b"").startswith(b"-"):
                if len(self.replies) > len(self.commands) and not self.goodbye:
                    self.goodbye = found[1] == b"421"
                    self.surplus = not self.goodbye
                self.replies.append((int(found[1]), line))
                self._code, self._lines = b"", 0

    # --- hearing; what the session calls ---

    def write(self, data: bytes) -> None:
        if self.ended is not None:
            self.complaints.append("a byte after the end")
            return
        *lines, self._written = (self._written + data).split(b"\r\n")
        self._check_manners(data, lines)
        for line in lines:
            self.commands.append(line)
            self._act(line)

    def _check_manners(self, data: bytes, lines: list[bytes]) -> None:
        if not self.replies and not self.nonsense and len(self._said) < 2_048:
            self.complaints.append("a byte before the banner")
        if data == b"QUIT\r\n":
            return  # may be said at any time, for there is nothing to be learnt from its reply
        if self._said or self._code or self.nonsense or len(self.replies) != len(self.commands) + 1:
            self.complaints.append("a command onto a buffer that is not empty")
        if len(lines) > 1 and not self._may_pipeline():
            self.complaints.append("pipelining that was not offered")
        if self._written:
            self.complaints.append("half a command")
        words = {line.partition(b" ")[0] for line in lines}
        if not words <= {b"EHLO", b"HELO", b"STARTTLS", b"MAIL", b"RCPT", b"RSET", b"QUIT"}:
            self.complaints.append(f"an odd command: {words}")

    def _may_pipeline(self) -> bool:
        return "PIPELINING" in self.peer.extensions or any(
            b"PIPELINING" in op for act in self.peer.acts for _, op in act if isinstance(op, bytes)
        )

    def is_closing(self) -> bool:
        return self.ended is not None

    def close(self) -> None:
        self._leave("us")

    def abort(self) -> None:
        self._leave("abort")

    def get_extra_info(self, name: str, default: object = None) -> object:
        return default

    async def shake_hands(self, seconds: float) -> Call:
        match self.peer.handshake:
            case "ok":
                self.secure = True
                return self
            case "hangs":
                await asyncio.sleep(seconds)
                error: OSError = ConnectionAbortedError("handshake takes too long")
            case "reset":
                error = ConnectionResetError()
            case _:
                error = ssl.SSLError("wrong version number")
        self.tls_failed = True
        self._leave("abort")
        raise error

    def _leave(self, who: str) -> None:
        if self.ended is None:
            self._end(who)
            self.loop.call_soon(self.session.connection_lost, None)

    def _end(self, who: str) -> None:
        self.ended, self.ended_by = self.loop.time(), who

    # --- for the oracle ---

    def said_about(self, address: str) -> list[tuple[int, bytes]]:
        """The replies to this recipient's own RCPT, in a connection whose replies can be told apart."""
        line = b"RCPT TO:<%s>" % address.encode()
        places = [place for place, command in enumerate(self.commands, 1) if command == line]
        return [self.replies[place] for place in places if place < len(self.replies) and not self.surplus]

    @property
    def impolite(self) -> str:
        """Why the peer has cause for complaint; empty: none."""
        if self.complaints:
            return self.complaints[0]
        if self.ended is None:
            return "never ended"
        if self.ended_by == "us" and self.replies and not self.goodbye and b"QUIT" not in self.commands:
            return "no QUIT although the peer lived"
        return ""


class Wire:
    """validator.egress.identity.Identity, without a network."""

    helo = "probe.test"
    mail_from = ""

    def __init__(self, peers: Peers) -> None:
        self.peers = peers
        self.peak: dict[str, int] = {}

    async def connect(
        self, address: str, port: int, timeout: float, protocol_factory: Callable[[], Any], *, mail_domain: str = ""
    ) -> tuple[asyncio.Transport, Any]:
        peer = self.peers[address]
        number = len(peer.calls)
        fate = peer.connects[number] if number < len(peer.connects) else "ok"
        call = Call(peer, address)
        peer.calls.append(call)
        self.peak[address] = max(self.peak.get(address, 0), peer.open_calls)
        try:
            if fate == "silent":
                await asyncio.sleep(timeout)
                raise ConnectTimeout("no connection in time")  # noqa: TRY301 - as a real connect does
            await asyncio.sleep(0.02)
            if fate == "refused":
                raise ConnectRefused("ECONNREFUSED")  # noqa: TRY301 - as a real connect does
        except BaseException:
            call._end("abort")
            raise
        session = protocol_factory()
        call.start(session)
        return call, session
