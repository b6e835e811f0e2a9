"""What gateway and validators say to each other. Each message encodes and decodes itself and carries its version.

Work goes out on `email_validation`, results come back on `email_validation.results`; live progress is a hint over
Redis pub/sub and may be lost.
"""

from __future__ import annotations

from typing import Self

import msgspec

from shared.errors import MessageUndecodable
from shared.verdict import Reason, Result

SCHEMA = 1


class _Message(msgspec.Struct, kw_only=True, rename="camel"):
    schema: int = SCHEMA

    def encode(self) -> bytes:
        return msgspec.json.encode(self)

    @classmethod
    def decode(cls, body: bytes) -> Self:
        """Raises MessageUndecodable, which keeps the bytes, also for a schema this code does not know."""
        try:
            message = msgspec.json.decode(body, type=cls)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise MessageUndecodable(f"not a {cls.__name__}: {type(error).__name__}", body) from error
        if message.schema != SCHEMA:
            raise MessageUndecodable(f"{cls.__name__} of schema {message.schema}, not {SCHEMA}", body)
        return message


class WorkMessage(_Message, kw_only=True):
    """A batch to verify. `attempt` counts publications of this batch, from 1, and is echoed as the fence."""

    batch_id: str
    file_id: str
    org_id: str
    attempt: int
    emails: list[str]  # addresses as they were given, trimmed
    look: int = 0  # how many times these addresses have been put off before
    last_look: bool = False  # True: an address put off now gets its final verdict (unknown/put_off)
    trace: bool = False


class PutOff(msgspec.Struct, kw_only=True, rename="camel"):
    """An address that must be looked at again later. `after`: seconds the server itself asked for, where it did."""

    index: int  # position in WorkMessage.emails
    reason: Reason
    after: float | None = None


class ResultMessage(_Message, kw_only=True):
    """The outcome of one WorkMessage. `results[i]` is None exactly where a PutOff names i."""

    batch_id: str
    file_id: str
    org_id: str
    attempt: int
    look: int = 0
    results: list[Result | None]
    put_off: list[PutOff] = []


class BatchProgress(_Message, kw_only=True):
    """A hint while a batch runs: how many of its addresses have an answer. Redis channel `batch_progress`."""

    batch_id: str
    file_id: str
    attempt: int
    done: int
