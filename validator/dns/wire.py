"""DNS messages on the wire (RFC 1035 section 4): one question out, one reply in. Pure; hostile bytes expected.

Written by hand because a look-up costs 14 us this way and 330 us with a general library (decision 0030). Every bound
below keeps a hostile reply from costing more than a tenth of a second: compression pointers only go backwards, at most
MAX_HOPS for a name; at most MAX_RECORDS answers are read.
"""

from __future__ import annotations

import struct
from socket import AF_INET6, inet_ntoa, inet_ntop
from typing import NamedTuple

A, NS, CNAME, SOA, MX, AAAA = 1, 2, 5, 6, 15, 28
TYPE_NAMES = {A: "A", NS: "NS", CNAME: "CNAME", SOA: "SOA", MX: "MX", AAAA: "AAAA"}

NOERROR, FORMERR, SERVFAIL, NXDOMAIN, NOTIMP, REFUSED = range(6)
RCODE_NAMES = {
    NOERROR: "NOERROR", FORMERR: "FORMERR", SERVFAIL: "SERVFAIL", NXDOMAIN: "NXDOMAIN", NOTIMP: "NOTIMP",
    REFUSED: "REFUSED",
}  # fmt: skip

MAX_NAME = 255  # octets, RFC 1035 section 2.3.4
MAX_LABEL = 63
MAX_HOPS = 16  # compression pointers in one name; real names have one or two
MAX_RECORDS = 4_096  # of one section: all that fit a message, for the best preference may stand last

_CLASS_IN = 1
_HEADER = struct.Struct("!HHHHHH")
_RECORD = struct.Struct("!HHIH")  # type, class, ttl, length of the data
_PAIR = struct.Struct("!HH")
_QR, _OPCODE, _AA, _TC, _RD = 0x8000, 0x7800, 0x0400, 0x0200, 0x0100
_POINTER = 0xC0


class BadReply(ValueError):
    """Bytes that are not a reply to the question."""


class Mx(NamedTuple):
    preference: int
    host: str  # "" is the root: null MX


Value = str | Mx


class Record(NamedTuple):
    """`value`: an address literal for A and AAAA, a name for CNAME, Mx for MX. Names are lower case, no last dot."""

    owner: str
    rtype: int
    ttl: int
    value: Value


class Reply(NamedTuple):
    rcode: int
    truncated: bool
    referral: bool  # points at other name servers instead of answering: not a resolver, or a lame delegation
    records: tuple[Record, ...]
    negative_ttl: int | None  # RFC 2308 section 5, where the reply carries a SOA


def write_question(name: str, rtype: int) -> bytes:
    """QNAME, QTYPE, QCLASS. Raises ValueError for a name that does not fit the wire."""
    labels = name.encode("ascii").lower().split(b".")
    if any(not 0 < len(label) <= MAX_LABEL for label in labels):
        raise ValueError("a label is empty or too long")
    qname = b"".join(bytes((len(label),)) + label for label in labels) + b"\0"
    if len(qname) > MAX_NAME:
        raise ValueError("the name is too long")
    return qname + _PAIR.pack(rtype, _CLASS_IN)


def write_query(ident: int, question: bytes) -> bytes:
    """No EDNS: what does not fit 512 octets comes by TCP, and no reply is ever fragmented."""
    return _HEADER.pack(ident, _RD, 1, 0, 0, 0) + question


def read_ident(packet: bytes) -> int:
    """Raises BadReply for bytes too short to be a message."""
    if len(packet) < _HEADER.size:
        raise BadReply("shorter than a header")
    return int.from_bytes(packet[:2], "big")


def read_reply(packet: bytes, question: bytes) -> Reply:
    """Raises BadReply for anything but a well-formed reply to exactly `question`."""
    try:
        return _read_reply(packet, question)
    except (IndexError, struct.error) as error:
        raise BadReply("cut short") from error


