"""What is said in one session with one mail host: greeting, transactions, flights of recipients, goodbye.

Answers are held back until the session ends in order: a reply too many somewhere moves every later reply to the wrong
command, and shows at the latest when the reply to QUIT is not 221. Then (`desync`) all held answers are void. A
session that merely breaks (hang-up, deadline, malformed reply) keeps those that came before the break, for they came
in order.
"""

from __future__ import annotations

import re
import ssl
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from functools import lru_cache
from operator import itemgetter
from typing import Any, Final

import msgspec

from shared.verdict import ADDRESS, named
from validator.evidence import Attempt, Outcome, Phase
from validator.smtp.classify import ReplyClass, classify_cached
from validator.smtp.pace import Pace
from validator.smtp.recipient import Recipient, hand_over
from validator.smtp.reply import Reply
from validator.smtp.retry_hint import retry_hint
from validator.smtp.session import SERVICE_CLOSING, Session

ACCEPTED: Final = (250, 251)  # RFC 5321 section 4.2.3; 252 says "cannot verify"
_CLOSING: Final = (SERVICE_CLOSING, 221)  # at RCPT: the session is over, whoever is being asked about
_NEEDS_TLS: Final = 530  # RFC 3207 section 4
_BAD_SEQUENCE: Final = 503  # RFC 5321 section 4.2.2
_TOO_MANY = re.compile(r"\b[45]\.5\.3\b|too many (?:\w+ ){0,2}recipients", re.IGNORECASE)  # RFC 5321 section 4.5.3.1.10
_NAMED = re.compile(r"<([^<>\s]+@[^<>\s]+)>")
_LAST_CALL: Final = 30.0  # seconds before the session's hard end in which no new flight is begun
_PATIENCE_WITH = {  # this many replies of the class in a row, and the host is left alone
    ReplyClass.SENDER_BLOCKED: 3,  # one may be a recipient's own filter
    ReplyClass.RATE_LIMITED: 3,
    ReplyClass.SERVER_ERROR: 9,
}
_NO_RUN: Final[tuple[ReplyClass, int]] = (ReplyClass.ACCEPTED, 0)


