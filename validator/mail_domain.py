"""One domain while addresses of it are being asked: where its mail goes, and whether it takes just any address.

A random address is asked once a domain and day, and only after a real one was accepted: never the other way round,
because it costs verdicts at hosts that count unknown recipients. Addresses that were accepted wait here for what the
random one is told; who comes later finds it known.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from typing import Final

from shared.address import Address
from validator.batch import Batch
from validator.dns.route import MailHost as Host
from validator.evidence import Attempt, CatchAll, Outcome, Phase, Route
from validator.smtp.classify import ReplyClass
from validator.smtp.mail_host import MailHost
from validator.smtp.recipient import Recipient

KNOWN_FOR: Final = 86_400.0  # seconds
_BEFORE_RCPT: Final = (Phase.CONNECT, Phase.BANNER, Phase.EHLO, Phase.MAIL)
_NEXT_HOST: Final = (
    Outcome.UNREACHABLE,
    Outcome.TIMEOUT,
    Outcome.HUNG_UP,
    Outcome.PROTOCOL_ERROR,
    Outcome.CIRCUIT_OPEN,
)
_ABOUT_US: Final = (ReplyClass.SENDER_BLOCKED, ReplyClass.RATE_LIMITED)


class MailDomain:
    """Shared by all batches. As an asker it owns the random recipient."""

    closed = False

    def __init__(self, name: str, remember: Callable[[str, CatchAll], None]) -> None:
        self.name = name
        self.known: CatchAll | None = None  # None: to be asked
        self.known_until = 0.0
        self.curious = False
        self.traced = False
        self._remember = remember
        self._asking = False
        self._waiting: list[tuple[Group, Recipient]] = []

    @property
    def busy(self) -> bool:
        return self._asking or bool(self._waiting)

    def learn(self, found: CatchAll, now: float) -> None:
        self.known = found
        self.known_until = now + KNOWN_FOR

    def wants_random(self) -> bool:
        return self.known is None and not self._asking

    def random_recipient(self) -> Recipient:
        """The same one all day, in every process: a greylist must meet it twice."""
        self._asking = True
        day = int(time.time() // KNOWN_FOR)
        digest = hashlib.blake2b(f"{self.name} {day}".encode(), digest_size=8).hexdigest()
        return Recipient(f"n{digest}@{self.name}", self, 0, random=True)

    def wait(self, group: Group, recipient: Recipient) -> None:
        self._waiting.append((group, recipient))

    def accepted(self) -> Recipient | None:
        return None

    def answered(self, recipient: Recipient, attempt: Attempt) -> None:
        """The random address got its answer: everybody who waits is judged with it."""
        found = _read_random(attempt)
        self._asking = False
        if found in (CatchAll.YES, CatchAll.NO):
            self.learn(found, time.monotonic())
            self._remember(self.name, found)
        waiting, self._waiting = self._waiting, []
        for group, accepted in waiting:
            accepted.trace += recipient.trace
            group.settle(accepted, found)


def _read_random(attempt: Attempt) -> CatchAll:
    if attempt.outcome is not Outcome.REPLIED or attempt.phase is not Phase.RCPT or attempt.code is None:
        return CatchAll.INCONCLUSIVE
    if attempt.code in (250, 251):
        return CatchAll.YES
    if attempt.code >= 500 and attempt.kind not in _ABOUT_US:
        return CatchAll.NO
    return CatchAll.INCONCLUSIVE


class Group:
    """The addresses of one domain in one batch: the asker of their recipients, and who takes them to the next host."""

    def __init__(
        self,
        batch: Batch,
        domain: MailDomain,
        route: Route,
        hosts: tuple[Host, ...],
        find_host: Callable[[Host], MailHost],
    ) -> None:
        self._batch = batch
        self._domain = domain
        self._route = route
        self._hosts = hosts
        self._find_host = find_host
        self._members: dict[int, Address] = {}  # not settled yet, by position
        self._recipients: list[Recipient] = []
        self.traced = batch.trace

    def ask(self, members: list[tuple[int, Address]]) -> None:
        self._members = dict(members)
        self._recipients = [Recipient(found.normalized, self, index, found.smtputf8) for index, found in members]
        self._find_host(self._hosts[0]).ask(self._recipients)

    @property
    def closed(self) -> bool:
        return self._batch.closed

    @property
    def curious(self) -> bool:
        return self._domain.wants_random()

    def accepted(self) -> Recipient | None:
        if self.traced:
            self._domain.traced = True
        return self._domain.random_recipient() if self._domain.wants_random() else None

    def answered(self, recipient: Recipient, attempt: Attempt) -> None:
        if self._batch.closed:
            return
        recipient.past += (attempt,)
        if _next_host_may_differ(attempt) and recipient.hops + 1 < len(self._hosts):
            recipient.hops += 1
            recipient.drops = 0
            self._find_host(self._hosts[recipient.hops]).ask([recipient])
        elif attempt.kind is not ReplyClass.ACCEPTED:
            self.settle(recipient, CatchAll.NOT_ASKED)
        elif self._domain.known is not None:
            self.settle(recipient, self._domain.known)
        elif self._domain.busy:
            self._domain.wait(self, recipient)
        else:
            self.settle(recipient, CatchAll.NOT_ASKED)

    def settle(self, recipient: Recipient, catch_all: CatchAll) -> None:
        address = self._members.pop(recipient.index, None)
        if address is None or self._batch.closed:
            return
        self._batch.settle(
            recipient.index,
            address,
            route=self._route,
            attempts=recipient.past,
            catch_all=catch_all,
            trace=recipient.trace,
        )

    def give_up(self) -> None:
        """The batch's time is over: what has no answer gets none."""
        recipients, self._recipients = self._recipients, []
        for recipient in recipients:
            if recipient.index not in self._members:
                continue
            late = Attempt(host=self._hosts[recipient.hops].name, outcome=Outcome.OUT_OF_TIME, phase=Phase.CONNECT)
            if not recipient.past or recipient.past[-1].kind is not ReplyClass.ACCEPTED:
                recipient.past += (late,)
            self.settle(recipient, CatchAll.NOT_ASKED)


def _next_host_may_differ(attempt: Attempt) -> bool:
    """The next host of a route is for when one does not serve; never for dodging a refusal of us."""
    if attempt.phase not in _BEFORE_RCPT:
        return False
    if attempt.outcome is Outcome.REPLIED:
        return attempt.kind not in _ABOUT_US
    return attempt.outcome in _NEXT_HOST
