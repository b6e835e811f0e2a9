"""Whoever watches from outside: by the public API alone, against what was uploaded and what the lab was told to say.

`check` asserts, for one list that ended well: every unique address and every malformed row has one verdict, the right
one; counts, statistics and credits say the same; it was charged once, and nothing is held.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, NamedTuple, Self

import httpx

from tests.journey.internet import BILLABLE, MALFORMED, Verdict
from tests.journey.system import API_KEY, until

STATUSES = ("valid", "invalid", "risky", "unknown")
ENDED = ("completed", "cancelled", "failed")


class Away(Exception):
    """The gateway says that it cannot answer now."""


class Event(NamedTuple):
    id: int
    name: str
    data: dict[str, Any]


@dataclass
class List:
    """What is uploaded: addresses as they are written, in order, and those of them that are no address."""

    emails: Sequence[str]
    malformed: Sequence[str] = ()
    name: str = "list.csv"
    unique: list[str] = field(init=False)

    def __post_init__(self) -> None:
        seen: dict[str, str] = {}
        for email in self.emails:
            seen.setdefault(email.strip().lower(), email.strip())
        self.unique = list(seen.values())

    @property
    def content(self) -> bytes:
        return ("email\n" + "".join(f"{email}\n" for email in (*self.emails, *self.malformed))).encode()


class Observer:
    """`async with Observer(url) as observer:`. Calls that fail because nobody answers raise httpx.TransportError."""

    def __init__(self, url: str, key: str = API_KEY) -> None:
        self._http = httpx.AsyncClient(
            base_url=url, headers={"Authorization": f"Bearer {key}"}, timeout=30, trust_env=False
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._http.aclose()

    # --- calls ---
    async def ask(self, method: str, path: str, **arguments: Any) -> httpx.Response:
        return await self._http.request(method, path, **arguments)

    async def get(self, path: str, **params: Any) -> Any:
        """The JSON of a 2xx answer."""
        answer = await self.ask("GET", path, params=params)
        assert answer.is_success, answer.text
        return answer.json()

    async def send(self, name: str, content: bytes) -> httpx.Response:
        return await self.ask("POST", "/api/v1/files", files={"file": (name, content)})

    async def upload(self, given: List) -> dict[str, Any]:
        """The answer to the upload, which counted right."""
        answer = await self.send(given.name, given.content)
        assert answer.status_code == 202, answer.text
        accepted: dict[str, Any] = answer.json()
        assert accepted["uniqueEmails"] == len(given.unique)
        assert accepted["duplicates"] == len(given.emails) - len(given.unique)
        assert accepted["malformed"] == len(given.malformed)
        assert accepted["totalEmails"] == len(given.emails) + len(given.malformed)
        assert accepted["creditsReserved"] == len(given.unique)
        assert answer.headers["Location"] == f"/api/v1/files/{accepted['fileId']}"
        return accepted

    async def file(self, file_id: str) -> dict[str, Any]:
        found: dict[str, Any] = await self.get(f"/api/v1/files/{file_id}")
        return found

    async def processed(self, file_id: str, at_least: int, seconds: float = 30) -> dict[str, Any]:
        """The file in mid-run: so many results are there, and it is not done."""

        async def look() -> dict[str, Any] | None:
            file = await self.file(file_id)
            return file if file["processed"] >= at_least or file["status"] in ENDED else None

        file = await until(look, seconds, f"{at_least} addresses are done", every=0.1)
        assert file is not None
        assert file["status"] == "processing", f"meant to be in mid-run, it is {file['status']}"
        return file

    async def ended(self, file_id: str, seconds: float = 60) -> dict[str, Any]:
        """The file once it has ended; a server that is away meanwhile is waited for."""

        async def look() -> dict[str, Any] | None:
            try:
                answer = await self.ask("GET", f"/api/v1/files/{file_id}")
            except httpx.TransportError:
                return None
            if answer.status_code == 503:
                return None
            assert answer.is_success, answer.text
            file: dict[str, Any] = answer.json()
            return file if file["status"] in ENDED else None

        file = await until(look, seconds, "the file has ended", every=0.2)
        assert file is not None
        return file

    async def pages(self, path: str, **params: Any) -> list[dict[str, Any]]:
        """Every item of a paged list."""
        items: list[dict[str, Any]] = []
        cursor: dict[str, Any] = {}
        while True:
            page = await self.get(path, **params, **cursor)
            items += page["items"]
            if page["nextCursor"] is None:
                return items
            cursor = {"cursor": page["nextCursor"]}

    async def results(self, file_id: str) -> list[dict[str, Any]]:
        return await self.pages(f"/api/v1/files/{file_id}/emails", limit=500)

    async def ledger(self) -> list[dict[str, Any]]:
        return await self.pages("/api/v1/credits/ledger", limit=100)

    async def download(self, file_id: str, format_: str) -> bytes:
        answer = await self.ask("GET", f"/api/v1/files/{file_id}/download", params={"format": format_})
        assert answer.status_code == 200, answer.text
        return answer.content

    async def events(self, file_id: str, last: int | None = None) -> AsyncIterator[Event]:
        """One connection's events, until it ends."""
        headers = {} if last is None else {"Last-Event-ID": str(last)}
        async with self._http.stream("GET", f"/api/v1/files/{file_id}/events", headers=headers) as answer:
            if answer.status_code == 503:
                raise Away
            assert answer.status_code == 200
            assert answer.headers["content-type"].startswith("text/event-stream")
            told: dict[str, str] = {}
            async for line in answer.aiter_lines():
                if line:
                    name, _, value = line.partition(": ")
                    told[name] = value
                else:
                    if "data" in told:
                        yield Event(int(told["id"]), told["event"], json.loads(told["data"]))
                    told = {}

    # --- what must hold ---
    async def check(
        self, file_id: str, verdicts: Mapping[str, Verdict], malformed: Sequence[str] = ()
    ) -> list[dict[str, Any]]:
        """Asserts what the module says; `verdicts` are those of the unique addresses. Returns the results."""
        file = await self.file(file_id)
        assert file["status"] == "completed", file
        results = await self.results(file_id)
        _check_verdicts(results, verdicts, malformed)
        counts = Counter(result["status"] for result in results)
        stats = await self.get(f"/api/v1/files/{file_id}/stats")
        for told in (file, stats):
            assert {status: told[status] for status in STATUSES} == {status: counts[status] for status in STATUSES}
            assert told["processed"] == len(results)
        assert stats["total"] == len(results)
        assert stats["reasons"] == Counter(result["reason"] for result in results)
        assert file["progress"] == 1.0
        assert file["completedBatches"] == file["totalBatches"]
        await self.check_charge(file, billable(results))
        return results

    async def check_charge(self, file: Mapping[str, Any], charge: int) -> None:
        """`file` cost `charge` credits, once, and holds nothing; all entries together make the balance."""
        assert file["creditsCharged"] == charge
        entries = await self.ledger()
        credits_ = await self.get("/api/v1/credits")
        assert sum(entry["amount"] for entry in entries) == credits_["balance"]
        assert sum(entry["reserved"] for entry in entries) == credits_["reserved"]
        assert credits_["available"] == credits_["balance"] - credits_["reserved"] >= 0
        mine = [entry for entry in entries if entry["fileId"] == file["fileId"]]
        held = file["creditsReserved"]
        expected = Counter({"hold": held, "capture": charge, "release": held - charge})
        assert Counter({entry["kind"]: entry["credits"] for entry in mine}) == +expected
        assert len(mine) == len(+expected)
        assert sum(entry["amount"] for entry in mine) == -charge
        assert sum(entry["reserved"] for entry in mine) == 0

    async def nothing_held(self) -> bool:
        return bool((await self.get("/api/v1/credits"))["reserved"] == 0)


