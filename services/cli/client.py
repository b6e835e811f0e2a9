"""The public API as the terminal uses it: upload, follow, read. Works against any gateway, ours or a remote one."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Self

import httpx

from shared.errors import MailvetError

RECONNECTS = 10  # broken streams in a row before giving up


class Refused(MailvetError):
    """The gateway answered with a problem. `problem` is the RFC 9457 document."""

    temporary = False

    def __init__(self, problem: dict[str, Any], status: int) -> None:
        where = "".join(f", {key} {problem[key]}" for key in ("field", "line", "row") if problem.get(key) is not None)
        super().__init__(f"{problem.get('detail') or 'refused'} ({problem.get('code', status)}{where})")
        self.problem = problem
        self.status = status


@dataclass(frozen=True)
class Event:
    """One server-sent event, decoded."""

    id: str
    name: str
    data: dict[str, Any]


def _raise_for_problem(response: httpx.Response) -> None:
    if response.is_success:
        return
    try:
        problem = response.json()
    except ValueError:
        problem = {"detail": f"HTTP {response.status_code}"}
    raise Refused(problem if isinstance(problem, dict) else {}, response.status_code)


class Client:
    """Opened with `async with`; `key` is an API key or None where the gateway wants none."""

    def __init__(self, base_url: str, key: str | None) -> None:
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        self._http = httpx.AsyncClient(base_url=base_url, headers=headers, timeout=httpx.Timeout(30, read=600))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._http.aclose()

    async def call(self, method: str, path: str, **arguments: Any) -> Any:
        """The decoded JSON answer. Raises Refused for a problem, httpx.HTTPError when nobody answers."""
        response = await self._http.request(method, path, **arguments)
        _raise_for_problem(response)
        return response.json() if response.content else None

    async def upload(self, name: str, content: BinaryIO, options: dict[str, str]) -> dict[str, Any]:
        answer: dict[str, Any] = await self.call(
            "POST", "/api/v1/files", files={"file": (name, content, "application/octet-stream")}, data=options
        )
        return answer

    async def follow(self, file_id: str) -> AsyncIterator[Event]:
        """The file's events until `done` or `failed`, across broken connections (Last-Event-ID)."""
        last: str | None = None
        broken = 0
        while broken <= RECONNECTS:
            headers = {"Last-Event-ID": last} if last else {}
            try:
                async with self._http.stream(
                    "GET", f"/api/v1/files/{file_id}/events", headers=headers, timeout=httpx.Timeout(30, read=60)
                ) as response:
                    if not response.is_success:
                        await response.aread()
                        _raise_for_problem(response)
                    async for event in _events(response):
                        broken, last = 0, event.id or last
                        yield event
                        if event.name in ("done", "failed"):
                            return
            except httpx.TransportError:
                broken += 1
        raise Refused({"detail": "The stream of events broke and did not come back.", "code": "stream_broken"}, 503)

    async def download(self, file_id: str, format_: str, target: Path) -> None:
        """Written beside the target first, so that a broken transfer never looks like a whole one."""
        part = target.with_name(target.name + ".part")
        async with self._http.stream(
            "GET", f"/api/v1/files/{file_id}/download", params={"format": format_}
        ) as response:
            if not response.is_success:
                await response.aread()
                _raise_for_problem(response)
            with part.open("wb") as out:
                async for chunk in response.aiter_bytes():
                    out.write(chunk)
        part.replace(target)


async def _events(response: httpx.Response) -> AsyncIterator[Event]:
    """Server-sent events (WHATWG HTML, section 9.2.6) with JSON data."""
    id_, name, data = "", "message", list[str]()
    async for line in response.aiter_lines():
        if line:
            field, _, value = line.partition(":")
            value = value.removeprefix(" ")
            match field:
                case "id":
                    id_ = value
                case "event":
                    name = value
                case "data":
                    data.append(value)
        elif data:
            yield Event(id_, name, json.loads("\n".join(data)))
            name, data = "message", []
