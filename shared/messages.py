"""What gateway and validators say to each other. Each message encodes and decodes itself and carries its version.

Work goes out on `email_validation`, results come back on `email_validation.results`; live progress is a hint over
Redis pub/sub and may be lost.
"""

from __future__ import annotations

from typing import Any, ClassVar, Self

import msgspec

from shared.errors import MessageUndecodable
from shared.verdict import Finding, Reason
from shared.verdicts import Verdicts


class _Message(msgspec.Struct, kw_only=True, rename="camel"):
    SCHEMA: ClassVar[int] = 1

    schema: int = 1

    def encode(self) -> bytes:
        return msgspec.json.encode(self)

    @classmethod
    def decode(cls, body: bytes) -> Self:
        """Raises MessageUndecodable, which keeps the bytes, also for a schema this code does not know."""
        try:
            message = msgspec.json.decode(body, type=cls)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise MessageUndecodable(f"not a {cls.__name__}: {type(error).__name__}", body) from error
        if message.schema != cls.SCHEMA:
            raise MessageUndecodable(f"{cls.__name__} of schema {message.schema}, not {cls.SCHEMA}", body)
        return message


class WorkMessage(_Message, kw_only=True):
    """A batch to verify. `attempt` counts publications of this batch, from 1, and is echoed as the fence."""

    batch_id: str
    file_id: str
    org_id: str
    attempt: int
    emails: list[str]  # addresses as they were given, trimmed
    look: int = 0  # how many times these addresses have been put off before
    last_look: bool = False  # True: an address put off now gets its final verdict (unknown/put_off), unless unasked
    trace: bool = False


class PutOff(msgspec.Struct, kw_only=True, rename="camel"):
    """An address that must be looked at again later. `after`: seconds the server itself asked for, where it did.

    `unasked`: its turn at the mail host did not come in time, so this was no look at it.
    """

    index: int  # position in WorkMessage.emails
    reason: Reason
    after: float | None = None
    unasked: bool = False


class ResultMessage(_Message, kw_only=True):
    """The outcome of one WorkMessage: for each of its positions a finding, or a PutOff that names it.

    A finding is said once, however many addresses it is about, and addresses are not repeated: the gateway has them. So
    a message is a tenth of what its results are when they are written out.
    """

    SCHEMA: ClassVar[int] = 2

    schema: int = 2
    batch_id: str
    file_id: str
    org_id: str
    attempt: int
    look: int = 0
    findings: list[Finding]
    found: list[int | None]  # by position: which finding; None: put off
    checked_at: list[str]  # by position, RFC 3339; empty where it was put off
    normalized: dict[int, str | None] = {}  # by position, where that is not the address as it was given
    traces: dict[int, list[dict[str, Any]]] = {}  # by position, where asked for
    put_off: list[PutOff] = []

    @classmethod
    def about(cls, work: WorkMessage, verdicts: Verdicts, put_off: list[PutOff]) -> Self:
        """The answer to `work`; there is no verdict exactly where a PutOff names the position."""
        places: dict[int, int] = {}  # by identity: that is what makes this cheap
        findings: list[Finding] = []
        found: list[int | None] = []
        for finding in verdicts.findings:
            if finding is None:
                found.append(None)
                continue
            place = places.get(id(finding))
            if place is None:
                place = places[id(finding)] = len(findings)
                findings.append(finding)
            found.append(place)
        return cls(
            batch_id=work.batch_id,
            file_id=work.file_id,
            org_id=work.org_id,
            attempt=work.attempt,
            look=work.look,
            findings=findings,
            found=found,
            checked_at=verdicts.checked_at,
            normalized=verdicts.normalized,
            traces={index: list(trace) for index, trace in verdicts.traces.items()},
            put_off=put_off,
        )


class BatchProgress(_Message, kw_only=True):
    """A hint while a batch runs: how many of its addresses have an answer. Redis channel `batch_progress`."""

    batch_id: str
    file_id: str
    attempt: int
    done: int
