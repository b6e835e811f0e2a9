"""`mailvet verify`: a list file or addresses through the whole pipeline, with a bar and a table.

Without --url an own standalone system is started for the run, in a folder that is removed afterwards; with it a running
gateway is used. Results of a list go to --out, by default beside the list.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import tempfile
from collections.abc import AsyncIterator, Coroutine
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
from rich.console import Console

from services.cli import show
from services.cli.client import Client, Refused
from shared.errors import SettingsError
from shared.settings import Settings

EXIT_UNFINISHED = 1
EXIT_REFUSED = 3
FORMATS = {".csv": "csv", ".json": "json", ".jsonl": "jsonl", ".ndjson": "jsonl", ".xlsx": "xlsx"}
MAX_ADDRESSES = 10_000  # of one validate-batch call


@dataclass(frozen=True)
class Request:
    """What the user typed."""

    what: list[str]
    out: Path | None = None
    column: str | None = None
    trace: bool = False
    as_json: bool = False
    url: str | None = None


async def verify(settings: Settings, request: Request, stop: asyncio.Event) -> int:
    """Returns the exit code (services.cli.main). Raises SettingsError for an --out of no known ending."""
    if request.out is not None and request.out.suffix.lower() not in FORMATS:
        raise SettingsError("--out", f"ends in none of {', '.join(FORMATS)}")
    console = Console(stderr=request.as_json)
    return await until_stopped(_verify(settings, request, console), stop, console)


async def until_stopped(work: Coroutine[Any, Any, int], stop: asyncio.Event, console: Console) -> int:
    """The exit code of `work`, or EXIT_UNFINISHED once a signal came; problems of the gateway become one line."""
    working = asyncio.create_task(work, name="work")
    stopped = asyncio.create_task(stop.wait(), name="stop")
    try:
        await asyncio.wait({working, stopped}, return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            console.print("stopped before the end")
            return EXIT_UNFINISHED
        return await working
    except Refused as error:
        Console(stderr=True, soft_wrap=True).print(f"mailvet: {error}", markup=False, highlight=False)
        return EXIT_REFUSED
    except httpx.TransportError as error:
        raise SettingsError("--url", f"the gateway does not answer ({type(error).__name__})") from error
    finally:
        stopped.cancel()
        working.cancel()
        await asyncio.gather(working, stopped, return_exceptions=True)


async def _verify(settings: Settings, request: Request, console: Console) -> int:
    source = _list_file(request.what)
    if source is None and not all("@" in word for word in request.what):
        missing = next(word for word in request.what if "@" not in word)
        raise Refused({"detail": f"There is no file {missing}, and it is not an address.", "code": "no_such_file"}, 404)
    async with _gateway(settings, request, console) as client:
        if source is not None:
            return await verify_list(client, source, request, console)
        return await _verify_addresses(client, request, console)


def _list_file(what: list[str]) -> Path | None:
    if len(what) == 1 and Path(what[0]).is_file():
        return Path(what[0])
    return None


@contextlib.asynccontextmanager
async def _gateway(settings: Settings, request: Request, console: Console) -> AsyncIterator[Client]:
    if request.url is not None:
        async with Client(request.url, settings.api_key) as client:
            yield client
        return
    from services.standalone.system import standalone  # noqa: PLC0415 - not loaded where a remote gateway is used

    with tempfile.TemporaryDirectory(prefix="mailvet-") as folder:
        own = settings.model_copy(
            update={
                "data_dir": Path(folder),
                "host": "127.0.0.1",
                "port": 0,
                "validator_port": 0,
                "requests_per_minute": 0,
            }
        )
        async with standalone(own) as system, Client(system.url, system.api_key) as client:
            yield client
            if (sentence := await system.blocked_port()) is not None:
                console.print(f"[yellow]{sentence}[/yellow]")


async def verify_list(client: Client, source: Path, request: Request, console: Console) -> int:
    """Upload, follow, download, tabulate. Also what `mailvet demo` runs."""
    options = {"column": request.column} if request.column else {}
    with source.open("rb") as content:
        accepted = await client.upload(source.name, content, options)
    if not request.as_json:
        console.print(
            f"{source.name}: {accepted['totalEmails']:,} addresses, {accepted['uniqueEmails']:,} different, "
            f"{accepted['duplicates']:,} duplicates, {accepted['malformed']:,} malformed"
        )
    finished = await _follow(client, accepted["fileId"], accepted["uniqueEmails"] + accepted["malformed"], console)
    out = request.out or source.with_name(source.stem + ".verified.csv")
    out.parent.mkdir(parents=True, exist_ok=True)
    await client.download(accepted["fileId"], FORMATS.get(out.suffix.lower(), "csv"), out)
    stats = await client.call("GET", f"/api/v1/files/{accepted['fileId']}/stats")
    if request.as_json:
        print(json.dumps({"file": accepted, "stats": stats, "out": str(out)}))
    else:
        console.print(show.verdict_table(stats), show.reason_table(stats))
        console.print(f"results: {out}", markup=False, soft_wrap=True)
    return 0 if finished else EXIT_UNFINISHED


async def _follow(client: Client, file_id: str, total: int, console: Console) -> bool:
    """Show a bar until the end; whether the file was completed."""
    with show.progress_bar(console) as bar:
        task = bar.add_task("verifying", total=total, note="")
        async for event in client.follow(file_id):
            if event.name in ("progress", "done", "failed"):
                bar.update(task, completed=event.data.get("processed", 0), note=_note(event.data))
            if event.name in ("done", "failed"):
                return event.name == "done" and event.data.get("status", "completed") == "completed"
    return False


def _note(data: dict[str, Any]) -> str:
    eta = data.get("etaSeconds")
    return f"{eta:.0f} s left" if isinstance(eta, int | float) and eta > 0 else ""


async def _verify_addresses(client: Client, request: Request, console: Console) -> int:
    if len(request.what) > MAX_ADDRESSES:
        detail = f"{len(request.what)} addresses are too many for a command line; put them in a file."
        raise Refused({"detail": detail, "code": "too_many"}, 422)
    body: dict[str, Any] = {"emails": request.what}
    if request.trace:
        body["trace"] = True
    accepted = await client.call("POST", "/api/v1/validate-batch", json=body)
    finished = await _follow(client, accepted["fileId"], len(request.what), console)
    batch = await client.call("GET", f"/api/v1/validate-batch/{accepted['batchId']}")
    results: list[dict[str, Any]] = batch["results"]
    _show_results(results, request, console)
    if request.out is not None:
        request.out.parent.mkdir(parents=True, exist_ok=True)
        format_ = FORMATS.get(request.out.suffix.lower(), "csv")
        await client.download(accepted["fileId"], format_, request.out)
    return 0 if finished else EXIT_UNFINISHED


def _show_results(results: list[dict[str, Any]], request: Request, console: Console) -> None:
    if request.as_json:
        for result in results:
            print(json.dumps(result, ensure_ascii=False))
    elif request.trace:
        for result in results:
            show.print_trace(console, result)
    else:
        console.print(show.address_table(results))
