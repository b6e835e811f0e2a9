"""A session whose peer is the test: no socket, what is written is kept, what is read is fed."""

from __future__ import annotations

import asyncio

from validator.smtp.session import Session, Timeouts


class PeerTransport(asyncio.Transport):
    """Keeps what the session writes; the test speaks through `say`."""

    def __init__(self, session: Session) -> None:
        super().__init__()
        self.session = session
        self.written = bytearray()
        self.gone = False
        self.aborted = False
        self.arrived = asyncio.Event()

    def say(self, *lines: str) -> None:
        for line in lines:
            self.session.data_received(line.encode() + b"\r\n")

    async def heard(self, end: bytes) -> bytes:
        """Wait until what was written ends so; take it."""
        async with asyncio.timeout(5):
            while not self.written.endswith(end):
                self.arrived.clear()
                await self.arrived.wait()
        heard = bytes(self.written)
        self.written.clear()
        return heard

    def hang_up(self) -> None:
        self.gone = True
        self.session.eof_received()
        self.session.connection_lost(None)

    # --- what the session calls ---

    def write(self, data: bytes) -> None:
        self.written += data
        self.arrived.set()

    def is_closing(self) -> bool:
        return self.gone

    def close(self) -> None:
        if not self.gone:
            self.gone = True
            asyncio.get_running_loop().call_soon(self.session.connection_lost, None)

    def abort(self) -> None:
        self.aborted = True
        self.close()

    def get_extra_info(self, name: str, default: object = None) -> object:
        return default


def connected(timeouts: Timeouts | None = None) -> tuple[Session, PeerTransport]:
    session = Session(asyncio.get_running_loop(), timeouts or Timeouts())
    peer = PeerTransport(session)
    session.connection_made(peer)
    return session, peer
