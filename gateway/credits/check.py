"""Does every balance follow from its entries? For `mailvet credits check` and for the suspicious."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass

from gateway.collections import CREDIT_ACCOUNTS, CREDIT_ENTRIES, ORGANISATIONS
from gateway.credits.ledger import Balance, Ledger, balance_of
from shared.documents import Document, Documents

_TRIES = 20  # looks at an account that moves while its entries are added up


@dataclass(frozen=True, slots=True)
class Check:
    """What an account says and what its entries add up to. `differences`: a line each; none means they agree."""

    org_id: str
    account: Balance
    entries: Balance
    differences: tuple[str, ...]


async def recompute(documents: Documents, ledger: Ledger, org_id: str) -> Check:
    """Add up all entries of an organisation, in constant memory but for its open holds. Changes no balance.

    The account is read before and after, and the sum counts only when it did not move between.
    """
    for _ in range(_TRIES):
        before = await ledger.post(org_id)
        entries, holds = await _add_up(documents, org_id)
        after = await documents.get(CREDIT_ACCOUNTS, org_id)
        if (before and before["version"]) == (after and after["version"]):
            return _compare(org_id, after, entries, holds)
    return Check(org_id, balance_of(after), entries, ("the account never stood still; check again when it is quieter",))


async def recompute_all(documents: Documents, ledger: Ledger) -> AsyncIterator[Check]:
    """A Check for every organisation, and for every account without one."""
    async for organisation in documents.scan(ORGANISATIONS, {}, fields=("createdAt",)):
        yield await recompute(documents, ledger, organisation["_id"])
    async for account in documents.scan(CREDIT_ACCOUNTS, {}, fields=("version",)):
        if await documents.get(ORGANISATIONS, account["_id"]) is None:
            yield await recompute(documents, ledger, account["_id"])


async def _add_up(documents: Documents, org_id: str) -> tuple[Balance, dict[str, int]]:
    balance = reserved = 0
    holds: dict[str, int] = {}
    fields = ("amount", "reserved", "fileId")
    async for entry in documents.scan(CREDIT_ENTRIES, {"orgId": org_id}, sort="at", fields=fields):
        balance += entry["amount"]
        reserved += entry["reserved"]
        if entry["reserved"]:
            held = holds.pop(entry["fileId"], 0) + entry["reserved"]
            if held:
                holds[entry["fileId"]] = held
    return Balance(balance, reserved, balance - reserved), holds


def _compare(org_id: str, account: Document | None, entries: Balance, holds: dict[str, int]) -> Check:
    said = balance_of(account)
    differences = [
        f"{name}: the account says {getattr(said, name)}, its entries add up to {getattr(entries, name)}"
        for name in ("balance", "reserved", "available")
        if getattr(said, name) != getattr(entries, name)
    ]
    open_holds = {} if account is None else account["holds"]
    differences += [
        f"hold of file {file_id}: the account says {open_holds.get(file_id, 0)}, its entries {holds.get(file_id, 0)}"
        for file_id in sorted(open_holds.keys() | holds.keys())
        if open_holds.get(file_id) != holds.get(file_id)
    ]
    return Check(org_id, said, entries, tuple(differences))
