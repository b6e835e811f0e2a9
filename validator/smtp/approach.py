"""The way to one mail host: which of its addresses are tried, in which order, and with TLS or without."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass

from validator.egress.breaker import Breakers
from validator.egress.identity import ConnectError, Identity
from validator.evidence import Attempt, Outcome, Phase
from validator.smtp.conversation import Conversation
from validator.smtp.pace import Pace
from validator.smtp.session import SERVICE_CLOSING, Session, Timeouts


@dataclass(frozen=True, kw_only=True)
class Terms:
    """How we present ourselves and what holds us back, for all hosts alike."""

    identity: Identity
    port: int
    slot: Callable[[str, str], AbstractAsyncContextManager[object]]  # by host name and address; raises NoSlot
    breakers: Breakers
    tls: Callable[[], ssl.SSLContext]  # one shared context: making one costs 19 ms


class Approach:
    """`open` leads to a conversation; the address that last served comes first the next time."""

    def __init__(self, name: str, addresses: tuple[str, ...], terms: Terms, timeouts: Timeouts, pace: Pace) -> None:
        self.needs_tls = False  # the host takes no recipient in the clear
        self._name = name
        self._known_addresses = addresses
        self._addresses = list(addresses)
        self._terms = terms
        self._timeouts = timeouts
        self._pace = pace

    @property
    def first(self) -> str:
        """The address that is tried first."""
        return self._addresses[0]

    async def open(self) -> tuple[Conversation | None, Attempt | None]:
        """A conversation past EHLO, trying the addresses in turn; or the last thing that went wrong."""
        attempt: Attempt | None = None
        for address in list(self._addresses):
            try:
                session = await self._connect(address)
            except ConnectError as error:
                attempt = Attempt(
                    host=self._name,
                    address=address if error.theirs else "",  # our own trouble is not held against the host
                    outcome=Outcome.UNREACHABLE,
                    phase=Phase.CONNECT,
                )
                continue
            talk = Conversation(
                session,
                host=self._name,
                address=address,
                helo=self._terms.identity.helo,
                mail_from=self._terms.identity.mail_from,
                pace=self._pace,
            )
            try:
                attempt = await talk.open(self._terms.tls() if self.needs_tls else None)
            except BaseException:
                session.close()
                raise
            if attempt is None:
                self._prefer(address)
                return talk, None
            await talk.end()
            if attempt.outcome is Outcome.REPLIED and attempt.code != SERVICE_CLOSING:
                break  # a refusal of us is not dodged by taking another address
        return None, attempt

    async def _connect(self, address: str) -> Session:
        loop = asyncio.get_running_loop()
        _, session = await self._terms.identity.connect(
            address,
            self._terms.port,
            self._timeouts.connect,
            lambda: Session(loop, self._timeouts),
            mail_domain=self._name,
        )
        return session

    def move_to(self, addresses: tuple[str, ...]) -> None:
        """The DNS names other addresses now; the one that last served stays the first choice."""
        if addresses != self._known_addresses:
            self._known_addresses = addresses
            first = self._addresses[0]
            self._addresses = sorted(addresses, key=lambda address: address != first)

    def _prefer(self, address: str) -> None:
        if self._addresses[0] != address:
            self._addresses.remove(address)
            self._addresses.insert(0, address)
