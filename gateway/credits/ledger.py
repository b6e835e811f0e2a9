"""Credits: an append-only ledger beside one account document per organisation. Whole credits only.

A *movement* (a hold, a settlement, a grant, ...) is one conditional update of the account document. In that one atomic
step the numbers change and the movement's entries go to the account's `outbox`; then the entries are copied to
CREDIT_ENTRIES, where they stay for ever and never change. There are no transactions and none are needed:

- A crash before the update: nothing happened. After it: the movement has happened, and the entries are in the outbox
  until `sweep` (at start, or any later read of the ledger) copies them; copying twice is copying once, by their ids.
- Doing it twice: a movement is refused while its id is in `recent` (beside the outbox) or its first entry is in
  CREDIT_ENTRIES. Emptying both lists raises the account's `epoch`, and an update demands the epoch that was read
  *before* the entries were looked at. So a process that slept between its look and its update, for however long, finds
  another epoch and looks again. No clock takes part in this.
- Racing for the last credits: `available >= n` is a condition of the same update, so holds never exceed the balance.
- A refused hold leaves no trace and can be tried again.

At any time, after `sweep`: the sum of the entries' `amount` is the account's `balance`, and of their `reserved` is its
`reserved`. `available` (= balance - reserved) is kept as a field because the documents seam compares fields with
constants only.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Literal
from weakref import WeakValueDictionary

from gateway.collections import CREDIT_ACCOUNTS, CREDIT_ENTRIES
from gateway.problem import Problem
from shared.documents import Change, Document, Documents, Gte, Ne
from shared.logs import get_log

log = get_log("gateway.credits")

Kind = Literal["grant", "purchase", "refund", "adjustment", "hold", "capture", "release"]

MOST = 2**53 - 1  # credits in one movement; what JSON readers count exactly
_OUTBOX = 32  # movements kept in the account before they are folded away
_FIELD = re.compile(r"[A-Za-z0-9_-]{1,64}")  # what may be part of a field path


@dataclass(frozen=True, slots=True)
class Balance:
    """`balance` is what is owned, holds included; `available` = balance - reserved is what may still be spent."""

    balance: int
    reserved: int
    available: int


@dataclass(frozen=True, slots=True)
class _Movement:
    """One atomic step of an account. `needs`: available credits without which it is refused."""

    id: str
    entries: tuple[Document, ...]
    needs: int = 0
    file_id: str | None = None  # a hold to make (`held` is None) or to end
    held: int | None = None  # what the hold to end must still be

    @property
    def amount(self) -> int:
        return sum(int(entry["amount"]) for entry in self.entries)

    @property
    def reserved(self) -> int:
        return sum(int(entry["reserved"]) for entry in self.entries)


class Ledger:
    """Every method may be repeated and interrupted anywhere, in any number of processes at once.

    All raise DocumentsUnavailable; the movement may have happened then, and repeating the call is right.
    """

    def __init__(self, documents: Documents, clock: Callable[[], float]) -> None:
        self._documents = documents
        self._clock = clock
        self._queues: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    # --- spending ---

    async def hold(self, org_id: str, file_id: str, amount: int) -> None:
        """Set `amount` credits aside for a file. Once per file for ever: a repeat changes nothing.

        Raises Problem 402 `insufficient_credits` with `required` and `available`.
        """
        _check_id(file_id)
        if amount == 0:
            return
        _check_amount(amount)
        entry = self._entry("hold", file_id, org_id, moved=amount, reserved=amount, file_id=file_id)
        await self._move(org_id, _Movement(entry["_id"], (entry,), needs=amount, file_id=file_id))

    async def settle(self, org_id: str, file_id: str, charge: int) -> None:
        """Capture `charge` credits of the file's hold and release the rest. Without a hold: nothing."""
        if charge < 0:
            raise ValueError("a charge is not negative")
        _check_id(file_id)
        held = await self.held(org_id, file_id)
        if held is None:
            return
        if charge > held:
            log.error("charge_above_hold", org_id=org_id, file_id=file_id, charge=charge, held=held)
            charge = held
        entries = []
        if charge:
            captured = {"moved": charge, "amount": -charge, "reserved": -charge}
            entries.append(self._entry("capture", file_id, org_id, file_id=file_id, **captured))
        if charge < held:
            rest = held - charge
            entries.append(self._entry("release", file_id, org_id, moved=rest, reserved=-rest, file_id=file_id))
        await self._move(org_id, _Movement(f"settle:{file_id}", tuple(entries), file_id=file_id, held=held))

    async def release(self, org_id: str, file_id: str) -> None:
        """Give the file's whole hold back. Without a hold: nothing."""
        await self.settle(org_id, file_id, 0)

    async def charge(self, org_id: str, amount: int, cause: str) -> None:
        """Hold and capture in one, for a single validation. Raises Problem 402 `insufficient_credits`."""
        if amount == 0:
            return
        _check_amount(amount)
        entry = self._entry("capture", cause, org_id, moved=amount, amount=-amount)
        entry["_id"] = f"charge:{cause}"  # apart from the captures of holds, whatever the cause is called
        await self._move(org_id, _Movement(entry["_id"], (entry,), needs=amount))

    async def is_charged(self, org_id: str, cause: str) -> bool:
        """Whether `charge` was made for this cause. The account is read first: what leaves it is an entry by then."""
        account = await self._documents.get(CREDIT_ACCOUNTS, org_id)
        if account is not None and f"charge:{cause}" in account["recent"]:
            return True
        return await self._documents.get(CREDIT_ENTRIES, f"charge:{cause}") is not None

    # --- filling ---

    async def grant(self, org_id: str, amount: int, cause: str) -> bool:
        """Credits given. False when `grant:{cause}` was there already."""
        _check_amount(amount)
        return await self._simple("grant", org_id, amount, cause)

    async def purchase(self, org_id: str, amount: int, cause: str) -> bool:
        """Credits paid for; `cause` is the paid thing, such as `stripe:{session}`. False on a repeat."""
        _check_amount(amount)
        return await self._simple("purchase", org_id, amount, cause)

    async def refund(self, org_id: str, amount: int, cause: str) -> bool:
        """Credits taken back because their price was paid back or disputed. False on a repeat.

        Unconditional: what was spent already leaves the balance negative, and nothing can be spent until it is not.
        So refunds and purchases reach the same balance in any order.
        """
        _check_amount(amount)
        return await self._simple("refund", org_id, -amount, cause)

    async def adjust(self, org_id: str, amount: int, cause: str) -> bool:
        """An operator's correction, either way, unconditional. False on a repeat."""
        _check_amount(abs(amount))
        return await self._simple("adjustment", org_id, amount, cause)

    # --- reading and mending ---

    async def balance(self, org_id: str) -> Balance:
        account = await self._documents.get(CREDIT_ACCOUNTS, org_id)
        return balance_of(account)

    async def sweep(self) -> int:
        """Copy what a crash left in any account's outbox; how many entries that were. For the start of a gateway."""
        copied = 0
        async for account in self._documents.scan(CREDIT_ACCOUNTS, {}, fields=("outbox",)):
            copied += await self._copy(account)
        if copied:
            log.info("ledger_swept", entries=copied)
        return copied

    async def post(self, org_id: str) -> Document | None:
        """Copy the outbox of one account, so that its entries are complete. The account as it was then."""
        account = await self._documents.get(CREDIT_ACCOUNTS, org_id)
        if account is not None:
            await self._copy(account)
        return account

    # --- how ---

    async def _simple(self, kind: Kind, org_id: str, amount: int, cause: str) -> bool:
        entry = self._entry(kind, cause, org_id, moved=abs(amount), amount=amount)
        return await self._move(org_id, _Movement(entry["_id"], (entry,)))

    def _entry(
        self,
        kind: Kind,
        cause: str,
        org_id: str,
        *,
        moved: int,
        amount: int = 0,
        reserved: int = 0,
        file_id: str = "",
    ) -> Document:
        if not cause or len(cause) > 255:
            raise ValueError("a cause has 1 to 255 characters")
        return {
            "_id": f"{kind}:{cause}",
            "orgId": org_id,
            "kind": kind,
            "credits": moved,
            "amount": amount,
            "reserved": reserved,
            "fileId": file_id or None,
            "cause": cause,
            "at": self._clock(),
        }

    async def held(self, org_id: str, file_id: str) -> int | None:
        """Credits set aside for the file now; None: no hold was made, or it has ended."""
        account = await self._documents.get(CREDIT_ACCOUNTS, org_id)
        held = None if account is None else account["holds"].get(file_id)
        return None if held is None else int(held)

    @asynccontextmanager
    async def _queue(self, org_id: str) -> AsyncIterator[None]:
        """One movement of an account at a time in this process. Saves retries; correctness does not rest on it."""
        lock = self._queues.setdefault(org_id, asyncio.Lock())
        async with lock:
            yield

    async def _move(self, org_id: str, movement: _Movement) -> bool:
        """Whether it moved now; False when it had before. Raises Problem 402."""
        async with self._queue(org_id):
            account = await self._apply(org_id, movement)
            if account is None:
                return False
            await self._record(org_id, movement)
            if len(account["recent"]) >= _OUTBOX:
                await self._fold(account)
        return True

    async def _apply(self, org_id: str, movement: _Movement) -> Document | None:
        """The account after the step, or None when the step had been made before."""
        while True:
            account = await self._account(org_id)
            if await self._is_done(account, movement):
                return None
            if movement.needs and account["available"] < movement.needs:
                raise Problem(
                    402,
                    "insufficient_credits",
                    f"This needs {movement.needs} credits; {max(0, account['available'])} are available.",
                    required=movement.needs,
                    available=max(0, account["available"]),
                )
            changed = await self._step(account, movement)
            if changed is not None:
                return changed

    async def _is_done(self, account: Document, movement: _Movement) -> bool:
        if movement.held is not None:  # the hold is there until it is settled, and never comes back
            return account["holds"].get(movement.file_id) is None
        if movement.id in account["recent"]:
            return True
        entry = await self._documents.get(CREDIT_ENTRIES, movement.entries[0]["_id"])
        if entry is not None and entry["orgId"] != account["_id"]:
            raise ValueError("a cause belongs to one organisation for ever")
        return entry is not None

    async def _step(self, account: Document, movement: _Movement) -> Document | None:
        """The one atomic step; None when somebody else moved the account in a way that matters."""
        where: dict[str, object] = {"epoch": account["epoch"], "recent": Ne(movement.id)}
        if movement.needs:
            where["available"] = Gte(movement.needs)
        holds: dict[str, int] = {}
        ended: tuple[str, ...] = ()
        if movement.file_id is not None:
            path = f"holds.{movement.file_id}"
            if movement.held is None:
                holds[path] = movement.needs
            else:
                where[path] = movement.held
                ended = (path,)
        amount, reserved = movement.amount, movement.reserved
        change = Change(
            set=holds,
            inc={"balance": amount, "reserved": reserved, "available": amount - reserved, "version": 1},
            push={"recent": movement.id, "outbox": {"entries": list(movement.entries)}},
            unset=ended,
        )
        return await self._documents.update(CREDIT_ACCOUNTS, account["_id"], change, where)

    async def _record(self, org_id: str, movement: _Movement) -> None:
        inserted = await self._documents.insert_many(CREDIT_ENTRIES, movement.entries)
        if inserted != len(movement.entries):
            log.debug("entries_copied_by_another", org_id=org_id, movement=movement.id)

    async def _account(self, org_id: str) -> Document:
        account = await self._documents.get(CREDIT_ACCOUNTS, org_id)
        while account is None:
            empty: Document = {"balance": 0, "reserved": 0, "available": 0, "holds": {}, "version": 0, "epoch": 0}
            await self._documents.insert(CREDIT_ACCOUNTS, {"_id": org_id, **empty, "recent": [], "outbox": []})
            account = await self._documents.get(CREDIT_ACCOUNTS, org_id)
        return account

    async def _copy(self, account: Document) -> int:
        entries = [entry for movement in account["outbox"] for entry in movement["entries"]]
        return await self._documents.insert_many(CREDIT_ENTRIES, entries) if entries else 0

    async def _fold(self, account: Document) -> None:
        """Empty the outbox and `recent` of a copied account, unless it moved meanwhile: then a later call does."""
        await self._copy(account)
        change = Change(set={"recent": [], "outbox": []}, inc={"epoch": 1, "version": 1})
        await self._documents.update(CREDIT_ACCOUNTS, account["_id"], change, {"version": account["version"]})


def balance_of(account: Mapping[str, int] | None) -> Balance:
    if account is None:
        return Balance(0, 0, 0)
    return Balance(account["balance"], account["reserved"], account["available"])


def _check_amount(amount: int) -> None:
    if not 0 < amount <= MOST:
        raise ValueError("an amount is a whole number from 1")


def _check_id(file_id: str) -> None:
    if not _FIELD.fullmatch(file_id):
        raise ValueError("a file id has letters, digits, _ and - only")
