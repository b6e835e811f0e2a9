"""One SMTP connection of the lab: bytes in, the character's answers out, everything logged, manners watched.

Order: replies leave in the order of their commands, each no earlier than the one before it; with a round trip time set,
a whole flight's replies leave together one `rtt` after it came (the banner after two, for the TCP handshake).
An answer is bytes, or an `Act` for anything but "reply at once".
"""

from __future__ import annotations

import asyncio
import re
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, cast

from services.maillab.manners import Manners
from services.maillab.replies import wire
from services.maillab.world import plain_address

if TYPE_CHECKING:
    from services.maillab.characters.character import Character
    from services.maillab.lab import Lab
    from services.maillab.world import Host

MAX_BUFFER = 1_048_576  # bytes without a line's end, after which the server hangs up
PLAINTEXT = (b"EHLO", b"HELO", b"MAIL", b"RCPT", b"RSET")
TLS_SECONDS = 10.0  # for a handshake
FIVE = ord("5")
SETTLE = 3  # passes of the event loop in which an older connection's end is still seen
_RCPT = re.compile(rb'(?i)RCPT TO:<((?:"(?:[^"\\]|\\.)*"@)?[^>]*)>(?: +(.*))?\Z')
_MAIL = re.compile(rb'(?i)MAIL FROM:<((?:"(?:[^"\\]|\\.)*"@)?[^>]*)>(?: +(.*))?\Z')

Then = Literal["go on", "close", "abort", "silence", "tls"]


@dataclass
class Act:
    """What to do instead of replying at once: wait `delay` seconds, say `data`, then `then`.

    With `stream`, its pieces are said too, one each `gap` seconds, as long as the client reads.
    """

    data: bytes = b""
    delay: float = 0.0
    then: Then = "go on"
    stream: Iterator[bytes] | None = None
    gap: float = 0.0


Answer = bytes | Act


