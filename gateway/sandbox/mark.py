"""What belongs to the sandbox of test keys, and who sees it.

A test key's files are marked in their ids, which the server makes: what keeps their batches away from validators
(answer.py) needs no look at a document, and people see it in every log line, link and event. The document says it too
(`test`), so that lists can be asked for it.
"""

from __future__ import annotations

from gateway.accounts.caller import Caller
from shared.documents import Document, Missing

TEST_ID = "test_"  # how the ids of files and batches begin


def own_id(caller: Caller, id_: str) -> str:
    """The id of a file that this caller makes, of 32 hex digits."""
    return f"{TEST_ID}{id_}" if caller.test else id_


def is_test_id(id_: str) -> bool:
    """Of a file, a batch, or a message about one."""
    return id_.startswith(TEST_ID)


def own_file(caller: Caller, file: Document) -> Document:
    """A file that this caller makes: marked, and free, where it is one of the sandbox."""
    return {**file, "test": True, "creditsReserved": 0} if caller.test else file


def is_test(document: Document) -> bool:
    return bool(document.get("test", False))


def same_side(caller: Caller) -> dict[str, object]:
    """A condition for lists: test keys see what is of the sandbox, everybody else what is not."""
    return {"test": True if caller.test else Missing()}


def cost_of(file: Document) -> int:
    """Credits to be held for a file."""
    cost: int = 0 if is_test(file) else file["uniqueEmails"]
    return cost
