"""The wire log: everything said between the lab and its callers, in order, in memory and (if asked) in a file.

The file is append-only JSON lines, one event each, `s` being the session's number and `at` seconds since the epoch:

    {"e": "start", "at"}                                   a lab began; session numbers start over
    {"e": "open", "s", "at", "host", "ip", "peer"}
    {"e": "C" or "S", "s", "at", "d"}                      what the client or server said; bytes as Latin-1
    {"e": "close", "s", "at", "by", "rcpts", "rejects"}
    {"e": "complaint", "s", "at", "text"}
    {"e": "peak", "host", "n"}                             more connections at once than ever before
    {"e": "dns", "at", "name", "type"}

Lines are written in batches: a crash of the lab's process loses those of the last FLUSH_SECONDS, an orderly end none.
With ``keep="counts"`` what was said is not kept (for benchmarks): sessions have no lines, only counts.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, Literal, NamedTuple

import msgspec

FLUSH_SECONDS = 0.05
FLUSH_EVENTS = 5_000
_PATH = re.compile(r"(?i)(?:RCPT TO|MAIL FROM):\s*<(.*)>")

Keep = Literal["all", "counts"]


class Line(NamedTuple):
    at: float
    who: str  # "C" the client, "S" the server
    text: str


class Query(NamedTuple):
    name: str
    type: str
    at: float


@dataclass(slots=True)
class Session:
    """One SMTP connection as the server saw it. `closed` and `closed_by` are None while it is open."""

    number: int
    host: str
    ip: str
    peer: str
    opened: float
    closed: float | None = None
    closed_by: str | None = None  # "client" or "server"
    rcpt_count: int = 0
    reject_count: int = 0
    chunks: list[tuple[float, str, bytes]] = field(default_factory=list, repr=False)

    @property
    def lines(self) -> list[Line]:
        """Every line said, without its CRLF, at the time its end was seen; an unfinished one comes last."""
        found = []
        rest = {"C": b"", "S": b""}
        last = self.opened
        for at, who, data in self.chunks:
            last = at
            *whole, rest[who] = (rest[who] + data).split(b"\n")
            found += [Line(at, who, _text(line.removesuffix(b"\r"))) for line in whole]
        found += [Line(last, who, _text(line)) for who, line in rest.items() if line]
        return found

    @property
    def commands(self) -> list[str]:
        return [line.text for line in self.lines if line.who == "C"]

    @property
    def helo(self) -> str | None:
        """The name given in the first EHLO or HELO."""
        names = [text[5:] for text in self.commands if text[:5].upper() in ("EHLO ", "HELO ")]
        return names[0] if names else None

    @property
    def mail_from(self) -> str | None:
        """The reverse-path of the first MAIL, without its brackets; None: there was no MAIL."""
        paths = self._paths("MAIL")
        return paths[0] if paths else None

    @property
    def rcpts(self) -> list[str]:
        return self._paths("RCPT")

    @property
    def quit(self) -> bool:
        return any(text.strip().upper() == "QUIT" for text in self.commands)

    @property
    def data(self) -> bool:
        return any(text.split(" ")[0].strip().upper() in ("DATA", "BDAT") for text in self.commands)

    def _paths(self, verb: str) -> list[str]:
        paths = [_PATH.match(text) for text in self.commands if text[:4].upper() == verb]
        return [path[1] for path in paths if path is not None]


class WireLog:
    """What was seen. `complaints` are manners broken, one sentence each."""

    def __init__(self, *, file: Path | None = None, keep: Keep = "all") -> None:
        self._keep = keep
        self._sessions: dict[int, Session] = {}
        self._queries: list[tuple[bytes | str, str, float]] = []
        self._query_count = 0
        self._peaks: dict[str, int] = {}
        self.complaints: list[str] = []
        self._file: IO[bytes] | None = file.open("ab") if file is not None else None
        self._events: list[dict[str, Any]] = []
        self._timer: asyncio.TimerHandle | None = None
        self._encode: Callable[[Any], bytes] = msgspec.json.Encoder().encode

    # reading

    def sessions(self, host: str | None = None) -> list[Session]:
        return [session for session in self._sessions.values() if host in (None, session.host)]

    def rcpts(self, host: str | None = None) -> list[str]:
        """Every address asked about, as written in RCPT, session by session."""
        return [address for session in self.sessions(host) for address in session.rcpts]

    def peak_connections(self, host: str) -> int:
        return self._peaks.get(host, 0)

    @property
    def queries(self) -> list[Query]:
        return [Query(name if isinstance(name, str) else _name(name), kind, at) for name, kind, at in self._queries]

    @property
    def query_count(self) -> int:
        return self._query_count

    # writing (the lab's servers)

    def start(self, at: float) -> None:
        if self._file is not None:
            self._write({"e": "start", "at": at})

    def open(self, at: float, host: str, ip: str, peer: str) -> Session:
        session = Session(len(self._sessions) + 1, host, ip, peer, at)
        self._sessions[session.number] = session
        if self._file is not None:
            self._write({"e": "open", "s": session.number, "at": at, "host": host, "ip": ip, "peer": peer})
        return session

    def said(self, at: float, session: Session, who: str, data: bytes) -> None:
        if self._keep == "all":
            session.chunks.append((at, who, data))
        if self._file is not None:
            self._write({"e": who, "s": session.number, "at": at, "d": data.decode("latin-1")})

    def close(self, at: float, session: Session, by: str) -> None:
        session.closed, session.closed_by = at, by
        if self._file is not None:
            counts = {"rcpts": session.rcpt_count, "rejects": session.reject_count}
            self._write({"e": "close", "s": session.number, "at": at, "by": by, **counts})

    def complain(self, at: float, session: Session, sentence: str) -> None:
        text = f"{session.host}, session {session.number}: {sentence}"
        self.complaints.append(text)
        if self._file is not None:
            self._write({"e": "complaint", "s": session.number, "at": at, "text": text})

    def connections(self, host: str, count: int) -> None:
        """`count` connections to `host` are open at once."""
        if count > self._peaks.get(host, 0):
            self._peaks[host] = count
            if self._file is not None:
                self._write({"e": "peak", "host": host, "n": count})

    def asked(self, at: float, name: bytes, kind: str) -> None:
        """A DNS question; `name` in wire form."""
        self._query_count += 1
        if self._keep == "all":
            self._queries.append((name, kind, at))
        if self._file is not None:
            self._write({"e": "dns", "at": at, "name": _name(name), "type": kind})

    def finish(self) -> None:
        """Write what is left and close the file. The log can still be read."""
        if self._timer is not None:
            self._timer.cancel()
        if self._file is not None:
            self._flush()
            self._file.close()
            self._file = None

    def _write(self, event: dict[str, Any]) -> None:
        self._events.append(event)
        if len(self._events) >= FLUSH_EVENTS:
            self._flush()
        elif self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(FLUSH_SECONDS, self._flush)

    def _flush(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._file is not None and self._events:
            self._file.write(b"".join(self._encode(event) + b"\n" for event in self._events))
            self._file.flush()
            self._events.clear()

    # from a file

    @classmethod
    def load(cls, path: Path) -> WireLog:
        """The log in `path`, which the lab may still be writing. Raises msgspec.DecodeError for a line that is none."""
        log = cls()
        decode = msgspec.json.Decoder(dict[str, Any]).decode
        before = 0
        for line in path.read_bytes().split(b"\n")[:-1]:
            event = decode(line)
            if event["e"] == "start":
                before = len(log._sessions)
            elif "s" in event:
                event["s"] += before
            log._replay(event)
        return log

    def _replay(self, event: dict[str, Any]) -> None:
        match event["e"]:
            case "open":
                session = Session(event["s"], event["host"], event["ip"], event["peer"], event["at"])
                self._sessions[session.number] = session
            case "C" | "S":
                self._sessions[event["s"]].chunks.append((event["at"], event["e"], event["d"].encode("latin-1")))
            case "close":
                session = self._sessions[event["s"]]
                session.closed, session.closed_by = event["at"], event["by"]
                session.rcpt_count, session.reject_count = event["rcpts"], event["rejects"]
            case "complaint":
                self.complaints.append(event["text"])
            case "peak":
                self._peaks[event["host"]] = event["n"]
            case "dns":
                self._query_count += 1
                self._queries.append((event["name"], event["type"], event["at"]))


def _text(line: bytes) -> str:
    return line.decode("utf-8", "backslashreplace")


def _name(wire: bytes) -> str:
    r"""`\3www\4test\0` as `www.test`, in lower case."""
    labels, place = [], 0
    while place < len(wire) and wire[place]:
        labels.append(wire[place + 1 : place + 1 + wire[place]].decode("latin-1").lower())
        place += 1 + wire[place]
    return ".".join(labels)
