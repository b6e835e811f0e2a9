"""One domain while addresses of it are being asked: where its mail goes, and whether it takes just any address.

A random address is asked once a domain and day, and only after a real one was accepted or greylisted (then both wait
out the greylist together): never the other way round, because it costs verdicts at hosts that count unknown recipients.
Addresses that were accepted wait here for what the random one is told; who comes later finds it known.

Some hosts dodge the random address: they hang up on it, or put it off for ever. Then the second best is what they said
of others: a host that calls a listed address of the domain missing, and accepts its neighbours, does tell mailboxes
apart (`NOT_ALL`). What was refused at the first look is remembered for the last one, which is the one that needs it.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from array import array
from collections import deque
from collections.abc import Callable, Coroutine
from typing import Any, Final, Protocol

from shared.address import Address
from validator.batch import Batch
from validator.dns.route import MailHost as Host
from validator.evidence import Attempt, CatchAll, Outcome, Phase, Route
from validator.providers import Provider
from validator.smtp.classify import ReplyClass
from validator.smtp.conversation import ACCEPTED
from validator.smtp.crowd import Crowd
from validator.smtp.mail_host import MailHost
from validator.smtp.recipient import Recipient

KNOWN_FOR: Final = 86_400.0  # seconds
UNCLEAR_FOR: Final = 30.0  # seconds, while batches are at it: the next look asks again
INTRODUCED_FOR: Final = 3_600.0  # seconds; greylists remember a first attempt for hours or days
SEEN_FOR: Final = 7_200.0  # seconds that a refusal is remembered: longer than all looks at a batch take
GREYLISTS_WAIT: Final = 900.0  # seconds; a random address that is put off for longer is not waiting in a greylist
PATIENCE: Final = 20.0  # seconds for the answer that another validator is getting; then the address is put off
_BEFORE_RCPT: Final = (Phase.CONNECT, Phase.BANNER, Phase.EHLO, Phase.MAIL)
_NEXT_HOST: Final = (
    Outcome.UNREACHABLE,
    Outcome.TIMEOUT,
    Outcome.HUNG_UP,
    Outcome.PROTOCOL_ERROR,
    Outcome.CIRCUIT_OPEN,
)
_ABOUT_US: Final = (ReplyClass.SENDER_BLOCKED, ReplyClass.RATE_LIMITED)
_NOBODY_THERE: Final = (ReplyClass.MAILBOX_MISSING, ReplyClass.MAILBOX_DISABLED, ReplyClass.RELAY_DENIED)


class CatchAllMemory(Protocol):
    """validator.egress.catch_all.CatchAllMemory: what random addresses were told, for a day, by all validators."""

    async def recall(self, domain: str) -> CatchAll | None: ...

    async def claim(self, domain: str) -> bool: ...

    async def remember(self, domain: str, found: CatchAll) -> None: ...

    async def release(self, domain: str) -> None: ...

    async def wait(self, domain: str, seconds: float) -> CatchAll | None: ...


class MailDomain:
    """Shared by all batches. As an asker it owns the random recipient."""

    closed = False
    curious = False

    def __init__(self, name: str, memory: CatchAllMemory, spawn: Callable[[Coroutine[Any, Any, None]], None]) -> None:
        """`spawn` runs a side task of the probe."""
        self.name = name
        self.groups = 0  # batches that have addresses here
        self.traced = False
        self.known: CatchAll | None = None  # None: to be asked
        self.random_after: float | None = None  # seconds the host asked for, where the random address was put off
        self._known_until = 0.0
        self._introduced_until = 0.0
        self._random_since: float | None = None  # when the random address was first asked
        self._dodged_by = ""  # host that gave it no clear answer, in a way that tells it from others
        self._refused_by = ""  # host that called a listed address missing
        self._refused_until = 0.0
        self._memory = memory
        self._spawn = spawn
        self._preparing = asyncio.Lock()
        self._ours = False  # the fleet lets us ask
        self._asking = False  # the random recipient is on its way, or another validator's is
        self._waiting: deque[tuple[Group, Recipient]] = deque()

    @property
    def busy(self) -> bool:
        return self._asking or self.groups > 0 or bool(self._waiting)

    @property
    def undecided(self) -> bool:
        """What was seen here may be needed at the next look."""
        return bool(self._dodged_by and self._refused_by) and time.monotonic() < self._refused_until

    async def prepare(self, provider: Provider | None) -> None:
        """Find out what is known, and whether asking would be up to us."""
        async with self._preparing:
            if self.known is not None and time.monotonic() < self._known_until:
                return
            if provider is not None and (provider.skip_catch_all or provider.accepts_all):
                self._learn(CatchAll.SKIPPED)
            else:
                self.known = await self._memory.recall(self.name)
                if self.known is not None:
                    self._learn(self.known)
                elif not self._ours:
                    self._ours = await self._memory.claim(self.name)

    def leave(self) -> None:
        """A batch has no address here any more. What was claimed and not used is given up."""
        self.groups -= 1
        self._forget_unclear()
        if self.groups == 0:
            self._waiting.clear()  # they are settled at the deadline
        if self.groups == 0 and self._ours and not self._asking:
            self._ours = False
            self._spawn(self._memory.release(self.name))

    def _forget_unclear(self) -> None:
        """The next look asks again."""
        if self.groups == 0 and self.known is CatchAll.INCONCLUSIVE:
            self.known = None

    def wants_random(self) -> bool:
        return self.known is None and self._ours and not self._asking

    def may_introduce(self) -> bool:
        """Whether the random address may be shown to a greylist: once, its wait is counted from then."""
        if time.monotonic() < self._introduced_until:
            return False
        self._introduced_until = time.monotonic() + INTRODUCED_FOR
        return True

    def random_recipient(self) -> Recipient:
        """The same one all day, in every process: a greylist must meet it twice."""
        day = int(time.time() // KNOWN_FOR)
        digest = hashlib.blake2b(f"{self.name} {day}".encode(), digest_size=8).hexdigest()
        self._asking = True
        if self._random_since is None or time.monotonic() - self._random_since > KNOWN_FOR:
            self._random_since = time.monotonic()
        return Recipient(f"n{digest}@{self.name}", self, 0, random=True)

    def wait(self, group: Group, recipient: Recipient) -> None:
        """`recipient` was accepted, and is settled when it is known what that means."""
        self._waiting.append((group, recipient))
        if not self._asking:
            self._asking = True
            self._spawn(self._hear_from_others())

    def refused(self, attempt: Attempt) -> None:
        """A listed address was said to be missing."""
        if attempt.phase is Phase.RCPT and attempt.code is not None and attempt.code >= 500:
            self._refused_by = attempt.host
            self._refused_until = time.monotonic() + SEEN_FOR

    def second_best(self, accepted_by: str) -> CatchAll:
        """What an acceptance means where the random address got no clear answer."""
        shown = self._dodged_by == self._refused_by == accepted_by and time.monotonic() < self._refused_until
        return CatchAll.NOT_ALL if shown else CatchAll.INCONCLUSIVE

    def companion(self, *, greylisted: bool) -> Recipient | None:  # noqa: ARG002 - an Asker
        return None

    def answered(self, recipient: Recipient, attempt: Attempt) -> None:
        """The random address got its answer: everybody who waits is judged with it."""
        self._asking = self._ours = False
        found = _read_random(attempt)
        if found is CatchAll.INCONCLUSIVE and self.known is not None:
            found = self.known  # a fault of ours came between the answer and those who wait
        self._dodged_by = attempt.host if self._is_dodged(attempt) else ""
        self.random_after = attempt.after
        self._spawn(self._memory.remember(self.name, found))
        self._tell(found, recipient.trace)

    def _is_dodged(self, attempt: Attempt) -> bool:
        """Whether no clear answer was one all the same: what was said, or done, about this address and no other."""
        if attempt.phase is not Phase.RCPT:
            return False
        if attempt.outcome in (Outcome.HUNG_UP, Outcome.TIMEOUT):
            return True
        if attempt.outcome is not Outcome.REPLIED or attempt.kind in _ABOUT_US or not 400 <= (attempt.code or 0) < 500:
            return False
        waited = time.monotonic() - (self._random_since or time.monotonic())
        return attempt.kind is not ReplyClass.GREYLISTED or waited >= GREYLISTS_WAIT

    async def _hear_from_others(self) -> None:
        found: CatchAll | None = None
        asks = False
        try:
            found = await self._memory.wait(self.name, PATIENCE)
            asks = found is None and bool(self._waiting) and await self._memory.claim(self.name)
        finally:  # whatever goes wrong there, nobody waits for ever
            if not asks:
                self._tell(found or CatchAll.INCONCLUSIVE, ())
        if asks:  # whoever was at it is gone
            self._ours = True
            group, accepted = self._waiting[0]
            group.ask_random(accepted)

    def _tell(self, found: CatchAll, trace: tuple[dict[str, Any], ...]) -> None:
        self._asking = False
        self._learn(found)
        while self._waiting:
            group, accepted = self._waiting.popleft()
            accepted.trace += trace
            try:
                group.settle_accepted(accepted, found)
            except BaseException:
                self._waiting.append((group, accepted))  # the random address is asked again, and the others come first
                raise
        self._forget_unclear()  # where everybody was put off, nobody waited for it

    def _learn(self, found: CatchAll) -> None:
        self.known = found
        self._known_until = time.monotonic() + (UNCLEAR_FOR if found is CatchAll.INCONCLUSIVE else KNOWN_FOR)


def _read_random(attempt: Attempt) -> CatchAll:
    if attempt.outcome is not Outcome.REPLIED or attempt.phase is not Phase.RCPT or attempt.code is None:
        return CatchAll.INCONCLUSIVE
    if attempt.code in ACCEPTED:
        return CatchAll.YES
    if attempt.code >= 500 and attempt.kind in _NOBODY_THERE:
        return CatchAll.NO  # "bad sequence" or "come back later" would prove nothing about the others
    return CatchAll.INCONCLUSIVE


class Group:
    """The addresses of one domain in one batch: the asker of their recipients, and who takes them to the next host.

    Until `ask` nothing is known of the domain; whatever is not settled when the batch ends is settled by `give_up`.
    """

    def __init__(self, batch: Batch, name: str) -> None:
        self.name = name
        self.traced = batch.trace
        self._batch = batch
        self._indexes = array("I")  # of its addresses in the batch
        self._unusual: dict[int, str] = {}  # by index: the normal form of what was given in another one
        self._under_way: dict[int, Recipient] = {}  # by index; the others wait for their turn, or are settled
        self._domain: MailDomain | None = None  # None: nobody is asked
        self._route: Route | None = None
        self._hosts: tuple[Host, ...] = ()
        self._find_host: Callable[[Host], MailHost]
        self._before: dict[Host, tuple[int, int]] = {}  # how far each host had come when we first turned to it

    def add(self, index: int, address: Address) -> None:
        """The address at `index` of the batch's."""
        self._indexes.append(index)
        if (normalized := address.normalized) is not address.given:
            self._unusual[index] = normalized

    def _recipient(self, place: int) -> Recipient:
        index = self._indexes[place]
        address = self._unusual.get(index) or self._batch.verdicts.emails[index]
        recipient = self._under_way[index] = Recipient(address, self, index, smtputf8=not address.isascii())
        return recipient

    def ask(
        self, domain: MailDomain, route: Route, hosts: tuple[Host, ...], find_host: Callable[[Host], MailHost]
    ) -> None:
        """All of them, of the first host."""
        domain.groups += 1
        self._domain, self._route, self._hosts, self._find_host = domain, route, hosts, find_host
        self._ask(0, Crowd(self, len(self._indexes), self._recipient))

    def ask_nobody(self, route: Route) -> None:
        """What the DNS said is enough."""
        self._route = route
        for place in range(len(self._indexes)):
            self.settle(self._recipient(place), CatchAll.NOT_ASKED)

    def _ask(self, hop: int, crowd: Crowd) -> None:
        host = self._find_host(self._hosts[hop])
        self._before.setdefault(self._hosts[hop], host.progress)
        host.ask(crowd, self._batch.line, urgent=self._batch.urgent)

    @property
    def _at(self) -> MailDomain:
        if self._domain is None:
            raise AssertionError("nobody was asked")
        return self._domain

    @property
    def closed(self) -> bool:
        return self._batch.closed

    @property
    def curious(self) -> bool:
        return self._domain is not None and self._domain.wants_random()

    def companion(self, *, greylisted: bool) -> Recipient | None:
        domain = self._at
        if self.traced:
            domain.traced = True
        if greylisted and not domain.may_introduce():
            return None
        return domain.random_recipient() if domain.wants_random() else None

    def answered(self, recipient: Recipient, attempt: Attempt) -> None:
        if self._batch.closed:
            return
        domain = self._at
        recipient.past += (attempt,)
        if _next_host_may_differ(attempt) and recipient.hops + 1 < len(self._hosts):
            recipient.hops += 1
            recipient.drops = 0
            self._ask(recipient.hops, Crowd.of(recipient))
        elif attempt.code not in ACCEPTED or attempt.phase is not Phase.RCPT:
            if attempt.kind is ReplyClass.MAILBOX_MISSING:
                domain.refused(attempt)
            self.settle(recipient, CatchAll.NOT_ASKED)
        elif (known := domain.known) is not None:
            self.settle_accepted(recipient, known)
        else:
            if domain.wants_random():  # only where a fault of ours lost the session's own
                self.ask_random(recipient)
            domain.wait(self, recipient)

    def ask_random(self, accepted: Recipient) -> None:
        """The random address, of the host that accepted this one."""
        self._ask(accepted.hops, Crowd.of(self._at.random_recipient()))

    def settle_accepted(self, recipient: Recipient, catch_all: CatchAll) -> None:
        if catch_all is CatchAll.INCONCLUSIVE:
            catch_all = self._at.second_best(recipient.past[-1].host)
        self.settle(recipient, catch_all)

    def settle(self, recipient: Recipient, catch_all: CatchAll) -> None:
        if recipient.index not in self._under_way or self._batch.closed:
            return
        random_after = self._domain.random_after if self._domain is not None else None
        self._batch.settle(recipient, self.name, self._route, catch_all, random_after)
        del self._under_way[recipient.index]  # only now: a fault before leaves it to be settled at the deadline

    def give_up(self) -> None:
        """The batch's time is over: what has no answer gets none."""
        if self._domain is not None:
            self._domain.leave()
        for place, index in enumerate(self._indexes):
            if self._batch.is_settled(index):
                continue
            recipient = self._under_way.get(index) or self._recipient(place)
            if self._hosts and (not recipient.past or recipient.past[-1].kind is not ReplyClass.ACCEPTED):
                recipient.past += (self._late(self._hosts[recipient.hops]),)
            self.settle(recipient, CatchAll.NOT_ASKED)
        self._under_way.clear()

    def _late(self, host: Host) -> Attempt:
        """A host that only had no time for it, or that our limits kept us from, leaves the address none the worse."""
        sessions, answered = self._find_host(host).progress
        sessions_before, answered_before = self._before.get(host, (-1, answered))
        had_no_turn = answered > answered_before or sessions == sessions_before
        outcome = Outcome.NO_TURN if had_no_turn else Outcome.OUT_OF_TIME
        return Attempt(host=host.name, outcome=outcome, phase=Phase.CONNECT)


def _next_host_may_differ(attempt: Attempt) -> bool:
    """The next host of a route is for when one does not serve; never for dodging a refusal of us."""
    if attempt.phase not in _BEFORE_RCPT:
        return False
    if attempt.kind in _ABOUT_US:
        return False
    return attempt.outcome is Outcome.REPLIED or attempt.outcome in _NEXT_HOST
