"""All our dealings with one mail host: recipients that wait, and a few sessions that work them off.

Every batch that has addresses for the host puts them into the one queue (`Waiting` says who comes when), so that a
session serves many batches. A session runs under a slot (its connection is counted until the host said 221 or closed),
asks as much as the host's Pace allows, and gives back what it could not ask; the next session goes on from there.

What ends in a session: a break costs nobody but the recipient that causes it (after a break without an answer flights
shrink until it stands alone); refusals of us, refused connections and too many breaks in a row stop the asking: all
that wait get that Attempt, and so do those that come within REST seconds. Recipients whose asker is closed are
dropped unasked.

A fault of ours costs the session it happens in, and no recipient: what was answered before is handed over, the rest is
asked again, the flight that it happened in one by one and last. Whoever meets a second fault gets that as its answer,
and so do all that wait after MOST_FAULTS sessions in a row.
"""

from __future__ import annotations

import asyncio
from collections.abc import Hashable
from datetime import UTC, datetime
from typing import Any, Final

from prometheus_client import Counter

from shared.logs import get_log
from validator.egress.breaker import Lease, Trouble
from validator.egress.limits import NoSlot
from validator.evidence import Attempt, Outcome, Phase
from validator.smtp.approach import Approach, Terms
from validator.smtp.classify import ReplyClass
from validator.smtp.conversation import Conversation
from validator.smtp.crowd import Crowd
from validator.smtp.pace import MOST_REJECTS, REJECTS, Pace
from validator.smtp.recipient import Recipient, hand_over
from validator.smtp.session import SERVICE_CLOSING, Timeouts
from validator.smtp.waiting import Waiting

log = get_log("validator.smtp")

LINGER: Final = 0.15  # seconds a session waits for more, at hosts where more used to come
REST: Final = 1.0  # seconds in which newcomers get the answer of those before; longer memory is the breaker's
FAULT_PAUSE: Final = 1.0  # seconds before the next session after one that a fault of ours ended
MOST_FAULTS: Final = 5  # such sessions in a row
AWAY: Final = 2  # times that a host which served us a moment ago may send us away
AWAY_PAUSE: Final = 1.0  # seconds until the next session after that
MAX_DROPS: Final = 6  # sessions that may break with a recipient unanswered
FAULT_WEIGHT: Final = MAX_DROPS // 2 + 1  # breaks that a fault of ours counts for: the second one is too many

_TROUBLES: Final = {
    Outcome.UNREACHABLE: Trouble.UNREACHABLE,
    Outcome.TIMEOUT: Trouble.SILENT,
    Outcome.HUNG_UP: Trouble.DROPPED,
    Outcome.PROTOCOL_ERROR: Trouble.PROTOCOL,
    Outcome.TLS_FAILED: Trouble.TLS,
}

SESSIONS = Counter("mailvet_smtp_sessions_total", "SMTP sessions by how they ended", ["end"])
FLIGHTS = Counter("mailvet_smtp_flights_total", "Pipelined rounds of RCPT")
RECIPIENTS = Counter("mailvet_smtp_recipients_total", "Recipients answered by mail hosts")


