"""One effect per `Idempotency-Key`: the same key and request get the same answer for 24 hours, per organisation.

The order, and what a crash after each step leaves:

1. A record `running` is inserted with the id of the resource to be made (`resource_id`) and a lease that is renewed
   while the work runs. Crash: the lease runs out after LEASE seconds; the next request with the key takes the record
   over and produces again **with the same resource id**, so `produce` finds what the first run left and must be
   repeatable by that id.
2. `produce(resource_id)` has its effect. Crash: as above.
3. The answer is stored and the record is `done`. From here the stored answer is replayed.

A Problem or answer of 4xx says that nothing happened and frees the key. What ends with an unknown effect (5xx, a server
away, a cancelled request) gives up the lease, so that a retry runs at once with the same resource id. A process that
was stopped for longer than LEASE and goes on may run beside its successor; both make the same resource.

The key is stored hashed. The answer may hold what is stored nowhere else in the clear (a new API key, an address), so
it is sealed with a secret made of the caller's key and DATA_DIR/answers.key: neither the document store alone nor both
without the caller's key give it away, and a key that can be guessed ("1") is not the only lock.
"""

from __future__ import annotations

import asyncio
import hashlib
import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Annotated

from cryptography.exceptions import InvalidTag
from fastapi import Depends, Header, Response

from gateway.accounts.caller import Caller
from gateway.collections import IDEMPOTENCY_KEYS
from gateway.idempotency.seal import seal, unseal
from gateway.key_file import key_file
from gateway.parts import Parts
from gateway.problem import Problem
from shared.documents import Change, Document, Documents, Where
from shared.errors import DocumentsUnavailable
from shared.logs import get_log

log = get_log("gateway.idempotency")

KEPT = 24 * 3600.0  # seconds an answer is replayed
LEASE = 15.0  # seconds without renewal after which a running record is taken for a crashed one
MAX_KEY = 255  # characters
KEY_FILE = "answers.key"
KEPT_HEADERS = ("content-type", "location")
_ALL = ("requestHash", "resourceId", "state", "runner", "leaseUntil", "createdAt", "answer")

Produce = Callable[[str], Awaitable[Response]]
Clock = Callable[[], float]


async def _read_key(
    key: Annotated[
        str | None,
        Header(
            alias="Idempotency-Key",
            description=f"1 to {MAX_KEY} characters; the first answer is replayed for 24 hours.",
        ),
    ] = None,
) -> str | None:
    if key is None:
        return None
    if not 1 <= len(key) <= MAX_KEY or not key.isascii() or not key.isprintable():
        raise Problem(
            400, "idempotency_key_malformed", f"Idempotency-Key takes 1 to {MAX_KEY} printable ASCII characters."
        )
    return key


IdempotencyKey = Annotated[str | None, Depends(_read_key)]
"""None where the header is absent. Malformed ones answer 400. Routes take it by way of `OnceDep` (once.py)."""


def hash_content(call: str, *content: bytes) -> str:
    """What makes two requests the same: the `call` ("POST /api/v1/..."), its query and body, or digests of them."""
    digest = hashlib.sha256()
    for part in (call.encode(), *content):
        digest.update(len(part).to_bytes(8, "big"))
        digest.update(part)
    return digest.hexdigest()


async def run_once(
    parts: Parts, caller: Caller, key: str | None, request_hash: str, produce: Produce, *, clock: Clock = time.time
) -> Response:
    """The answer of `produce(resource_id)`, or the one stored for `key`, marked `Idempotent-Replayed: true`.

    `resource_id` is 32 hex digits, new for every key. Without a key `produce` just runs, with a new id. `produce` must
    return a Response with a whole `body` (no stream) and must be repeatable for the same id.

    Raises Problem: 409 while another request with the key runs, 422 where the key was used for another request; and
    whatever `produce` raises.
    """
    if key is None:
        return await produce(secrets.token_hex(16))
    documents = parts.documents
    mode = "test:" if caller.test else ""
    record_id = f"{caller.org_id}:{mode}{hashlib.sha256(key.encode()).hexdigest()}"
    secret = key + (await key_file(parts.settings, KEY_FILE)).hex()
    record = await _take(documents, record_id, caller.org_id, request_hash, clock)
    if record["state"] == "done":
        return _replay(record, secret)
    mine = {"state": "running", "runner": record["runner"]}
    try:
        async with _lease_renewed(documents, record_id, mine, clock):
            answer = await produce(record["resourceId"])
    except BaseException as error:
        nothing_done = isinstance(error, Problem) and error.status < 500
        await asyncio.shield(_let_go(documents, record_id, mine, free=nothing_done))
        raise
    if answer.status_code >= 400:
        await _let_go(documents, record_id, mine, free=answer.status_code < 500)
    else:
        await _store(documents, record, secret, answer)
    return answer


