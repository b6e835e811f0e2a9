"""The lab's authoritative DNS server, UDP and TCP on one port. It answers for every name there is.

A UDP message that came before, but for its id, costs one dictionary look-up: the reply is kept in wire form until the
world changes. Only names with tricks, flips or a failure that passes are worked out each time.
"""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Callable
from typing import cast

from services.maillab.dns_answers import RCODES, TYPE_NAMES, WireAnswer, build
from services.maillab.wirelog import WireLog
from services.maillab.world import Domain, World

PLAIN_UDP = 512  # bytes of an answer to an asker without EDNS, RFC 1035 section 2.3.4
OUR_UDP = 1232  # bytes we are ready to send in one datagram whatever the asker says
OPT = b"\0\x00\x29\x04\xd0\0\0\0\0\0\0"  # our EDNS record (RFC 6891), 1232 octets
HEADER = struct.Struct("!HHHHHH")
MAX_KEPT = 200_000  # answers


class Answers:
    """Wire messages in, wire messages out."""

    def __init__(self, world: World, log: WireLog, clock: Callable[[], float]) -> None:
        self._world = world
        self._log = log
        self._clock = clock
        self._replies: dict[bytes, tuple[bytes, bytes, str]] = {}  # by UDP message less its id: reply, name, type
        self._steps: dict[tuple[str, int], int] = {}
        self._version = world.version

    def reply(self, message: bytes, *, tcp: bool) -> bytes | None:
        """None: say nothing (a message that is no question, or a name that is to time out)."""
        if self._version != self._world.version or len(self._replies) > MAX_KEPT:
            self._version = self._world.version
            self._replies.clear()
        known = None if tcp else self._replies.get(message[2:])
        if known is not None:
            reply, name, kind = known
            self._log.asked(self._clock(), name, kind)
            return message[:2] + reply
        return self._read(message, tcp=tcp)

    def _read(self, message: bytes, *, tcp: bool) -> bytes | None:
        if len(message) < 17 or message[2] & 0x80:
            return None
        end = _name_end(message)
        if end is None or message[4:6] != b"\0\1":
            return _error(message, "FORMERR")
        name, kind = message[12:end].lower(), int.from_bytes(message[end : end + 2], "big")
        type_name = TYPE_NAMES.get(kind, str(kind))
        self._log.asked(self._clock(), name, type_name)
        asked_for = _labels(name)
        domain = self._world.domains.get(asked_for)
        if domain is not None and _is_odd(domain):
            return self._work_out(message, domain, kind, end + 4, tcp=tcp)
        reply = _message(message, end + 4, build(self._world, asked_for, kind, 0), tcp=tcp)
        if not tcp:
            self._replies[message[2:]] = reply[2:], name, type_name
        return reply

    def _work_out(self, message: bytes, domain: Domain, kind: int, end: int, *, tcp: bool) -> bytes | None:
        """The answer of a name that does not always say the same."""
        key = domain.name, kind
        step = self._steps.get(key, 0)
        self._steps[key] = step + 1
        rcode = domain.rcode.get(TYPE_NAMES.get(kind, ""), domain.rcode.get("*"))
        if rcode is not None and (domain.rcode_times is None or step < domain.rcode_times):
            return None if rcode == "timeout" else _error(message, rcode)
        return _tricked(
            domain, _message(message, end, build(self._world, domain.name, kind, step), tcp=tcp), end, tcp=tcp
        )


def _is_odd(domain: Domain) -> bool:
    return bool(domain.rcode or domain.flip or domain.trick)


def _tricked(domain: Domain, answer: bytes, end: int, *, tcp: bool) -> bytes | None:
    match domain.trick:
        case "truncate" if not tcp:
            return answer[:2] + bytes((answer[2] | 2, answer[3])) + b"\0\1\0\0\0\0\0\0" + answer[12:end]
        case "wrong_id":
            return bytes((answer[0] ^ 0x55, answer[1] ^ 0xAA)) + answer[2:]
        case "wrong_question":
            return answer[:13] + bytes((answer[13] ^ 1,)) + answer[14:]
        case "garbage":
            return answer[:12] + b"\xc0\x0c" * 40
        case "tcp_closes":
            return None if tcp else _tricked(Domain(domain.name, trick="truncate"), answer, end, tcp=tcp)
    return answer


def _message(question: bytes, end: int, found: WireAnswer, *, tcp: bool) -> bytes:
    """The whole reply; over UDP without its records and with TC set when it is too long for the asker."""
    edns = question[10:12] != b"\0\0"
    limit = PLAIN_UDP
    if edns:
        limit = max(PLAIN_UDP, min(OUR_UDP, int.from_bytes(question[end + 3 : end + 5], "big")))
    too_long = not tcp and end + len(found.records) + 11 * edns > limit
    flags = 0x8400 | (question[2] & 0x79) << 8 | found.rcode | (0x0200 if too_long else 0)
    counts = (0, 0) if too_long else (found.answers, found.authority)
    head = question[:2] + HEADER.pack(flags, 1, *counts, edns, 0)[:10]
    return b"".join((head, question[12:end], b"" if too_long else found.records, OPT if edns else b""))


def _error(question: bytes, rcode: str) -> bytes:
    end = _name_end(question)
    whole = end is not None and len(question) >= end + 4
    flags = 0x8000 | (question[2] & 0x79) << 8 | RCODES[rcode]
    body = question[12 : end + 4] if whole and end is not None else b""
    return question[:2] + HEADER.pack(flags, int(whole), 0, 0, 0, 0)[:10] + body


def _name_end(message: bytes) -> int | None:
    place = 12
    while place < len(message):
        length = message[place]
        if not length:
            return place + 1 if place + 5 <= len(message) else None
        if length > 63:
            return None
        place += 1 + length
    return None


def _labels(wire: bytes) -> str:
    labels, place = [], 0
    while wire[place]:
        labels.append(wire[place + 1 : place + 1 + wire[place]].decode("utf-8", "replace"))
        place += 1 + wire[place]
    return ".".join(labels)


class UdpSide(asyncio.DatagramProtocol):
    def __init__(self, answers: Answers) -> None:
        self._answers = answers

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.DatagramTransport", transport)

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        reply = self._answers.reply(data, tcp=False)
        if reply is not None:
            self._transport.sendto(reply, addr)


class TcpSide(asyncio.Protocol):
    """Messages with two octets of length before them (RFC 1035 section 4.2.2)."""

    def __init__(self, answers: Answers, open_ones: set[asyncio.Transport]) -> None:
        self._answers = answers
        self._open = open_ones
        self._buffer = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._open.add(self._transport)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's signature
        self._open.discard(self._transport)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        while len(self._buffer) >= 2:
            size = int.from_bytes(self._buffer[:2], "big")
            if len(self._buffer) < 2 + size:
                return
            message, self._buffer = self._buffer[2 : 2 + size], self._buffer[2 + size :]
            reply = self._answers.reply(message, tcp=True)
            if reply is None:
                self._transport.close()
                return
            self._transport.write(len(reply).to_bytes(2, "big") + reply)