def _read_reply(packet: bytes, question: bytes) -> Reply:
    _, flags, questions, answers, authorities, _ = _HEADER.unpack_from(packet)
    if not flags & _QR or flags & _OPCODE:
        raise BadReply("not a reply to a query")
    rcode = flags & 0xF
    at = _HEADER.size
    if questions == 1:
        end = at + len(question)
        if packet[at:end].lower() != question:  # length octets and type are below "A": lower() leaves them alone
            raise BadReply("a reply to another question")
        at = end
    elif questions or rcode in (NOERROR, NXDOMAIN):  # a refusal may come without the question
        raise BadReply("no question in the reply")
    truncated = bool(flags & _TC)
    if truncated:
        return Reply(rcode, truncated, referral=False, records=(), negative_ttl=None)
    records, at = _read_answers(packet, at, answers)
    soa_ttl, has_ns = (None, False) if records else _read_authority(packet, at, authorities)
    referral = rcode == NOERROR and not records and has_ns and soa_ttl is None and not flags & _AA
    return Reply(rcode, truncated, referral, records, soa_ttl)


def _read_answers(packet: bytes, at: int, count: int) -> tuple[tuple[Record, ...], int]:
    """The records of the answer section that concern us, and where it ends (only right when none was left out)."""
    found: list[Record] = []
    for _ in range(min(count, MAX_RECORDS)):
        owner, at = read_name(packet, at)
        rtype, rclass, ttl, length = _RECORD.unpack_from(packet, at)
        at += _RECORD.size
        end = at + length
        if end > len(packet):
            raise BadReply("cut short")
        if rclass == _CLASS_IN and rtype in TYPE_NAMES and (value := _read_value(packet, at, end, rtype)) is not None:
            found.append(Record(owner, rtype, ttl if ttl < 1 << 31 else 0, value))  # RFC 2181 section 8
        at = end
    return tuple(found), at


def _read_value(packet: bytes, at: int, end: int, rtype: int) -> Value | None:
    value: Value
    if rtype == A and end - at == 4:
        return inet_ntoa(packet[at:end])
    if rtype == AAAA and end - at == 16:
        return inet_ntop(AF_INET6, packet[at:end])
    if rtype == CNAME:
        value, at = read_name(packet, at)
    elif rtype == MX:
        preference = int.from_bytes(packet[at : at + 2], "big")
        host, at = read_name(packet, at + 2)
        value = Mx(preference, host)
    elif rtype in (NS, SOA):
        return None
    else:
        raise BadReply("an address of the wrong length")
    if at != end:
        raise BadReply("a name that does not fill its record")
    return value


def _read_authority(packet: bytes, at: int, count: int) -> tuple[int | None, bool]:
    """(negative time to live, whether name servers are named)."""
    soa_ttl: int | None = None
    has_ns = False
    for _ in range(min(count, MAX_RECORDS)):
        _, at = read_name(packet, at)
        rtype, _, ttl, length = _RECORD.unpack_from(packet, at)
        at += _RECORD.size + length
        has_ns = has_ns or rtype == NS
        if rtype == SOA and length >= 4:
            minimum = int.from_bytes(packet[at - 4 : at], "big")
            soa_ttl = min(ttl, minimum)
    return soa_ttl, has_ns


def read_name(packet: bytes, at: int) -> tuple[str, int]:
    """The name at `at` and where the bytes after it begin. Raises BadReply or IndexError."""
    labels: list[str] = []
    after = 0
    size = 1
    hops = 0
    while length := packet[at]:
        if length >= _POINTER:
            target = (length & 0x3F) << 8 | packet[at + 1]
            hops += 1
            if target >= at or hops > MAX_HOPS:
                raise BadReply("a compression pointer that does not go back")
            after = after or at + 2
            at = target
            continue
        size += length + 1
        if length > MAX_LABEL or size > MAX_NAME:
            raise BadReply("a label or name that is too long")
        label = packet[at + 1 : at + 1 + length]
        if len(label) != length:
            raise BadReply("cut short")
        labels.append(_text(label))
        at += length + 1
    return ".".join(labels), after or at + 1


def _text(label: bytes) -> str:
    """Lower case. A dot or an octet beyond ASCII inside a label is escaped, which no host name check lets through."""
    text = label.decode("ascii", "backslashreplace").lower()
    return text.replace(".", "\\046") if "." in text else text
