"""One SMTP session as bytes, replies, phases and deadlines; it knows no verdicts.

aiosmtplib brings the connection's life, the checked write, STARTTLS and the reading of EHLO; what it reads replies
with is replaced by the strict reader, because it drops what it did not wait for and cannot pipeline. The rules kept
here:

- nothing is sent before the banner, and a flight only onto an empty buffer;
- one reply for each command, in order; a reply too many (`desync`) or a malformed one breaks the session for good. A
  421 that nobody asked for is a goodbye, not a desync;
- every wait has a deadline that only a complete reply moves, and the session has one that nothing moves. One timer
  watches both. A session that ran into its deadline is aborted and never used again.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Mapping
from functools import lru_cache
from types import MappingProxyType
from typing import Final

import msgspec
from aiosmtplib.errors import SMTPException, SMTPResponseException, SMTPServerDisconnected
from aiosmtplib.esmtp import parse_esmtp_extensions
from aiosmtplib.protocol import SMTPProtocol
from aiosmtplib.response import SMTPResponse

from validator.evidence import Outcome, Phase
from validator.smtp.reply import Reply, ReplyReader

SERVICE_CLOSING: Final = 421
_EHLO_NOT_KNOWN: Final = frozenset({500, 501, 502, 504})  # RFC 5321 section 4.1.4: fall back to HELO


class Timeouts(msgspec.Struct, frozen=True, kw_only=True):
    """Seconds. A wait starts anew with every complete reply; `session` does not."""

    connect: float = 15
    banner: float = 30  # postscreen and others greet late on purpose
    command: float = 15
    quit: float = 5
    session: float = 90


class Exchange(msgspec.Struct, frozen=True):
    """A line of the trace. `at`: wall clock, seconds."""

    at: float
    phase: Phase | str
    sent: str
    reply: str


class Session(SMTPProtocol):
    """Made by the connector as the connection's protocol. Used by one task."""

    def __init__(self, loop: asyncio.AbstractEventLoop, timeouts: Timeouts) -> None:
        super().__init__(loop=loop)
        self.timeouts = timeouts
        self.extensions: Mapping[str, str] = {}
        self.broken: Outcome | None = None  # why there is nothing more to be had
        self.desync = False  # more replies than commands: which reply belonged to what is not known
        self.goodbye: Reply | None = None  # a 421 out of turn
        self._reader = ReplyReader()
        self._replies: list[Reply] = []
        self._expected = 1  # the banner may be here before the connector returns
        self._waiter: asyncio.Future[None] | None = None
        self._patience = timeouts.banner
        self._due = loop.time() + timeouts.banner
        self._ends = loop.time() + timeouts.session
        self._alarm: asyncio.TimerHandle | None = loop.call_at(min(self._due, self._ends), self._watch)

    @property
    def secure(self) -> bool:
        return self._over_ssl

    @property
    def alive(self) -> bool:
        return self.broken is None and self.is_connected

    @property
    def left(self) -> float:
        """Seconds until the session's hard end."""
        return self._ends - self._loop.time()

    async def banner(self) -> Reply | None:
        return _first(await self._collect())

    async def hello(self, helo: str) -> Reply | None:
        """EHLO, or HELO where that is not known. Sets `extensions`."""
        reply = await self.command(f"EHLO {helo}")
        if reply is not None and reply.code == 250:
            self.extensions = _read_extensions(reply.lines)
        elif reply is not None and reply.code in _EHLO_NOT_KNOWN:
            self.extensions = {}
            reply = await self.command(f"HELO {helo}")
        return reply

    async def secure_with(self, context: ssl.SSLContext, host: str) -> bool:
        """STARTTLS, RFC 3207. False: no TLS, and the session must not be used in the clear afterwards."""
        self._check_empty()
        if not self.alive:
            return False
        try:
            await self.start_tls(context, server_hostname=host, timeout=self.timeouts.command)
        except SMTPResponseException:
            return False  # a plain no: QUIT can still be said
        except (SMTPException, OSError, ValueError):
            if self.broken in (None, Outcome.HUNG_UP):
                self.broken = Outcome.TLS_FAILED
            return False
        self.extensions = {}  # what was offered in the clear may have been forged
        return self.alive

    async def command(self, line: str) -> Reply | None:
        """One command by itself; None when the session broke."""
        return _first(await self.exchange(line.encode() + b"\r\n", 1, self.timeouts.command))

    async def exchange(self, commands: bytes, count: int, patience: float) -> list[Reply]:
        """Write a flight of `count` commands and wait for as many replies. Fewer: the session broke, see `broken`."""
        self._check_empty()
        if not self.alive:
            return []
        self._expect(count, patience)
        try:
            self.write(commands)
        except SMTPServerDisconnected:
            self._break(Outcome.HUNG_UP)
        return await self._collect()

    async def pause(self, seconds: float, wake: asyncio.Future[None]) -> None:
        """Do nothing until `wake` is done, the peer speaks or goes, or `seconds` have passed."""
        self._waiter = wake
        alarm = self._loop.call_later(seconds, self._wake)
        try:
            await wake
        finally:
            alarm.cancel()
            self._waiter = None

    async def leave(self) -> Reply | None:
        """QUIT where the peer lives; the reply to it."""
        if not self.alive:
            return None
        replies = await self.exchange(b"QUIT\r\n", 1, self.timeouts.quit)
        return _first(replies)

    async def silent_end(self) -> bool:
        """True: after the reply to QUIT nothing more came."""
        if not self.alive:
            return not self.desync
        self._expect(1, self.timeouts.quit)
        return not await self._collect()

    def close(self) -> None:
        """Close in order what is still open; an unread buffer is not waited for."""
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None
        if self.transport is not None:
            self.transport.close()

    # --- what the transport calls ---

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._response_waiter = None  # of the replaced reader

    def data_received(self, data: bytes) -> None:
        replies = self._reader.feed(data)
        if self.broken is not None:
            return
        self._replies += replies
        if len(self._replies) > self._expected:
            self._surplus()  # first: nonsense behind a reply too many does not put the others in order
        elif self._reader.error is not None:
            self._break(Outcome.PROTOCOL_ERROR)
        elif len(self._replies) == self._expected:
            self._wake()
        elif replies:
            self._due = self._loop.time() + self._patience

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._break(Outcome.HUNG_UP)

    # --- the strict side of what aiosmtplib's STARTTLS uses ---

    async def read_response(self, timeout: float | None = None) -> SMTPResponse:
        """One reply to the command just written, for SMTPProtocol.start_tls."""
        self._expect(1, timeout or self.timeouts.command)
        reply = _first(await self._collect())
        self._check_empty()  # CVE-2021-38371: what follows the 220 in the clear was injected
        if reply is None or self.broken is not None:
            raise SMTPServerDisconnected("no usable reply")
        return SMTPResponse(reply.code, reply.text)

    # --- inside ---

    def _expect(self, count: int, patience: float) -> None:
        self._replies = []
        self._expected = count
        self._patience = patience
        self._due = self._loop.time() + patience
        if self._alarm is not None and self._due < self._alarm.when():
            self._alarm.cancel()
            self._alarm = self._loop.call_at(min(self._due, self._ends), self._watch)

    async def _collect(self) -> list[Reply]:
        if len(self._replies) < self._expected and self.broken is None:
            self._waiter = self._loop.create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None
        replies, self._replies, self._expected = self._replies, [], 0
        return replies

    def _surplus(self) -> None:
        extra = self._replies[self._expected]
        del self._replies[self._expected :]
        if extra.code == SERVICE_CLOSING:
            self.goodbye = extra
            self._break(Outcome.HUNG_UP)
        else:
            self.desync = True
            self._break(Outcome.PROTOCOL_ERROR)

    def _check_empty(self) -> None:
        if self.broken is None and not self._reader.empty:
            self.desync = True
            self._break(Outcome.PROTOCOL_ERROR)

    def _break(self, outcome: Outcome) -> None:
        if self.broken is None:
            self.broken = outcome
            if outcome is Outcome.TIMEOUT and isinstance(self.transport, asyncio.WriteTransport):
                self.transport.abort()
            elif self.is_connected:
                if outcome is Outcome.PROTOCOL_ERROR:
                    self.write(b"QUIT\r\n")  # the peer lives, and is told that we go
                self.close()
        self._wake()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def _watch(self) -> None:
        now = self._loop.time()
        due = min(self._due, self._ends) if self._expected else self._ends
        if now >= due:
            self._break(Outcome.TIMEOUT)
            self._alarm = None
        else:
            self._alarm = self._loop.call_at(due, self._watch)


@lru_cache(maxsize=4_096)
def _read_extensions(lines: tuple[str, ...]) -> Mapping[str, str]:
    """By lower-case keyword (RFC 5321 section 4.1.1.1); a host says the same in every session."""
    return MappingProxyType(parse_esmtp_extensions("\n".join(lines))[0])


def _first(replies: list[Reply]) -> Reply | None:
    return replies[0] if replies else None
