"""Is port 25 reachable from this network? Said once, clearly, instead of a list of unknowns.

Many networks and clouds block outgoing connections to port 25. The check connects to a few large providers' MX hosts,
waits for the greeting and says QUIT; no host is asked more than once an hour. One greeting is proof that the port is
open; when none of them can be reached, it is blocked. Where the settings point at a lab (another port, allowed private
networks) or go through a proxy, nothing is asked.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any, Literal

import msgspec

from shared.settings import Settings

HOSTS = ("gmail-smtp-in.l.google.com", "mx1.mail.icloud.com", "in1-smtp.messagingengine.com")
PORT = 25
INTERVAL = 3_600.0  # seconds
PATIENCE = 10.0  # seconds for one host

State = Literal["ok", "blocked", "not_checked"]
Connector = Callable[[str, int, float], Awaitable[bool]]  # (host, port, timeout) -> whether it greeted

_SENTENCES: dict[State, str] = {
    "ok": "Port 25 is reachable from this network.",
    "blocked": (
        "Port 25 is blocked on this network: no mail host can be asked, and addresses will be reported as unknown. "
        "Run the validator where outgoing port 25 is open, or set MAILVET_PROBE_PROXY."
    ),
    "not_checked": "Whether port 25 is reachable was not checked.",
}


async def greets(host: str, port: int, timeout: float) -> bool:
    """Whether `host` greets as an SMTP server. It is left with QUIT."""
    writer: asyncio.StreamWriter | None = None
    try:
        async with asyncio.timeout(timeout):
            reader, writer = await asyncio.open_connection(host, port, limit=4096)
            greeting = await reader.readline()
            writer.write(b"QUIT\r\n")
            await writer.drain()
    except (OSError, ValueError):  # TimeoutError is an OSError; ValueError: an endless line, so no SMTP server
        return False
    finally:
        if writer is not None:
            writer.close()
    return greeting[:3].isdigit()


class Finding(msgspec.Struct, frozen=True):
    """`checked_at`: wall clock, seconds; None while not checked."""

    state: State
    checked_at: float | None = None

    @property
    def sentence(self) -> str:
        return _SENTENCES[self.state]


class Preflight:
    """`connector` opens the connections; `clock` is the wall clock in seconds."""

    def __init__(
        self, settings: Settings, connector: Connector = greets, clock: Callable[[], float] = time.time
    ) -> None:
        lab = settings.smtp_port != PORT or bool(settings.probe_allow_networks)
        self._wanted = not lab and settings.probe_proxy is None
        self._connector = connector
        self._clock = clock
        self._finding = Finding("not_checked")
        self._checking = asyncio.Lock()

    @property
    def finding(self) -> Finding:
        """The last one; no I/O."""
        return self._finding

    def describe(self) -> dict[str, Any]:
        """`{"state": "ok" | "blocked" | "not_checked", "sentence", "checkedAt"}`"""
        found = self._finding
        return {"state": found.state, "sentence": found.sentence, "checkedAt": found.checked_at}

    async def check(self) -> Finding:
        """Ask, unless that is not wanted or was done within the hour."""
        async with self._checking:
            now = self._clock()
            last = self._finding.checked_at
            if self._wanted and (last is None or now - last >= INTERVAL):
                greeted = await asyncio.gather(*(self._connector(host, PORT, PATIENCE) for host in HOSTS))
                self._finding = Finding("ok" if any(greeted) else "blocked", now)
        return self._finding

    async def run(self) -> None:
        """Check now and every hour, until cancelled. Returns at once where it is not wanted."""
        while self._wanted:
            await self.check()
            await asyncio.sleep(INTERVAL)