class MailHost:
    """One mail host, by name. Lives as long as it has work; `idle` tells when it may be forgotten."""

    def __init__(
        self,
        name: str,
        addresses: tuple[str, ...],
        terms: Terms,
        *,
        slots: int,
        timeouts: Timeouts,
        recipients_per_session: int | None = None,
    ) -> None:
        self.name = name
        self._terms = terms
        self._slots = slots
        self._slots_now = slots
        self._pace = Pace(recipients_per_session)
        self._approach = Approach(name, addresses, terms, timeouts, self._pace)
        self._queue = Waiting()  # suspects in it: first without an answer when a session broke
        self._sessions: set[asyncio.Task[None]] = set()
        self._opening = 0  # sessions that have not got past EHLO yet
        self._open = 0  # sessions that did
        self._last_served = float("-inf")
        self._faults = 0  # sessions in a row that a fault of ours ended
        self._away = 0  # times in a row that we were told to come later, just after a session
        self._paused = False
        self._idle: list[asyncio.Future[None]] = []  # lingering sessions
        self._lingers = False
        self._idle_since = float("-inf")
        self._begun = 0  # sessions, ever
        self._answered = 0  # recipients, ever
        self._rest: tuple[float, Attempt] | None = None
        self._closing = False
        self._loop = asyncio.get_running_loop()

    @property
    def idle(self) -> bool:
        return not self._sessions and not self.waiting

    @property
    def progress(self) -> tuple[int, int]:
        """Sessions begun and recipients answered, ever."""
        return self._begun, self._answered

    @property
    def waiting(self) -> int:
        return len(self._queue)

    def ask(self, crowd: Crowd, line: Hashable = None, *, urgent: bool = False) -> None:
        """Take these on. Lines have their turns at flights; `urgent` ones come before all lines."""
        if self._rest is not None and self._loop.time() < self._rest[0]:
            self._loop.call_soon(self._answer_all, crowd.everybody(), self._rest[1])
            return
        if urgent:
            self._queue.put_first(crowd.everybody())
        else:
            self._queue.join(crowd, line)
        for idle in self._idle:
            if not idle.done():
                idle.set_result(None)
        self._spawn()

    def move_to(self, addresses: tuple[str, ...]) -> None:
        """The DNS names other addresses now."""
        self._approach.move_to(addresses)

    async def close(self) -> None:
        """Let running sessions finish their flight and say QUIT. What waits stays unasked."""
        self._closing = True
        self._queue.clear()
        for idle in self._idle:
            if not idle.done():
                idle.set_result(None)
        if self._sessions:
            await asyncio.wait(set(self._sessions))

    def abort(self) -> None:
        """Cancel what `close` did not end in time."""
        for task in self._sessions:
            task.cancel()

    # --- sessions ---

    def _spawn(self) -> None:
        while self.waiting and not self._closing and self._wants_another():
            if not self._sessions:
                self._lingers = self._loop.time() - self._idle_since < LINGER
            task = self._loop.create_task(self._run(), name=f"session-{self.name}")
            self._sessions.add(task)
            task.add_done_callback(self._ended)

    def _wants_another(self) -> bool:
        """A further connection is worth it when the running ones will not get to the end of the queue."""
        running = len(self._sessions)
        if self._paused or (running and self._away):
            return False
        return running == 0 or (running < self._slots_now and self._queue.ordinary > self._pace.reach * running)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._sessions.discard(task)
        if not self.waiting:
            self._idle_since = self._loop.time()
        if not task.cancelled() and (error := task.exception()) is not None:
            SESSIONS.labels("fault").inc()
            log.error("session_fault", error=type(error).__name__, exc_info=error)
            self._faults += 1
            if self._faults >= MOST_FAULTS:
                self._stop(self._fault)
            self._loop.call_later(FAULT_PAUSE, self._spawn)
            return
        self._faults = 0
        if not self._sessions:
            self._slots_now = self._slots
        self._spawn()

    async def _run(self) -> None:
        """The life of one slot: wait for it, one session, give it back."""
        try:
            async with self._terms.slot(self.name, self._approach.first):
                lease = await self._terms.breakers.admit(self.name)
                if lease is None:
                    self._shut_out()
                    return
                self._begun += 1
                async with lease:
                    attempt = await self._serve()
                    _report(lease, attempt)
        except NoSlot:
            self._queue.drop_closed()
            return
        SESSIONS.labels("good" if attempt is None else attempt.outcome.value).inc()

    def _shut_out(self) -> None:
        """The breaker is open. Half open it lets one session through: then the others wait for that one."""
        if len(self._sessions) > 1:
            self._slots_now = len(self._sessions) - 1
        else:
            why = ReplyClass.SENDER_BLOCKED if self._terms.breakers.blocked(self.name) else None
            self._stop(Attempt(host=self.name, outcome=Outcome.CIRCUIT_OPEN, phase=Phase.CONNECT, kind=why), rest=False)

    async def _serve(self) -> Attempt | None:
        """Open a session and talk. Returns what went wrong with the host, if anything."""
        self._opening += 1
        try:
            talk, attempt = await self._approach.open()
        finally:
            self._opening -= 1
        if talk is None:
            if attempt is not None:
                self._turned_away(attempt)
            return attempt
        self._open += 1
        self._away = 0
        try:
            await self._talk(talk)
            await talk.end()
            return self._settle(talk)
        except Exception:
            await self._break_off(talk)
            raise
        finally:
            self._open -= 1
            self._last_served = self._loop.time()
            talk.session.close()

    def _turned_away(self, attempt: Attempt) -> None:
        """No session came about. Where others of ours do, or did a moment ago, the host may just want fewer of us: some
        count a session for a moment longer than it lasts.
        """
        if self._open or (self._opening and attempt.kind is not ReplyClass.SENDER_BLOCKED):
            self._slots_now = max(1, len(self._sessions) - 1)
        elif (
            attempt.code == SERVICE_CLOSING
            and self._away < AWAY
            and self._loop.time() - self._last_served < AWAY * AWAY_PAUSE
        ):
            self._away += 1
            self._paused = True
            self._loop.call_later(AWAY_PAUSE, self._go_on)
        else:
            self._stop(attempt)

    def _go_on(self) -> None:
        self._paused = False
        self._spawn()

    async def _talk(self, talk: Conversation) -> None:
        """Flights until the queue, the pace or the session is at its end. Those to be asked again stay in its flight
        and among its companions.
        """
        while True:
            self._next_flight(talk)
            if not talk.flight:
                if not self.waiting and talk.room and await self._linger(talk):
                    continue
                return
            FLIGHTS.inc()
            last = self._is_last(talk)
            talk.flight = await talk.ask(talk.flight, last=last)
            if talk.tls_asked_for:
                self._approach.needs_tls = True  # from the next session on: in this one the host has counted our errors
            if talk.tls_asked_for or talk.trouble is not None or last or talk.refusal is not None or self._closing:
                return
            self._queue.put_first(talk.flight)
            talk.flight = []

    def _next_flight(self, talk: Conversation) -> None:
        """Recipients of the queue, and companions at their end, where the harm is least if the host takes offence.

        Companions are asked about in order to be refused, so they use up the session's refusals first.
        """
        room = min(talk.room, 2) if talk.wary else talk.room
        random = min(len(talk.companions), room, max(0, REJECTS - talk.refused))
        refused, spent = talk.refused - talk.random_refused, talk.random_refused + random
        size = min(room, self._pace.next_flight(talk.asked, refused, self.waiting, spent=spent))
        if not talk.pipelining:  # one by one it costs nothing to be exact
            size = min(size, MOST_REJECTS - refused - spent)
        batch = talk.flight = []
        self._queue.take(min(size, max(0, room - random)), batch)
        if not (batch and batch[0].smtputf8):
            batch += talk.companions[:random]
            del talk.companions[:random]

    def _is_last(self, talk: Conversation) -> bool:
        """Whether QUIT may ride in this flight: nothing can follow it in this session."""
        if any(asker.curious for asker in {recipient.asker for recipient in talk.flight}):
            return False
        if self._closing or talk.asked + len(talk.flight) >= self._pace.session:
            return True
        return not self.waiting and not talk.companions and not self._lingers

    async def _linger(self, talk: Conversation) -> bool:
        """Wait a moment for more work. False: none came."""
        if not self._lingers or self._closing:
            return False
        wake: asyncio.Future[None] = self._loop.create_future()
        self._idle.append(wake)
        try:
            await talk.session.pause(LINGER, wake)
        finally:
            self._idle.remove(wake)
        return bool(self.waiting)

    # --- what a session leaves behind ---

    def _settle(self, talk: Conversation) -> Attempt | None:
        """Deliver answers, put back what has none, and let the pace learn. Returns what went wrong."""
        trouble, desync, unproven = talk.trouble, talk.session.desync, False
        left = [*talk.flight, *talk.companions]
        RECIPIENTS.inc(talk.held)
        self._answered += talk.held
        if desync:
            self._pace.distrust()
            left = [*talk.void(), *left]
        else:
            self._ask_apart(talk.release())
        if trouble is None:
            self._pace.session_done(talk.asked, talk.refused - talk.random_refused)
        else:
            told, silent = trouble.outcome is Outcome.REPLIED, trouble.outcome is Outcome.TIMEOUT
            answered = 0 if desync else talk.asked
            if unproven := talk.lost_in_flight:
                self._pace.doubt()
            self._pace.broke(answered, talk.refused - talk.random_refused, len(left), told=told, silent=silent)
            left = self._isolate(left, trouble, first=answered == 0, anyone=desync or told)
        self._queue.put_first(left)
        stop = talk.refusal or (trouble if trouble is not None and not unproven and self._is_final(trouble) else None)
        if stop is not None:
            self._stop(stop)
        return stop or (trouble if talk.asked == 0 else None)

    async def _break_off(self, talk: Conversation) -> None:
        """A fault of ours ended the session: what was answered counts, the rest is asked again."""
        unanswered = [recipient for recipient in talk.flight if recipient.reply is None]
        in_order = False
        try:
            await talk.end()
            in_order = not talk.session.desync
        finally:
            self._queue.put_first([*([] if in_order else talk.void()), *talk.companions])
            self._ask_apart([*talk.release(), *unanswered])

    def _ask_apart(self, recipients: list[Recipient]) -> None:
        """A fault of ours met these: they are asked again alone; who met one before gets it as the answer."""
        given_up: list[Recipient] = []
        for recipient in recipients:
            recipient.drops += FAULT_WEIGHT
            if recipient.drops > MAX_DROPS:
                recipient.reply = self._fault
                given_up.append(recipient)
            else:
                self._queue.suspect((recipient,))
        hand_over(given_up, _tell_without)

    @property
    def _fault(self) -> Attempt:
        return Attempt(host=self.name, outcome=Outcome.FAULT, phase=Phase.RCPT)

    def _is_final(self, trouble: Attempt) -> bool:
        """Whether a broken session ends the asking: the host refuses us, or never answers anything."""
        if trouble.phase is not Phase.RCPT or trouble.kind is ReplyClass.SENDER_BLOCKED:
            return True
        return self._pace.hopeless

    def _isolate(self, left: list[Recipient], trouble: Attempt, *, first: bool, anyone: bool) -> list[Recipient]:
        """Count the break against those in flight. Who saw too many, or stood alone and was the `first` in its session,
        gets it as the answer; the first without a reply is suspect, unless `anyone` may have caused it.
        """
        alone = first and len(left) == 1
        again: list[Recipient] = []
        given_up: list[Recipient] = []
        for place, recipient in enumerate(left):
            recipient.drops += 1
            if recipient.drops > MAX_DROPS or (alone and recipient.drops > 1):
                given_up.append(recipient)
            elif place == 0 and not anyone:
                self._queue.suspect((recipient,))
            else:
                again.append(recipient)
        self._answer_all(given_up, trouble)
        return again

    def _stop(self, attempt: Attempt, *, rest: bool = True) -> None:
        """Everybody who waits gets this as the answer."""
        self._away = 0
        if rest:
            self._rest = (self._loop.time() + REST, attempt)
        self._answer_all(self._queue.clear(), attempt)

    def _answer_all(self, recipients: list[Recipient], attempt: Attempt) -> None:
        """An answer that is not a reply to these recipients' own RCPT."""
        for recipient in recipients:
            recipient.reply = attempt
        if failed := hand_over(recipients, _tell_without):
            self._ask_apart(failed)
            self._spawn()


def _report(lease: Lease, attempt: Attempt | None) -> None:
    """Tell the breaker how the session went. What is our own trouble or a wish for less haste says nothing."""
    if attempt is None:
        lease.succeeded()
    elif attempt.kind is ReplyClass.SENDER_BLOCKED:
        lease.failed(Trouble.BLOCKED)
    elif attempt.outcome is Outcome.REPLIED:
        if attempt.kind is ReplyClass.SERVER_ERROR:
            lease.failed(Trouble.DROPPED)
    elif attempt.address and attempt.outcome in _TROUBLES:
        lease.failed(_TROUBLES[attempt.outcome])


def _tell_without(_: Recipient, attempt: Attempt) -> tuple[dict[str, Any], ...]:
    """The trace of an answer that is not a reply to the recipient's own RCPT."""
    line = {
        "at": datetime.now(UTC).isoformat(timespec="milliseconds"),
        "host": attempt.host,
        "address": attempt.address,
        "phase": str(attempt.phase),
        "sent": "",
        "reply": f"{attempt.code} {attempt.text}" if attempt.code else f"({attempt.outcome})",
    }
    return (line,)
