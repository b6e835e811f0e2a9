from __future__ import annotations

from services.maillab.wirelog import WireLog


def test_lines_are_put_together_from_pieces_in_order():
    log = WireLog()
    session = log.open(1.0, "mx.test", "127.1.0.1", "127.0.0.1:9")
    for at, who, data in (
        (2.0, "S", b"220 mx"),
        (3.0, "S", b".test\r\n"),
        (4.0, "C", b"EHLO me.test\r\nMAIL FROM:<a"),
        (5.0, "S", b"250 mx.test\r\n"),
        (6.0, "C", b"nn@me.test>\r\nrcpt to:<Ben@x.test>\r\nQUIT\n"),
        (7.0, "S", b"250 Ok\r\n2"),
    ):
        log.said(at, session, who, data)
    assert [tuple(line) for line in session.lines] == [
        (3.0, "S", "220 mx.test"),
        (4.0, "C", "EHLO me.test"),
        (5.0, "S", "250 mx.test"),
        (6.0, "C", "MAIL FROM:<ann@me.test>"),
        (6.0, "C", "rcpt to:<Ben@x.test>"),
        (6.0, "C", "QUIT"),
        (7.0, "S", "250 Ok"),
        (7.0, "S", "2"),
    ]
    assert (session.helo, session.mail_from, session.rcpts) == ("me.test", "ann@me.test", ["Ben@x.test"])
    assert (session.quit, session.data) == (True, False)


def test_an_empty_session_has_said_nothing():
    log = WireLog()
    session = log.open(1.0, "mx.test", "127.1.0.1", "127.0.0.1:9")
    assert (session.lines, session.helo, session.mail_from, session.rcpts, session.quit) == ([], None, None, [], False)
    assert log.sessions("other.test") == []
    assert log.peak_connections("mx.test") == 0


def test_sessions_are_numbered_and_found_by_host():
    log = WireLog()
    for host in ("a.test", "b.test", "a.test"):
        log.open(1.0, host, "127.1.0.1", "127.0.0.1:9")
    assert [session.number for session in log.sessions("a.test")] == [1, 3]


def test_a_peak_only_grows():
    log = WireLog()
    for count in (1, 3, 2):
        log.connections("a.test", count)
    assert log.peak_connections("a.test") == 3


def test_a_complaint_names_host_and_session():
    log = WireLog()
    log.complain(1.0, log.open(1.0, "a.test", "127.1.0.1", "127.0.0.1:9"), "DATA was sent")
    assert log.complaints == ["a.test, session 1: DATA was sent"]


def test_questions_are_read_from_their_wire_form():
    log = WireLog()
    log.asked(2.0, b"\4Good\4test\0", "MX")
    log.asked(3.0, b"\0", "A")
    assert [tuple(query) for query in log.queries] == [("good.test", "MX", 2.0), ("", "A", 3.0)]
    assert log.query_count == 2
