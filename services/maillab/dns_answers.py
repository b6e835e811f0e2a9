"""DNS answers in wire form (RFC 1035), built once per question and kept.

An answer is the part after the question: records, ready to be appended to the caller's own question section.
"""

from __future__ import annotations

import ipaddress
import struct
from collections.abc import Callable
from typing import NamedTuple

from services.maillab.world import Domain, World, plain_name

TYPES = {"A": 1, "NS": 2, "CNAME": 5, "SOA": 6, "PTR": 12, "MX": 15, "TXT": 16, "AAAA": 28, "ANY": 255}
TYPE_NAMES = {number: name for name, number in TYPES.items()}
RCODES = {"NOERROR": 0, "FORMERR": 1, "SERVFAIL": 2, "NXDOMAIN": 3, "NOTIMP": 4, "REFUSED": 5}
MAX_CHAIN = 8  # CNAMEs followed in one answer; a longer chain or a loop is left to the asker
MAX_MESSAGE = 65_000  # bytes of records in one answer
NEGATIVE_TTL = 30
QUESTION_NAME = b"\xc0\x0c"  # compression pointer to the name in the question
_FIXED = struct.Struct("!HHIH")  # type, class, TTL, length of the data


class WireAnswer(NamedTuple):
    rcode: int
    answers: int  # records in the answer section
    authority: int
    records: bytes


def encode_name(name: str) -> bytes:
    r"""`www.test` as `\3www\4test\0`. Raises ValueError for a label that is empty or over 63 octets."""
    if name in ("", "."):
        return b"\0"
    encoded = b""
    for label in name.split("."):
        octets = label.encode()
        if not 0 < len(octets) < 64:
            raise ValueError(f"not a DNS name: {name!r}")
        encoded += bytes((len(octets),)) + octets
    return encoded + b"\0"


def build(world: World, name: str, kind: int, step: int) -> WireAnswer:
    """What the world says to a question of type `kind` for `name`, asked for the `step`-th time (from 0)."""
    domain = world.domains.get(plain_name(name))
    if domain is None:
        return WireAnswer(RCODES["NXDOMAIN"], 0, 1, _soa())
    records: list[bytes] = []
    owner = QUESTION_NAME
    for _ in range(MAX_CHAIN):
        if domain.cname is None or kind in (TYPES["CNAME"], TYPES["ANY"]):
            break
        target = encode_name(domain.cname)
        records.append(owner + _record("CNAME", domain.ttl, target))
        owner = target
        following = world.domains.get(domain.cname)
        if following is None:
            return WireAnswer(RCODES["NXDOMAIN"], len(records), 1, b"".join(records) + _soa())
        if "*" in following.rcode:
            return WireAnswer(RCODES.get(following.rcode["*"], RCODES["SERVFAIL"]), len(records), 0, b"".join(records))
        domain = following
    records += [owner + record for record in _records_of(domain, kind, step, from_question=owner is QUESTION_NAME)]
    if not records:
        return WireAnswer(0, 0, 1, _soa())
    return WireAnswer(0, *_fit(records))


def _fit(records: list[bytes]) -> tuple[int, int, bytes]:
    size = count = 0
    for record in records:
        size += len(record)
        if size > MAX_MESSAGE:
            break
        count += 1
    return count, 0, b"".join(records[:count])


def _records_of(domain: Domain, kind: int, step: int, *, from_question: bool) -> list[bytes]:
    """The records of type `kind` at `domain`, without their owner name."""
    makers: dict[str, Callable[[], list[bytes]]] = {
        "A": lambda: [ipaddress.IPv4Address(address).packed for address in _addresses(domain, step)],
        "AAAA": lambda: [ipaddress.IPv6Address(address).packed for address in domain.aaaa],
        "MX": lambda: [_mx(pref, target, domain.name if from_question else None) for pref, target in domain.mx],
        "CNAME": lambda: [encode_name(domain.cname)] if domain.cname else [],
        "TXT": lambda: [_txt(text) for text in domain.txt],
    }
    wanted = makers if kind == TYPES["ANY"] else [TYPE_NAMES.get(kind, "")]
    return [_record(name, domain.ttl, data) for name in wanted if name in makers for data in makers[name]()]


def _addresses(domain: Domain, step: int) -> list[str]:
    return domain.flip[min(step, len(domain.flip) - 1)] if domain.flip else domain.a


def _record(kind: str, ttl: int, data: bytes) -> bytes:
    return _FIXED.pack(TYPES[kind], 1, ttl, len(data)) + data


def _mx(preference: int, target: str, under: str | None) -> bytes:
    """`under`: a name the question holds, to which a target below it may point (RFC 1035 section 4.1.4)."""
    head = struct.pack("!H", preference)
    if under is not None and target.endswith("." + under):
        return head + encode_name(target[: -len(under) - 1])[:-1] + QUESTION_NAME
    return head + encode_name(target)


def _txt(text: str) -> bytes:
    octets = text.encode()
    pieces = [octets[start : start + 255] for start in range(0, max(len(octets), 1), 255)]
    return b"".join(bytes((len(piece),)) + piece for piece in pieces)


def _soa() -> bytes:
    numbers = struct.pack("!IIIII", 1, 3600, 600, 86400, NEGATIVE_TTL)
    data = encode_name("ns.lab.test") + encode_name("hostmaster.lab.test") + numbers
    return b"\0" + _record("SOA", NEGATIVE_TTL, data)
