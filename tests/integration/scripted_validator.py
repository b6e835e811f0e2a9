"""The other side of the queues, scripted: consumes work, publishes results, and says of each address what its name says.

ok... valid · no... invalid · all... risky (catch-all) · dunno... unknown · later... put off on the first look, then
valid · never... put off for ever (the last look gives unknown)
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Self

from shared.broker import Broker, Delivery
from shared.messages import PutOff, ResultMessage, WorkMessage
from shared.topology import RESULTS, WORK
from shared.verdict import Finding, Reason, RiskLevel, Status, Verdict
from shared.verdicts import Verdicts

SAID = {
    "no": (Status.INVALID, Reason.MAILBOX_MISSING),
    "all": (Status.RISKY, Reason.CATCH_ALL),
    "dunno": (Status.UNKNOWN, Reason.TIMEOUT),
}


def verdict(email: str, status: Status = Status.VALID, reason: Reason = Reason.ACCEPTED) -> Verdict:
    finding = Finding(status=status, reason=reason, risk_level=RiskLevel.LOW, score=90)
    return Verdict(email=email, normalized=email, finding=finding, checked_at="2026-01-01T00:00:00Z")


def say(email: str, look: int, *, last: bool) -> Verdict | None:
    """None: put off."""
    if email.startswith("later") and look == 0 and not last:
        return None
    if email.startswith("never"):
        return verdict(email, Status.UNKNOWN, Reason.PUT_OFF) if last else None
    for name, (status, reason) in SAID.items():
        if email.startswith(name):
            return verdict(email, status, reason)
    return verdict(email)


def answer(work: WorkMessage) -> ResultMessage:
    results = [say(email, work.look, last=work.last_look) for email in work.emails]
    put_off = [PutOff(index=at, reason=Reason.PUT_OFF) for at, result in enumerate(results) if result is None]
    return ResultMessage.about(work, Verdicts.of(work.emails, results), put_off)


def arrived(work: WorkMessage) -> ResultMessage:
    """The answer as the recorder reads it."""
    return ResultMessage.decode(answer(work).encode())


class ScriptedValidator:
    """`async with ScriptedValidator(broker) as validator:`. Clear `gate` to hold answers back; `seen` is what came."""

    def __init__(self, broker: Broker, *, prefetch: int = 64) -> None:
        self._broker = broker
        self._prefetch = prefetch
        self.gate = asyncio.Event()
        self.gate.set()
        self.seen: list[WorkMessage] = []
        self.came = asyncio.Condition()

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._run(), name="scripted-validator")
        return self

    async def __aexit__(self, *_: object) -> None:
        self._task.cancel()
        with suppress(asyncio.CancelledError):
            await self._task

    async def _run(self) -> None:
        async with self._broker.subscribe(WORK, self._prefetch) as deliveries, asyncio.TaskGroup() as handlers:
            async for delivery in deliveries:
                handlers.create_task(self._handle(delivery), name="scripted-batch")

    async def _handle(self, delivery: Delivery) -> None:
        work = WorkMessage.decode(delivery.body)
        async with self.came:
            self.seen.append(work)
            self.came.notify_all()
        await self.gate.wait()
        await self._broker.publish(RESULTS, answer(work).encode(), f"{work.batch_id}:{work.attempt}:r")
        await delivery.ack()

    async def until_seen(self, count: int, file_id: str | None = None, within: float = 10.0) -> None:
        """Until so many batches (of the file) came."""

        def enough() -> bool:
            return sum(file_id in (None, work.file_id) for work in self.seen) >= count

        async with asyncio.timeout(within), self.came:
            await self.came.wait_for(enough)
