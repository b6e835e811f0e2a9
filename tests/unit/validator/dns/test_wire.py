"""The DNS codec against dnspython's, and against hostile bytes."""

import struct

import dns.flags
import dns.message
import dns.rcode
import dns.rrset
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from validator.dns import wire

LABEL = st.from_regex(r"[a-z0-9_]([a-z0-9-]{0,20}[a-z0-9])?", fullmatch=True)
NAME = st.lists(LABEL, min_size=1, max_size=5).map(".".join)


def make_reply(name, rtype, records=(), *, rcode="NOERROR", authority=(), flags=0, ident=7):
    reply = dns.message.make_response(dns.message.make_query(name + ".", rtype, id=ident))
    reply.set_rcode(dns.rcode.from_text(rcode))
    reply.flags |= flags
    for owner, kind, texts in records:
        reply.answer.append(dns.rrset.from_text_list(owner + ".", 300, "IN", kind, texts))
    for owner, kind, texts in authority:
        reply.authority.append(dns.rrset.from_text_list(owner + ".", 600, "IN", kind, texts))
    return reply.to_wire()


@settings(max_examples=50)
@given(NAME, st.sampled_from([wire.A, wire.AAAA, wire.MX]), st.integers(0, 65535))
def test_a_query_is_read_by_another_codec_as_it_was_meant(name, rtype, ident):
    query = dns.message.from_wire(wire.write_query(ident, wire.write_question(name, rtype)))
    assert query.id == ident
    assert query.question[0].name.to_text(omit_final_dot=True) == name
    assert query.question[0].rdtype == rtype
    assert query.flags == dns.flags.RD


@settings(max_examples=40)
@given(NAME, st.lists(st.tuples(st.integers(0, 65535), NAME), min_size=1, max_size=6, unique=True))
def test_mx_records_of_another_codec_are_read_as_they_were_meant(name, exchanges):
    packet = make_reply(name, "MX", [(name, "MX", [f"{preference} {host}." for preference, host in exchanges])])
    reply = wire.read_reply(packet, wire.write_question(name, wire.MX))
    assert {record.value for record in reply.records} == {wire.Mx(*exchange) for exchange in exchanges}
    assert {record.owner for record in reply.records} == {name}
    assert {record.ttl for record in reply.records} == {300}


def test_addresses_aliases_and_the_root_are_read():
    packet = make_reply(
        "a.example",
        "A",
        [
            ("a.example", "CNAME", ["B.Example."]),
            ("b.example", "A", ["192.0.2.1"]),
            ("b.example", "AAAA", ["2001:db8::1"]),
        ],
    )
    reply = wire.read_reply(packet, wire.write_question("A.example", wire.A))
    assert [(record.owner, record.rtype, record.value) for record in reply.records] == [
        ("a.example", wire.CNAME, "b.example"),
        ("b.example", wire.A, "192.0.2.1"),
        ("b.example", wire.AAAA, "2001:db8::1"),
    ]
    null = wire.read_reply(
        make_reply("a.example", "MX", [("a.example", "MX", ["0 ."])]), wire.write_question("a.example", wire.MX)
    )
    assert null.records[0].value == wire.Mx(0, "")


def test_the_negative_time_to_live_is_the_lesser_of_the_soa_and_its_minimum():
    soa = [("example", "SOA", ["ns.example. x.example. 1 2 3 4 120"])]
    reply = wire.read_reply(
        make_reply("a.example", "MX", rcode="NXDOMAIN", authority=soa), wire.write_question("a.example", wire.MX)
    )
    assert (reply.rcode, reply.negative_ttl, reply.records) == (wire.NXDOMAIN, 120, ())


def test_a_referral_is_told_from_an_empty_answer():
    question = wire.write_question("a.example", wire.MX)
    servers = [("example", "NS", ["ns.example."])]
    assert wire.read_reply(make_reply("a.example", "MX", authority=servers), question).referral
    assert not wire.read_reply(make_reply("a.example", "MX", authority=servers, flags=dns.flags.AA), question).referral
    assert not wire.read_reply(make_reply("a.example", "MX"), question).referral


def test_a_refusal_may_leave_out_the_question_an_answer_may_not():
    question = wire.write_question("a.example", wire.MX)
    refused = struct.pack("!HHHHHH", 7, 0x8005, 0, 0, 0, 0)
    assert wire.read_reply(refused, question).rcode == wire.REFUSED
    with pytest.raises(wire.BadReply):
        wire.read_reply(struct.pack("!HHHHHH", 7, 0x8000, 0, 0, 0, 0), question)


