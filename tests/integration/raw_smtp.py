"""A bare SMTP client over asyncio streams: what the test writes is what goes out."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from types import TracebackType
from typing import Self

PATIENCE = 5.0  # seconds before a test is told that the server keeps silent


class RawClient:
    def __init__(self, ip: str, port: int) -> None:
        self.ip = ip
        self.port = port

    async def __aenter__(self) -> Self:
        self.reader, self.writer = await asyncio.open_connection(self.ip, self.port)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.leave()

    async def leave(self) -> None:
        """End the connection without QUIT."""
        self.writer.close()
        with contextlib.suppress(ConnectionError, ssl.SSLError):  # the server was faster
            await self.writer.wait_closed()

    async def reply(self) -> str:
        """The next reply, its lines joined by newlines; "" when the server has hung up."""
        lines = []
        while True:
            try:
                line = await asyncio.wait_for(self.reader.readline(), PATIENCE)
            except ConnectionError:
                return ""
            if not line:
                return ""
            lines.append(line.decode("utf-8", "replace").rstrip("\r\n"))
            if line[3:4] != b"-":
                return "\n".join(lines)

    def send(self, *commands: str) -> None:
        self.writer.write("".join(command + "\r\n" for command in commands).encode())

    async def ask(self, command: str) -> str:
        self.send(command)
        return await self.reply()

    async def is_silent(self, seconds: float = 0.15) -> bool:
        """Nothing comes for `seconds`, and the connection stays open."""
        try:
            await asyncio.wait_for(self.reader.read(1), seconds)
        except TimeoutError:
            return True
        return False

    async def everything(self) -> bytes:
        """All that comes until the server hangs up."""
        try:
            return await asyncio.wait_for(self.reader.read(-1), PATIENCE)
        except ConnectionError:
            return b""

    async def greet(self, sender: str = "<>") -> str:
        """Banner, EHLO, MAIL; returns the reply to MAIL."""
        await self.reply()
        await self.ask("EHLO client.test")
        return await self.ask(f"MAIL FROM:{sender}")

    async def start_tls(self) -> None:
        context = ssl.create_default_context()
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        await self.writer.start_tls(context)
