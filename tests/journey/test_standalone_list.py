"""A list as it comes, through `mailvet serve`: right verdicts, right files back, nothing rude on the wire."""

from __future__ import annotations

import asyncio
import csv
import io
import json
import random
import time
from pathlib import Path

import openpyxl
import pytest

from tests.journey import system
from tests.journey.internet import Internet, Lab, people
from tests.journey.observer import Follower, Observer

CHARACTERS = {  # and how many addresses of the list are there
    "accepts_rejects": 700,
    "catch_all": 150,
    "greylisting": 120,
    "full": 120,
    "no_pipelining": 300,
    "too_many_errors": 150,
    "recipient_limit": 120,
    "disabled": 100,
    "blocks_us": 30,
    "silent": 10,
    "drops": 20,
    "down": 5,
}
OPTIONS = {"greylisting": {"wait": 0.8}, "too_many_errors": {"errors": 4}, "recipient_limit": {"recipients": 6}}
MALFORMED = ("no-at-sign", "a@@b.example", "two words@b.example", ".dot@b.example", "ann@-b.example")


@pytest.fixture
async def lab(tmp_path):
    internet = Internet()
    for character in CHARACTERS:
        site = f"{character.replace('_', '-')}.example"
        internet.site(site, character, **OPTIONS.get(character, {}))
    lab = Lab(tmp_path / "lab", internet)
    await lab.start()
    yield lab
    await lab.stop()


def the_rows() -> list[list[str]]:
    """Name, address, note: duplicates in other spellings, malformed ones between them, cells a spreadsheet would run."""
    emails: list[str] = []
    for character, count in CHARACTERS.items():
        emails += people([f"{character.replace('_', '-')}.example"], count)
    emails += [f"{kind}{n}@accepts-rejects.example" for kind in ("full", "disabled") for n in range(20)]
    emails += people(["nowhere-at-all.example"], 10)
    rows = [[f"Person {n}", email, "=1+1" if n % 100 == 0 else "a, b"] for n, email in enumerate(emails)]
    random.Random(7).shuffle(rows)
    for n in range(0, 600, 6):
        email = rows[n][1]
        rows.insert(n + 900, ["Again", email.title() if n % 12 else f" {email} ", ""])
    for n, bad in enumerate(MALFORMED):
        rows.insert(1 + 300 * n, ["Bad", bad, ""])
    return rows


def as_csv(rows: list[list[str]]) -> bytes:
    text = io.StringIO()
    csv.writer(text).writerows([["name", "e-mail", "note"], *rows])
    return text.getvalue().encode()


def firsts(rows: list[list[str]]) -> tuple[dict[str, int], dict[int, int]]:
    """First row of each address, by its spelling there, and for every later row the first of the same address."""
    seen: dict[str, int] = {}
    unique: dict[str, int] = {}
    again: dict[int, int] = {}
    for row, (_, email, _) in enumerate(rows, 2):
        key = email.strip().lower()
        if key in seen:
            again[row] = seen[key]
        else:
            seen[key] = row
            unique[email.strip()] = row
    return unique, again


async def test_a_list_of_two_thousand_goes_in_and_comes_back_right(lab: Lab, tmp_path: Path):
    rows = the_rows()
    unique, again = firsts(rows)
    emails = [email for email in unique if email not in MALFORMED]
    verdicts = lab.internet.verdicts(emails)
    served = system.serve(tmp_path, {**lab.settings, "MAILVET_BATCH_SIZE": "100"})
    began = time.time()
    await served.start()
    try:
        async with Observer(served.url) as observer:
            answer = await observer.send("people.csv", as_csv(rows))
            assert answer.status_code == 202, answer.text
            accepted = answer.json()
            assert (accepted["totalEmails"], accepted["uniqueEmails"]) == (len(rows), len(emails))
            assert (accepted["duplicates"], accepted["malformed"]) == (len(again), len(MALFORMED))
            follower = Follower(observer, accepted["fileId"])
            await follower.follow(45)
            results = await observer.check(accepted["fileId"], verdicts, MALFORMED)
            await check_events(observer, follower, results)
            await check_downloads(observer, accepted["fileId"], rows, results)
        assert await served.terminate() == 0
    finally:
        await served.program.close()
    await lab.check_manners(emails, began)


async def check_events(observer: Observer, follower: Follower, results: list[dict[str, object]]) -> None:
    names = {event.name for event in follower.events}
    assert names == {"progress", "stats", "emails", "done"}
    assert follower.connections == 1
    told = [event.data["processed"] for event in follower.events if event.name == "progress"]
    assert told == sorted(told)
    assert len(set(told)) > 3
    assert follower.events[-1].data["status"] == "completed"
    announced = follower.emails()
    recorded = {(result["email"], result["status"]) for result in results if result["reason"] != "invalid_syntax"}
    assert recorded <= set(announced)
    assert set(announced.values()) == {1}


async def check_downloads(
    observer: Observer, file_id: str, rows: list[list[str]], results: list[dict[str, object]]
) -> None:
    as_given, as_sheet, as_json, as_lines = await asyncio.gather(
        *(observer.download(file_id, format_) for format_ in ("csv", "xlsx", "json", "jsonl"))
    )
    by_email = {result["email"]: result for result in results}
    listed = json.loads(as_json)
    listed = listed if isinstance(listed, list) else listed["results"]
    lines = [json.loads(line) for line in as_lines.splitlines()]
    for told in (listed, lines):
        assert {result["email"]: result["status"] for result in told} == {
            email: result["status"] for email, result in by_email.items()
        }
        assert len(told) == len(results)
    table = list(csv.reader(io.StringIO(as_given.decode())))
    sheet = openpyxl.load_workbook(io.BytesIO(as_sheet), read_only=True).worksheets[0]
    cells = [["" if cell is None else str(cell) for cell in row] for row in sheet.iter_rows(values_only=True)]
    check_table(table, rows, by_email)
    check_table(cells, rows, by_email)


def check_table(table: list[list[str]], rows: list[list[str]], by_email: dict[object, dict[str, object]]) -> None:
    """The upload's rows in order with the verdict of each; those of duplicates say where the first is."""
    _, again = firsts(rows)
    head, *body = table
    assert head[:3] == ["name", "e-mail", "note"]
    assert all(name.startswith("mailvet_") for name in head[3:])
    status, reason, first = (head.index(f"mailvet_{name}") for name in ("status", "reason", "duplicate_of"))
    assert len(body) == len(rows)
    for row, (given, back) in enumerate(zip(rows, body, strict=True), 2):
        assert back[0] == given[0]
        assert back[1].strip().strip("'") == given[1].strip()
        assert back[2] == ("'=1+1" if given[2] == "=1+1" else given[2])
        source = rows[again.get(row, row) - 2][1].strip()
        assert back[status] == by_email[source]["status"], (row, given)
        assert back[reason] == by_email[source]["reason"]
        assert back[first] == (str(again[row]) if row in again else "")