def test_an_odd_label_never_looks_like_a_host_name():
    packet = make_reply("a.example", "MX", [("a.example", "MX", [r"10 a\.b.\200\010x.example."])])
    ((*_, mx),) = wire.read_reply(packet, wire.write_question("a.example", wire.MX)).records
    assert "\\" in mx.host


@pytest.mark.parametrize("name", ["", ".", "a..b", "a" * 64, ".".join(["a" * 60] * 5), "ä.example"])
def test_a_name_that_does_not_fit_the_wire_is_not_asked(name):
    with pytest.raises(ValueError):
        wire.write_question(name, wire.A)


QUESTION = wire.write_question("a.example", wire.MX)
HEAD = struct.pack("!HHHHHH", 7, 0x8180, 1, 1, 0, 0) + QUESTION


@pytest.mark.parametrize(
    "packet",
    [
        b"",
        b"\0" * 11,
        struct.pack("!HHHHHH", 7, 0x0100, 1, 0, 0, 0) + QUESTION,  # a query
        struct.pack("!HHHHHH", 7, 0xA980, 1, 0, 0, 0) + QUESTION,  # another opcode
        struct.pack("!HHHHHH", 7, 0x8180, 2, 0, 0, 0) + QUESTION + QUESTION,
        struct.pack("!HHHHHH", 7, 0x8180, 1, 0, 0, 0) + wire.write_question("b.example", wire.MX),
        struct.pack("!HHHHHH", 7, 0x8180, 1, 0, 0, 0) + wire.write_question("a.example", wire.A),
        HEAD,  # the record is missing
        HEAD + b"\xc0\x0c\x00\x0f\x00\x01\x00\x00\x00\x01\x00\xff",  # data beyond the end
        HEAD + b"\xc0\xff",  # a pointer beyond the end
        HEAD + b"\xc0" + bytes([len(HEAD)]) + b"\x00" * 10,  # a pointer to itself
        HEAD + b"\x80\x00" + b"\x00" * 10,  # a reserved kind of label
        HEAD + b"\xc0\x0c\x00\x01\x00\x01\x00\x00\x00\x01\x00\x03abc",  # an address of three octets
        HEAD + b"\xc0\x0c\x00\x0f\x00\x01\x00\x00\x00\x01\x00\x09\x00\x0a\x02mx\xc0\x0c\x00\x00",  # more than its name
    ],
)
def test_bytes_that_are_no_reply_to_the_question_are_refused(packet):
    with pytest.raises(wire.BadReply):
        wire.read_reply(packet, QUESTION)


def test_a_chain_of_pointers_is_cut():
    packet = bytearray(HEAD)
    for _ in range(60):
        packet += struct.pack("!H", 0xC000 | (len(packet) - 2 if len(packet) > len(HEAD) else 12))
    with pytest.raises(wire.BadReply):
        wire.read_name(bytes(packet), len(packet) - 2)


def test_only_so_many_records_are_read():
    record = b"\0" + struct.pack("!HHIH", wire.A, 1, 60, 4) + bytes(4)
    header = struct.pack("!HHHHHH", 7, 0x8180, 1, 5_000, 0, 0) + QUESTION
    assert len(wire.read_reply(header + record * 5_000, QUESTION).records) == wire.MAX_RECORDS


def test_the_best_of_three_thousand_mx_counts_wherever_it_stands():
    packet = make_reply("a.example", "MX", [("a.example", "MX", [f"{9_000 - n} m{n:x}." for n in range(3_000)])])
    best = min(record.value for record in wire.read_reply(packet, QUESTION).records)
    assert best == wire.Mx(6_001, "mbb7")


@settings(max_examples=300)
@given(st.binary(max_size=200), st.booleans())
def test_garbage_never_raises_anything_else(garbage, with_head):
    packet = HEAD + garbage if with_head else garbage
    try:
        wire.read_reply(packet, QUESTION)
    except wire.BadReply:
        return


@settings(max_examples=200)
@given(st.integers(0, 10_000), st.integers(0, 255))
def test_a_reply_with_one_octet_changed_is_read_or_refused(place, octet):
    records = [("a.example", "CNAME", ["b.example."]), ("b.example", "MX", ["10 mx.b.example.", "20 mx2.b.example."])]
    packet = bytearray(make_reply("a.example", "MX", records))
    packet[place % len(packet)] = octet
    try:
        reply = wire.read_reply(bytes(packet), QUESTION)
    except wire.BadReply:
        return
    assert all(len(str(record.value)) < 2_000 for record in reply.records)
