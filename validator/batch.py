"""The addresses of one check_batch call on their way to verdicts."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Hashable, Sequence
from datetime import UTC, datetime
from typing import Final

from shared.address import Malformed
from shared.messages import PutOff
from shared.verdict import Finding
from shared.verdicts import Verdicts
from validator.evidence import Attempt, CatchAll, Evidence, Later, Route
from validator.judge import judge, malformed
from validator.lists import Flags, list_flags
from validator.smtp.recipient import Recipient

_Case = tuple[str, Flags, Route | None, tuple[Attempt, ...], CatchAll, float | None]
PROGRESS_EVERY: Final = 0.25  # seconds


class Batch:
    """Collects one verdict for each position. `closed` once all are there or the deadline has passed."""

    def __init__(
        self,
        emails: Sequence[str],
        *,
        look: int,
        last_look: bool,
        trace: bool,
        on_progress: Callable[[int], None] | None,
        line: Hashable = None,
        urgent: bool = False,
    ) -> None:
        """`line`, `urgent`: where its recipients stand at a mail host; without a line, in one of their own."""
        self.verdicts = Verdicts(emails)
        self.put_off: list[PutOff] = []
        self.closed = False
        self.trace = trace
        self.line: Hashable = line or self
        self.urgent = urgent
        self.open = len(emails)
        self._settled = bytearray(len(emails))
        self._look = look
        self._last_look = last_look
        self._on_progress = on_progress
        self._complete = asyncio.Event()
        self._judged: dict[_Case, Finding | Later] = {}
        self._second = ""
        self._second_until = 0.0

    def is_settled(self, index: int) -> bool:
        return bool(self._settled[index])

    def settle(
        self,
        recipient: Recipient,
        domain: str,
        route: Route | None,
        catch_all: CatchAll = CatchAll.NOT_ASKED,
        random_after: float | None = None,
    ) -> None:
        """Judge one address of `domain`. Each position is settled once."""
        flags = list_flags(recipient.address.rpartition("@")[0], domain)
        # What is told apart by this key is judged by itself; a domain has a few such cases, however many addresses.
        case = (domain, flags, route, recipient.past, catch_all, random_after)
        found = self._judged.get(case)
        if found is None:
            found = self._judged[case] = self._judge(*case)
        if isinstance(found, Later):
            self.put_off.append(
                PutOff(index=recipient.index, reason=found.reason, after=found.after, unasked=found.unasked)
            )
        else:
            self.verdicts.put(recipient.index, found, recipient.address, self._now(), recipient.trace)
        self._count_down(recipient.index)

    def settle_malformed(self, index: int, address: Malformed) -> None:
        """What is no address needs no look."""
        self.verdicts.put(index, malformed(address.why), None, self._now())
        self._count_down(index)

    def _count_down(self, index: int) -> None:
        self._settled[index] = True
        self.open -= 1
        if self.open == 0:
            self._complete.set()

    def _judge(  # noqa: PLR0917 - one case, in its order
        self,
        domain: str,
        flags: Flags,
        route: Route | None,
        attempts: tuple[Attempt, ...],
        catch_all: CatchAll,
        random_after: float | None,
    ) -> Finding | Later:
        return judge(
            Evidence(
                domain=domain,
                flags=flags,
                route=route,
                attempts=attempts,
                catch_all=catch_all,
                random_after=random_after,
                look=self._look,
                last_look=self._last_look,
            )
        )

    async def wait(self, seconds: float) -> None:
        """Until every position is settled, or for so long; progress is told meanwhile."""
        loop = asyncio.get_running_loop()
        ends = loop.time() + seconds
        while self.open and (left := ends - loop.time()) > 0:
            try:
                async with asyncio.timeout(min(left, PROGRESS_EVERY)):
                    await self._complete.wait()
            except TimeoutError:
                pass  # the loop's condition decides
            if self._on_progress is not None:
                self._on_progress(len(self.verdicts) - self.open)

    def _now(self) -> str:
        """The wall clock, to the second: formatting it for every address would cost more than judging."""
        now = time.time()
        if now >= self._second_until:
            self._second_until = int(now) + 1.0
            self._second = datetime.fromtimestamp(int(now), UTC).isoformat().replace("+00:00", "Z")
        return self._second