class Conversation:
    """One session. `open`, then `ask` as often as useful, then `end`."""

    def __init__(self, session: Session, *, host: str, address: str, helo: str, mail_from: str, pace: Pace) -> None:
        self._session = session
        self._host = host
        self._address = address
        self._helo = helo
        self._mail_from = f"<{mail_from}>"
        self._pace = pace
        self.asked = 0  # recipients answered in this session
        self.refused = 0
        self.random_refused = 0  # of those, random addresses: they say nothing about the quality of a list
        self.companions: list[Recipient] = []  # named by askers, to be asked next
        self.flight: list[Recipient] = []  # about to be asked, being asked, or left over from that
        self.trouble: Attempt | None = None  # why the session is of no more use; the host may be
        self.refusal: Attempt | None = None  # the host refuses us: it must not be asked on
        self.tls_asked_for = False
        self.over = False  # QUIT was said
        self.flew = False  # commands went out together
        self._held: list[Recipient] = []  # each with its `reply`
        self._attempts: dict[Reply, Attempt] = {}  # hosts repeat themselves
        self._heard_at: dict[str, float] = {}  # wall clock, of traced recipients by address
        self._story: list[tuple[float, str, str, str]] = []
        self._in_transaction: int | None = None  # recipients accepted in it; None: none is open
        self._utf8_transaction = False
        self._run = _NO_RUN  # replies of one class in a row, about us

    @property
    def session(self) -> Session:
        return self._session

    @property
    def held(self) -> int:
        return len(self._held)

    @property
    def wary(self) -> bool:
        """The last replies were about us: ask little at once until it is clear."""
        return self._run[0] in (ReplyClass.SENDER_BLOCKED, ReplyClass.RATE_LIMITED)

    @property
    def lost_in_flight(self) -> bool:
        """Broken before any answer about a recipient, after commands that went out together."""
        if self.trouble is None or self.asked or not self.flew:
            return False
        if self.trouble.outcome is Outcome.TIMEOUT:
            return self.trouble.phase is Phase.RCPT
        return self.trouble.outcome is Outcome.HUNG_UP

    @property
    def room(self) -> int:
        """Recipients that may be asked in the next flight, as far as time and the transaction go."""
        if self._session.left < _LAST_CALL or not self._session.alive:
            return 0
        left = self._pace.transaction - (self._in_transaction or 0)
        return left if left > 0 else self._pace.transaction  # none left: the flight begins with RSET

    async def open(self, context: ssl.SSLContext | None) -> Attempt | None:
        """Banner, EHLO and, with a `context`, STARTTLS. Returns what went wrong, if anything."""
        banner = await self._session.banner()
        self._note(Phase.BANNER, "", banner)
        if banner is None or banner.code != 220:
            return self._failed(Phase.BANNER, banner)
        if (trouble := await self._hello()) is not None or context is None:
            return trouble
        return await self.secure(context)

    async def secure(self, context: ssl.SSLContext) -> Attempt | None:
        """STARTTLS and EHLO again. From here on the session is either encrypted or of no use."""
        self.tls_asked_for = False
        if "starttls" not in self._session.extensions:
            return self._failed(Phase.STARTTLS, None, Outcome.TLS_FAILED)
        if not await self._session.secure_with(context, self._host):
            return self._failed(Phase.STARTTLS, None, Outcome.TLS_FAILED)
        self._note(Phase.STARTTLS, "STARTTLS", None)
        self._in_transaction = None
        return await self._hello()

    async def ask(self, recipients: Sequence[Recipient], *, last: bool) -> list[Recipient]:
        """One flight, with QUIT at its end if `last`. Returns those that must be asked again, in order."""
        if recipients[0].smtputf8 and "smtputf8" not in self._session.extensions:
            self._hold_all(recipients, Attempt(**self._place, outcome=Outcome.NO_SMTPUTF8, phase=Phase.MAIL))
            return []
        prelude = self._prelude(utf8=recipients[0].smtputf8)
        lines = [*prelude, *[f"RCPT TO:<{recipient.address}>" for recipient in recipients]]
        started = time.monotonic()
        replies = await (self._fly(lines, quit_too=last) if self.pipelining else self._step(lines))
        for line, reply in zip(prelude, replies, strict=False):
            self._note(Phase.MAIL, line, reply)
        if any(asker.traced for asker in {recipient.asker for recipient in recipients}):
            self._heard_at.update({recipient.address: time.time() for recipient in recipients})
        if len(replies) > len(lines):
            await self._farewell(replies.pop())
        elif last:
            await self.end()
        again = self._read(recipients, replies, len(prelude))
        if not again and self.trouble is None:
            self._pace.flight_done(len(recipients), time.monotonic() - started)
        return again

    async def end(self) -> None:
        """QUIT, where it was not said yet and the peer lives."""
        if not self.over and self._session.alive:
            self.over = True
            await self._farewell(await self._session.leave())
        if self._session.desync and self.trouble is None:
            self.trouble = self._failed(Phase.RCPT, None)
        self._session.close()

    def release(self) -> list[Recipient]:
        """Hand the held answers to those who asked. Returns those whose asker failed."""
        held, self._held = self._held, []
        return hand_over(held, self._tell)

    def void(self) -> list[Recipient]:
        """Forget the held answers; returns whose they were."""
        held, self._held = self._held, []
        for recipient in held:
            recipient.reply = None
        return held

    # --- inside ---

    @property
    def pipelining(self) -> bool:
        """Whether commands go out together (RFC 2920)."""
        return "pipelining" in self._session.extensions and not self._pace.careful

    @property
    def _began_well(self) -> bool:
        """Some recipient got an answer of its own before the host found us too many."""
        return self.asked > (self._run[1] if self._run[0] is ReplyClass.RATE_LIMITED else 0)

    @property
    def _place(self) -> dict[str, Any]:
        return {"host": self._host, "address": self._address}

    async def _hello(self) -> Attempt | None:
        reply = await self._session.hello(self._helo)
        self._note(Phase.EHLO, f"EHLO {self._helo}", reply)
        return None if reply is not None and reply.code == 250 else self._failed(Phase.EHLO, reply)

    def _prelude(self, *, utf8: bool) -> list[str]:
        """What must come before RCPT: nothing within an open transaction that has room and the right kind."""
        full = self._in_transaction is not None and self._in_transaction >= self._pace.transaction
        if self._in_transaction is not None and utf8 == self._utf8_transaction and not full:
            return []
        self._utf8_transaction = utf8
        mail = f"MAIL FROM:{self._mail_from}" + (" SMTPUTF8" if utf8 else "")
        return [mail] if self._in_transaction is None else ["RSET", mail]

    async def _fly(self, lines: list[str], *, quit_too: bool) -> list[Reply]:
        """All at once (RFC 2920), perhaps with QUIT, whose reply is then the last."""
        self.flew = self.flew or len(lines) > 1
        if quit_too:
            self.over = True
            lines = [*lines, "QUIT"]
        wire = "\r\n".join(lines) + "\r\n"
        if wire.count("\n") != len(lines) or wire.count("\r") != len(lines) or "\0" in wire:
            raise ValueError("an address is more than one argument")  # parse_address lets no control pass
        return await self._session.exchange(wire.encode(), len(lines), self._session.timeouts.command)

    async def _step(self, lines: list[str]) -> list[Reply]:
        """One by one, where PIPELINING is not offered."""
        replies: list[Reply] = []
        for line in lines:
            if "\n" in line or "\r" in line or "\0" in line:
                raise ValueError("an address is more than one argument")
            reply = await self._session.command(line)
            if reply is None:
                break
            replies.append(reply)
            if reply.code == SERVICE_CLOSING or (reply.code >= 400 and not line.startswith("RCPT")):
                break
        return replies

    async def _farewell(self, reply: Reply | None) -> None:
        """Any other reply to QUIT than 221 may be the one to an earlier command: then one more follows."""
        self._note("quit", "QUIT", reply)
        if reply is not None and reply.code != 221 and not await self._session.silent_end():
            self._session.desync = True

    def _read(self, recipients: Sequence[Recipient], replies: list[Reply], prelude: int) -> list[Recipient]:
        """Pair a flight's replies with its commands. Returns who must be asked again."""
        for number in range(min(prelude, len(replies))):
            reply = replies[number]
            if reply.code >= 300:
                return self._transaction_refused(recipients, reply)
        if len(replies) < prelude:
            self.trouble = self._failed(Phase.MAIL, None)
            return list(recipients)
        if prelude:
            self._in_transaction = 0
        answers = replies[prelude:] if prelude else replies
        return self._pair(recipients, answers)

    def _pair(self, recipients: Sequence[Recipient], answers: list[Reply]) -> list[Recipient]:
        """The busiest loop there is: an acceptance takes a microsecond."""
        again: list[Recipient] = []
        known, held = self._attempts, self._held
        curious = any(asker.curious for asker in {recipient.asker for recipient in recipients})
        for place, (recipient, reply) in enumerate(zip(recipients, answers, strict=False)):
            if "@" in reply.text and self._names_another(recipient, recipients, reply):
                self._session.desync = True
                self.trouble = Attempt(**self._place, outcome=Outcome.PROTOCOL_ERROR, phase=Phase.RCPT)
                return [*again, *recipients[place:]]
            if reply.code in ACCEPTED:
                recipient.reply = known.get(reply) or self._attempt(reply, about=recipient.address)
                held.append(recipient)
                self._accepted()
                if curious:
                    self._add_companion(recipient)
            elif reply.code in _CLOSING:
                self.trouble = _unnamed(self._attempt(reply, about=recipient.address))
                return [*again, *recipients[place:]]
            elif reply.code == _BAD_SEQUENCE and self.flew and self.pipelining:
                self._session.desync = True  # a host that offers PIPELINING and cannot: it lost the MAIL, or a reply
                self.trouble = _unnamed(self._attempt(reply, about=recipient.address))
                return [*again, *recipients[place:]]
            elif self._is_not_about_it(reply):
                again.append(recipient)
            else:
                attempt = self._attempt(reply, about=recipient.address)
                if self._began_well and reply.code >= 400 and _says_too_many(attempt.text):
                    self.trouble = _unnamed(attempt)  # no new transaction helps: it is the session that is full
                    return [*again, *recipients[place:]]
                self._refuse(recipient, attempt)
        if len(answers) < len(recipients):
            again += recipients[len(answers) :]
            self.trouble = self.trouble or self._failed(Phase.RCPT, None)  # saying goodbye may have found it out first
        return again

    @staticmethod
    def _names_another(recipient: Recipient, recipients: Sequence[Recipient], reply: Reply) -> bool:
        """A reply that is about another recipient of the flight: replies are out of order."""
        if recipient.address in reply.text:
            return False
        mentioned = {found.casefold() for found in _NAMED.findall(reply.text)} - {recipient.address.casefold()}
        return bool(mentioned) and any(other.address.casefold() in mentioned for other in recipients)

    def _accepted(self) -> None:
        self.asked += 1
        if self._in_transaction is not None:
            self._in_transaction += 1
        self._run = _NO_RUN

    def _add_companion(self, recipient: Recipient, *, greylisted: bool = False) -> None:
        if recipient.asker.curious and (companion := recipient.asker.companion(greylisted=greylisted)) is not None:
            self.companions.append(companion)

    def _refuse(self, recipient: Recipient, attempt: Attempt) -> None:
        self.asked += 1
        self.refused += 1
        self.random_refused += recipient.random
        recipient.reply = attempt
        self._held.append(recipient)
        if attempt.kind is None:
            return
        if attempt.kind is ReplyClass.GREYLISTED:
            self._add_companion(recipient, greylisted=True)  # its wait may as well begin now
        length = self._run[1] + 1 if self._run[0] is attempt.kind else 1
        self._run = (attempt.kind, length)
        if length >= _PATIENCE_WITH.get(attempt.kind, length + 1):
            self.refusal = _unnamed(attempt)

    def _is_not_about_it(self, reply: Reply) -> bool:
        """The reply is about the session or the transaction; the same recipient may be accepted in a better one."""
        if reply.code == _NEEDS_TLS and not self._session.secure and "starttls" in self._session.extensions:
            self.tls_asked_for = True
            return True
        if reply.code == 452 and self._in_transaction and _says_too_many(reply.text):
            self._pace.limit_met(self._in_transaction)
            return True
        return False

    def _transaction_refused(self, recipients: Sequence[Recipient], reply: Reply) -> list[Recipient]:
        """MAIL (or RSET) was refused: whatever was answered to the RCPTs behind it means nothing."""
        if reply.code == _NEEDS_TLS and not self._session.secure and "starttls" in self._session.extensions:
            self.tls_asked_for = True
            return list(recipients)
        attempt = self._attempt(reply, Phase.MAIL)
        if reply.code == SERVICE_CLOSING:
            self.trouble = attempt
            return list(recipients)
        self._hold_all(recipients, attempt)
        if not recipients[0].smtputf8:
            self.refusal = attempt
        self._in_transaction = None
        return []

    def _hold_all(self, recipients: Sequence[Recipient], attempt: Attempt) -> None:
        for recipient in recipients:
            recipient.reply = attempt
        self._held += recipients

    def _attempt(self, reply: Reply, phase: Phase = Phase.RCPT, about: str = "") -> Attempt:
        if about and about in reply.text:
            reply = Reply(reply.code, reply.text.replace(about, ADDRESS), ())
        attempt = self._attempts.get(reply) if phase is Phase.RCPT else None
        if attempt is None:
            attempt = _attempt_of(self._host, self._address, phase, reply.code, reply.text)
            if phase is Phase.RCPT:
                self._attempts[reply] = attempt
        return attempt

    def _failed(self, phase: Phase, reply: Reply | None, outcome: Outcome | None = None) -> Attempt:
        """Why the session is of no use: a reply, or what broke it."""
        reply = reply or self._session.goodbye
        if reply is not None:
            return self._attempt(reply, phase)
        broken = self._session.broken or Outcome.HUNG_UP
        if outcome is None or broken in (Outcome.TIMEOUT, Outcome.PROTOCOL_ERROR):
            outcome = broken
        return Attempt(**self._place, outcome=outcome, phase=phase)

    def _note(self, phase: str, sent: str, reply: Reply | None) -> None:
        self._story.append((time.time(), phase, sent, f"{reply.code} {reply.text}".strip() if reply else ""))

    def _tell(self, recipient: Recipient, attempt: Attempt) -> tuple[dict[str, Any], ...]:
        """The trace of one recipient: what the session began with, and its own RCPT."""
        story = list(self._story)
        if attempt.phase is Phase.RCPT and attempt.outcome is Outcome.REPLIED:
            at = self._heard_at.get(recipient.address, time.time())
            said = f"{attempt.code} {named(attempt.text, recipient.address)}"
            story.append((at, Phase.RCPT, f"RCPT TO:<{recipient.address}>", said))
            story.sort(key=itemgetter(0))
        return tuple(
            {
                **self._place,
                "at": datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds"),
                "phase": str(phase),
                "sent": sent,
                "reply": said,
            }
            for at, phase, sent, said in story
        )


@lru_cache(maxsize=8_192)
def _attempt_of(host: str, address: str, phase: Phase, code: int, text: str) -> Attempt:
    """One object for all who were told the same there, in whichever session: that makes comparing them cheap."""
    return Attempt(
        host=host,
        address=address,
        outcome=Outcome.REPLIED,
        phase=phase,
        code=code,
        text=text,
        kind=classify_cached(code, text, phase, ADDRESS).cls,
        after=retry_hint(text) if 400 <= code < 500 else None,
    )


@lru_cache(maxsize=8_192)
def _says_too_many(text: str) -> bool:
    return _TOO_MANY.search(text) is not None


def _unnamed(attempt: Attempt) -> Attempt:
    """As it is told to others than the one whom the reply named: whose list that one is on is nobody's business."""
    if ADDRESS not in attempt.text:
        return attempt
    return msgspec.structs.replace(attempt, text=named(attempt.text, "(an address)"))