def billable(results: Sequence[Mapping[str, Any]]) -> int:
    """Credits that these results cost: unknown and bad syntax cost nothing."""
    return sum(result["status"] in BILLABLE and result["reason"] != "invalid_syntax" for result in results)


def _check_verdicts(
    results: Sequence[Mapping[str, Any]], verdicts: Mapping[str, Verdict], malformed: Sequence[str]
) -> None:
    found = Counter(result["email"] for result in results)
    assert found == Counter([*verdicts, *malformed]), "every address once"
    for result in results:
        right = MALFORMED if result["reason"] == "invalid_syntax" else verdicts[result["email"]]
        assert (result["reason"] != "invalid_syntax") == (result["email"] in verdicts)
        assert result["status"] == right.status, (result["email"], result["reason"], result["details"])
        assert result["reason"] in right.reasons, (result["email"], result["reason"], result["details"])


class Follower:
    """Reads a file's events across every break, and sees to it that ids only grow and every stream begins with the state.

    With `drop_after`, it hangs up itself after so many events.
    """

    def __init__(self, observer: Observer, file_id: str, drop_after: int | None = None) -> None:
        self._observer, self._file_id, self._drop_after = observer, file_id, drop_after
        self.events: list[Event] = []
        self.connections = 0

    async def follow(self, seconds: float = 60) -> None:
        """Until `done` or `failed`."""
        deadline = time.monotonic() + seconds
        while not self._over():
            assert time.monotonic() < deadline, f"no end of events within {seconds} s"
            try:
                async with asyncio.timeout(seconds):
                    await self._connection()
            except (httpx.TransportError, Away):
                await asyncio.sleep(0.05)

    def _over(self) -> bool:
        return bool(self.events) and self.events[-1].name in ("done", "failed")

    async def _connection(self) -> None:
        last = self.events[-1].id if self.events else None
        count = 0
        async for event in self._observer.events(self._file_id, last):
            if count == 0:
                self.connections += 1
                assert event.name == "progress", "a stream begins with the present state"
            assert not self.events or event.id > self.events[-1].id, "ids only grow"
            self.events.append(event)
            count += 1
            if self._over() or count == self._drop_after:
                return

    def emails(self) -> Counter[tuple[str, str]]:
        """(address, status) as the `emails` events told them; counts should all be 1."""
        return Counter(
            (item["email"], item["status"])
            for event in self.events
            if event.name == "emails"
            for item in event.data["items"]
        )