class Dialogue(asyncio.Protocol):
    """The server's side of one connection. Characters read and set the public fields."""

    def __init__(self, lab: Lab, host: Host, character: Character) -> None:
        self.lab = lab
        self.host = host
        self.character = character
        self.helo: str | None = None
        self.esmtp = False
        self.sender: str | None = None
        self.rcpts = 0  # RCPT commands so far
        self.rejects = 0  # refused ones
        self.accepted = 0  # recipients of the open transaction
        self.tls = False
        self.tls_failed = False  # 220 was said to STARTTLS and no TLS came of it
        self.utf8 = False  # the open transaction said SMTPUTF8
        self.together = False  # the command being answered came in a group, or early
        self.others = 0  # other connections to this host at the banner
        self.state: dict[str, Any] = {}  # a character's own
        self._offered: frozenset[str] = frozenset()
        self._buffer = b""
        self._due: deque[tuple[float, Act]] = deque()
        self._timer: asyncio.TimerHandle | None = None
        self._settled = False  # the banner has been chosen
        self._banner_said = False
        self._said_quit = False
        self._spoilt = False  # the server misbehaved or said goodbye: leaving is fine
        self._over = False  # the server has closed
        self._deaf = False  # silent or closing: input is logged and not answered
        self._pouring = False  # a stream is being said; later answers wait for its end
        self._shaking = False  # a TLS handshake is under way
        self._in_data = False
        self._reading_ok = asyncio.Event()
        self._reading_ok.set()

    # the transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._loop = asyncio.get_running_loop()
        peer = transport.get_extra_info("peername")
        self.session = self.lab.log.open(self.lab.clock(), self.host.name, self.host.ip, f"{peer[0]}:{peer[1]}")
        self._near = self.lab.neighbourhood
        self._manners = Manners(self._near, self.host, self.session)
        self._before = self.lab.arrive(self.host.name, self)
        self._settle(SETTLE)

    def _settle(self, passes: int) -> None:
        """Count the connections open at once, after the end of older ones that was already under way was seen."""
        if passes:
            self._loop.call_soon(self._settle, passes - 1)
            return
        self.others = sum(1 for other in self._before if not other.is_over)
        self._before = []
        self.lab.log.connections(self.host.name, self.others + 1)
        self._manners.crowded(self.others + 1)
        self._settled = True
        if not self._over:
            self._write(self.character.teaser(self))
            self._answer(self.character.connect(self), trips=2)
            self._listen()

    @property
    def is_over(self) -> bool:
        return self._over

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's signature
        if self.session.closed is not None:
            return
        if not self._over:
            fine = self._banner_said and not (self._spoilt or self._due or self._deaf)
            self._manners.left(said_quit=self._said_quit, was_fine=fine)
        by = "server" if self._over else "client"
        self._over = self._deaf = True
        self._cancel()
        self._reading_ok.set()
        self.lab.leave(self.host.name, self)
        self.lab.log.close(self.lab.clock(), self.session, by)

    def pause_writing(self) -> None:
        self._reading_ok.clear()

    def resume_writing(self) -> None:
        self._reading_ok.set()

    # what the client says

    def data_received(self, data: bytes) -> None:
        if self._shaking:
            self._buffer += data
            return
        self.lab.log.said(self.lab.clock(), self.session, "C", data)
        if not self._banner_said and not self._over:
            self._manners.early()
            self.state["early"] = 1
        if self.tls_failed and data[:4].upper() in PLAINTEXT:
            self._manners.complain("went on in the clear after STARTTLS had failed")
        self._buffer += data
        if self._settled:
            self._listen()

    def _listen(self) -> None:
        """Answer the whole lines that have come."""
        if self._deaf:
            return
        *lines, self._buffer = self._buffer.split(b"\n")
        if len(self._buffer) > MAX_BUFFER:
            self._manners.complain("a line without an end")
            self.hang_up()
        if lines:
            self._hear(lines)

    def _hear(self, lines: list[bytes]) -> None:
        if not self._in_data:
            self.together = len(lines) > 1 or bool(self._due)
            self._manners.flight(
                lines, offered="PIPELINING" in self._offered, unanswered=self._banner_said and bool(self._due)
            )
        said: list[bytes] = []
        taken = refused = 0
        quick = None if self._near.is_watching else self.character.quick
        for line in lines:
            if self._deaf:
                break
            if quick is not None and self.sender is not None:
                reply = quick(line)
                if reply is not None:
                    said.append(reply)
                    taken += 1
                    refused += reply[0] == FIVE
                    continue
            answer = self._body(line) if self._in_data else self._command(line)
            if type(answer) is bytes:
                said.append(answer)
            else:
                self._answer(b"".join(said))
                said.clear()
                self._answer(answer)
        self._answer(b"".join(said))
        if taken:
            self.rcpts += taken
            self.accepted += taken - refused
            self._count(taken, refused)

    def _command(self, line: bytes) -> Answer:
        if line.find(b"\r") != len(line) - 1 or len(line) > 500:
            self._manners.line(line)
        line = line.rstrip(b"\r")
        verb = line[:4].upper()
        if verb == b"RCPT":
            return self._rcpt(line)
        if verb == b"MAIL":
            return self._mail(line)
        self._manners.command(verb)
        return self._session_command(verb, line)

    def _session_command(self, verb: bytes, line: bytes) -> Answer:
        match verb:
            case b"EHLO" | b"HELO":
                return self._hello(verb, line[5:].strip().decode("utf-8", "replace"))
            case b"RSET":
                self._forget()
                return self.character.reset(self)
            case b"NOOP":
                return b"250 2.0.0 Ok\r\n"
            case b"QUIT":
                self._said_quit = True
                return self.character.quit(self)
            case b"STAR":
                return self._starttls()
            case b"DATA":
                return self._data()
        return self._other(verb)

    def _other(self, verb: bytes) -> Answer:
        if verb in (b"VRFY", b"EXPN"):
            return b"252 2.0.0 Send some mail, I will do my best\r\n"
        if verb not in (b"AUTH", b"BDAT", b"TURN", b"ETRN", b"HELP"):
            self._manners.complain("a command that is none was sent")
        return self.character.unknown(self)

    def _hello(self, verb: bytes, name: str) -> Answer:
        if not name:
            self._manners.complain("EHLO or HELO without a name")
            return b"501 5.5.4 Say who you are\r\n"
        self._forget()
        self._offered = frozenset()
        self.helo, self.esmtp = name, verb == b"EHLO"
        return self.character.ehlo(self) if self.esmtp else self.character.hello(self)

    def offer(self, extensions: tuple[str, ...]) -> bytes:
        """The reply to EHLO that offers `extensions`; from now on they count as offered."""
        self._offered = frozenset(extension.split(" ")[0] for extension in extensions)
        *first, last = self.host.name, *extensions
        return wire("".join(f"250-{line}\n" for line in first) + f"250 {last}")

    def _mail(self, line: bytes) -> Answer:
        if self.helo is None:
            return b"503 5.5.1 Say hello first\r\n"
        if self.sender is not None:
            self._manners.complain("MAIL inside a transaction")
            return b"503 5.5.1 Nested MAIL command\r\n"
        found = _MAIL.match(line)
        if found is None:
            self._manners.complain("a MAIL that cannot be read")
            found = _MAIL.match(_without_blank(line))
        if found is None:
            return b"501 5.5.4 Syntax: MAIL FROM:<address>\r\n"
        for parameter in (found[2] or b"").upper().split():
            name = parameter.split(b"=")[0].decode("ascii", "replace")
            if ("8BITMIME" if name == "BODY" else name) not in self._offered:
                self._manners.complain(f"MAIL with {name}, which was not offered")
                return b"555 5.5.4 Unsupported option\r\n"
            self.utf8 |= name == "SMTPUTF8"
        self.character.look_around()
        answer = self.character.mail(self, found[1].decode("utf-8", "replace"))
        if (answer if isinstance(answer, bytes) else answer.data)[:1] == b"2":
            self.sender = found[1].decode("utf-8", "replace")
        return answer

    def _rcpt(self, line: bytes) -> Answer:
        if self.sender is None:
            return b"503 5.5.1 Need MAIL before RCPT\r\n"
        address = self._address(line)
        if isinstance(address, bytes):
            return address
        self.rcpts += 1
        if self._near.is_watching:
            self._manners.rcpt(address)
        answer = self.character.rcpt(self, address)
        said = answer if type(answer) is bytes else cast("Act", answer).data
        self.accepted += said.startswith(b"2")
        self._count(1, int(said.startswith(b"5")))
        return answer

    def _count(self, asked: int, refused: int) -> None:
        self.session.rcpt_count += asked
        if refused:
            self.rejects += refused
            self.session.reject_count += refused
            self._manners.rejected()

    def _address(self, line: bytes) -> str | bytes:
        """The address of a RCPT in lower case, or else the refusal."""
        found = _RCPT.match(line)
        if found is None or b"@" not in found[1]:
            self._manners.complain("a RCPT that cannot be read")
            found = _RCPT.match(_without_blank(line))
        if found is None or b"@" not in found[1]:
            return b"501 5.1.3 Bad recipient address syntax\r\n"
        if found[2] is not None:
            self._manners.complain("RCPT with parameters")
        if not (self.utf8 or found[1].isascii()):
            self._manners.complain("an address with UTF-8 and no SMTPUTF8")
            return b"553 5.6.7 Address needs SMTPUTF8\r\n"
        return plain_address(found[1].decode("utf-8", "replace"))

    def _data(self) -> Answer:
        if not self.accepted:
            return b"554 5.5.1 No valid recipients\r\n"
        self._in_data = True
        return b"354 End data with <CR><LF>.<CR><LF>\r\n"

    def _body(self, line: bytes) -> bytes:
        if line != b".\r":
            return b""
        self._in_data = False
        self._forget()
        return b"250 2.0.0 Ok: thrown away\r\n"

    def _starttls(self) -> Answer:
        if self.tls or "STARTTLS" not in self._offered:
            self._manners.complain("STARTTLS was sent and had not been offered")
            return b"502 5.5.1 Not offered\r\n"
        return self.character.starttls(self)

    def _forget(self) -> None:
        self.sender, self.accepted, self.utf8 = None, 0, False

    # what the server says

    def _answer(self, answer: Answer, trips: int = 1) -> None:
        if type(answer) is bytes:
            if not answer:
                return
            if not (self._due or self.lab.rtt):
                self._say(answer)
                return
            answer = Act(answer)
        act = cast("Act", answer)
        self._deaf |= act.then != "go on"
        start = max(self._due[-1][0] if self._due else 0.0, self._loop.time() + trips * self.lab.rtt)
        self._due.append((start + act.delay, act))
        self._play()

    def _play(self) -> None:
        """Do what is due; set the timer for the next."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        while self._due and not self._pouring:
            when, act = self._due[0]
            if when > self._loop.time():
                self._timer = self._loop.call_at(when, self._play)
                return
            if act.data:
                self._say(act.data)
            if act.stream is not None:
                self._pouring = True
                self.lab.spawn(self._pour(act), f"maillab-pour-{self.session.number}")
                return
            self._due.popleft()
            self._finish(act)

    def _finish(self, act: Act) -> None:
        if act.then == "close":
            self.hang_up()
        elif act.then == "abort":
            self.cut()
        elif act.then == "tls":
            self._shaking = True
            self.lab.spawn(self._shake_hands(), f"maillab-tls-{self.session.number}")

    def _say(self, data: bytes) -> None:
        self._banner_said = True
        self._write(data)

    def _write(self, data: bytes) -> None:
        if data and not self._over:
            self.lab.log.said(self.lab.clock(), self.session, "S", data)
            self._transport.write(data)

    def hang_up(self) -> None:
        self._over = self._deaf = True
        self._cancel()
        self._transport.close()

    def cut(self) -> None:
        """The lab is closing."""
        self._over = self._deaf = True
        self._cancel()
        self._transport.abort()

    def spoil(self) -> None:
        """From now on a client may leave without QUIT."""
        self._spoilt = True

    def _cancel(self) -> None:
        self._due.clear()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    async def _pour(self, act: Act) -> None:
        for piece in act.stream or ():
            if act.gap:
                await asyncio.sleep(act.gap)
            await self._reading_ok.wait()
            if self._over:
                return
            self._say(piece)
            if not act.gap:
                await asyncio.sleep(0)
        self._pouring = False
        if self._due:
            self._due.popleft()
        self._finish(act)
        self._play()

    async def _shake_hands(self) -> None:
        """STARTTLS: what arrives meanwhile is kept, so that nothing is answered in the clear.

        A handshake that fails takes the connection with it, and asyncio does not report that end.
        """
        secured = None
        try:
            secured = await self._loop.start_tls(
                self._transport, self, self.lab.tls_context(), server_side=True, ssl_handshake_timeout=TLS_SECONDS
            )
        except OSError:  # ssl.SSLError and the timeout are among them
            self.tls_failed = True
        finally:
            self._shaking = False
            if secured is None:
                self.cut()
                self.connection_lost(None)
        if secured is None:
            return
        self._transport = secured
        self.tls, self.helo, self.sender, self._offered = True, None, None, frozenset()
        self._deaf = False
        kept, self._buffer = self._buffer, b""
        if kept:
            self.data_received(kept)


def _without_blank(line: bytes) -> bytes:
    """`MAIL FROM: <a@b>` is no command of RFC 5321 (section 3.3), but most servers take it, as ours do after a word."""
    return line.replace(b": <", b":<", 1)