async def _take(documents: Documents, record_id: str, org_id: str, request_hash: str, clock: Clock) -> Document:
    """The record: `running` and taken by this call, or `done`. Raises Problem 409 or 422."""
    now = clock()
    fresh: Document = {
        "_id": record_id,
        "orgId": org_id,
        "requestHash": request_hash,
        "resourceId": secrets.token_hex(16),
        "state": "running",
        "runner": secrets.token_hex(8),
        "leaseUntil": now + LEASE,
        "createdAt": now,
        "answer": None,
    }
    while not await documents.insert(IDEMPOTENCY_KEYS, fresh):
        record = await documents.get(IDEMPOTENCY_KEYS, record_id)
        if record is None:
            continue  # purged since; the insert may work now
        idle = record["state"] == "done" or record["leaseUntil"] <= now
        expired = idle and record["createdAt"] <= now - KEPT
        if not expired:
            if record["requestHash"] != request_hash:
                raise Problem(422, "idempotency_key_reused", "This Idempotency-Key was used for another request.")
            if record["state"] == "done":
                return record
            if not idle:
                raise Problem(
                    409, "idempotency_key_in_flight", "A request with this Idempotency-Key is running.", retry_after=1
                )
        taken = await documents.update(
            IDEMPOTENCY_KEYS,
            record_id,
            Change(set={name: fresh[name] for name in (_ALL if expired else ("runner", "leaseUntil"))}),
            {name: record[name] for name in ("runner", "leaseUntil", "state")},
        )
        if taken is not None:
            if not expired:
                log.info("idempotent_run_taken_over", org_id=org_id, resource_id=taken["resourceId"])
            return taken
    return fresh


@asynccontextmanager
async def _lease_renewed(documents: Documents, record_id: str, mine: Where, clock: Clock) -> AsyncIterator[None]:
    async def renew() -> None:
        while True:
            await asyncio.sleep(LEASE / 3)
            try:
                await documents.update(IDEMPOTENCY_KEYS, record_id, Change(set={"leaseUntil": clock() + LEASE}), mine)
            except DocumentsUnavailable:
                log.warning("idempotency_lease_not_renewed")

    task = asyncio.create_task(renew(), name="idempotency-lease")
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait([task])


async def _let_go(documents: Documents, record_id: str, mine: Where, *, free: bool) -> None:
    """Give up the lease; with `free` the key is as if it had never been used."""
    change = {"leaseUntil": 0.0, "createdAt": 0.0} if free else {"leaseUntil": 0.0}
    try:
        await documents.update(IDEMPOTENCY_KEYS, record_id, Change(set=change), mine)
    except DocumentsUnavailable:
        log.warning("idempotency_lease_kept")  # it runs out by itself


async def _store(documents: Documents, record: Document, secret: str, answer: Response) -> None:
    """A run that lost its lease may store too: both runs made the same resource."""
    stored = {
        "status": answer.status_code,
        "headers": {name: answer.headers[name] for name in KEPT_HEADERS if name in answer.headers},
        "body": seal(bytes(answer.body), secret, record["_id"]),
    }
    await documents.update(
        IDEMPOTENCY_KEYS,
        record["_id"],
        Change(set={"state": "done", "answer": stored}),
        {"state": "running", "resourceId": record["resourceId"]},
    )


def _replay(record: Document, secret: str) -> Response:
    answer = record["answer"]
    headers = {**answer["headers"], "Idempotent-Replayed": "true"}
    try:
        body = unseal(answer["body"], secret, record["_id"])
    except InvalidTag as error:  # DATA_DIR is another one than when the answer was stored
        detail = "This was carried out before; its answer cannot be read any more."
        raise Problem(409, "idempotency_answer_lost", detail) from error
    return Response(body, answer["status"], headers)
