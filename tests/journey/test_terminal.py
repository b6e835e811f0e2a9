"""The commands of the terminal: what they print, what they write, how they end."""

from __future__ import annotations

import asyncio
import csv
import json
import re
import socket
import sys
from pathlib import Path

import openpyxl
import pytest

from tests.journey.conftest import tag
from tests.journey.internet import Lab, people
from tests.journey.system import QUICK, Listening, run
from tests.servers.process import free_port


@pytest.fixture
def settings(slow_lab: Lab) -> dict[str, str]:
    return {**slow_lab.settings, "MAILVET_RETRY_DELAYS": "1,1", "MAILVET_PROBE_TIMEOUT": "2"}


async def test_a_list_is_verified_beside_itself(slow_lab: Lab, settings: dict[str, str], tmp_path: Path):
    emails = people(["quick0.example", "all.example"], 40)
    (tmp_path / "list.csv").write_text("email\n" + "\n".join([*emails, "nonsense", emails[0].upper()]) + "\n")
    told, sheet = await asyncio.gather(
        run("verify", "list.csv", folder=tmp_path, settings=settings),
        run("verify", "list.csv", "--json", "--out", "out/x.xlsx", folder=tmp_path, settings=settings),
    )
    assert told.returncode == 0, told.stderr
    assert "42 addresses, 40 different, 1 duplicates, 1 malformed" in told.stdout
    rows = list(csv.DictReader((tmp_path / "list.verified.csv").read_text().splitlines()))
    assert [row["email"] for row in rows] == [*emails, "nonsense", emails[0].upper()]
    wanted = {email: slow_lab.internet.verdict_of(email).status for email in emails}
    assert {row["email"]: row["mailvet_status"] for row in rows[:40]} == wanted
    assert sheet.returncode == 0, sheet.stderr
    summary = json.loads(sheet.stdout)
    assert summary["stats"]["processed"] == 41
    book = openpyxl.load_workbook(tmp_path / "out" / "x.xlsx", read_only=True)
    assert sum(1 for _ in book.worksheets[0].iter_rows()) == 43


async def test_addresses_are_verified_one_by_one(slow_lab: Lab, settings: dict[str, str], tmp_path: Path):
    good, bad = f"user1{tag()}@quick1.example", f"bad1{tag()}@quick1.example"
    table, lines, traced = await asyncio.gather(
        run("verify", good, bad, folder=tmp_path, settings=settings),
        run("verify", good, bad, "--json", folder=tmp_path, settings=settings),
        run("verify", good, "--trace", folder=tmp_path, settings=settings),
    )
    assert [one.returncode for one in (table, lines, traced)] == [0, 0, 0], (table.stderr, lines.stderr, traced.stderr)
    assert good in table.stdout
    assert "mailbox_missing" in table.stdout
    assert [(one["email"], one["status"]) for one in map(json.loads, lines.stdout.splitlines())] == [
        (good, "valid"),
        (bad, "invalid"),
    ]
    assert "RCPT TO:" in traced.stdout
    assert "250 2.1.5" in traced.stdout


async def test_what_cannot_start_says_so_in_one_line_and_ends_with_2(settings: dict[str, str], tmp_path: Path):
    port = free_port()
    away = {
        "MAILVET_AMQP_URL": f"amqp://guest:guest@127.0.0.1:{port}/",
        "MAILVET_REDIS_URL": f"redis://127.0.0.1:{port}/0",
        "MAILVET_MONGO_URL": f"mongodb://127.0.0.1:{port}/mailvet",
    }
    with socket.create_server(("127.0.0.1", 0)) as taken:
        tries = {name: ({name: url}, ("serve", "--port", "0")) for name, url in away.items()}
        tries["MAILVET_PORT"] = ({}, ("serve", "--port", str(taken.getsockname()[1])))
        tries["MAILVET_BATCH_SIZE"] = ({"MAILVET_BATCH_SIZE": "many"}, ("serve", "--port", "0"))
        ends = await asyncio.gather(
            *(
                run(*command, "--data", str(tmp_path / name), folder=tmp_path, settings={**settings, **wrong})
                for name, (wrong, command) in tries.items()
            )
        )
    for name, end in zip(tries, ends, strict=True):
        assert (end.returncode, end.stdout) == (2, ""), (name, end)
        assert re.fullmatch(rf"mailvet: {name}: [^\n]+\n", end.stderr), (name, end.stderr)


async def test_deployables_alone_need_their_servers(tmp_path: Path):
    gateway, validator = await asyncio.gather(
        *(run(sys.executable, "-m", name, folder=tmp_path, settings={}) for name in ("gateway", "validator"))
    )
    for end in (gateway, validator):
        assert end.returncode == 2
        assert re.fullmatch(r"mailvet: MAILVET_AMQP_URL: [^\n]+\n", end.stderr)


async def test_a_list_that_cannot_be_taken_ends_with_3(settings: dict[str, str], tmp_path: Path):
    (tmp_path / "empty.csv").write_text("")
    (tmp_path / "none.csv").write_text("name,town\nAnn,York\nBen,Leeds\n")
    ends = await asyncio.gather(
        *(
            run("verify", name, folder=tmp_path, settings=settings)
            for name in ("empty.csv", "none.csv", "not-there.csv")
        )
    )
    assert [end.returncode for end in ends] == [3, 3, 3]
    assert all("Traceback" not in end.stderr + end.stdout for end in ends)
    assert not (tmp_path / "none.verified.csv").exists()


async def test_replies_and_addresses_are_explained(tmp_path: Path):
    replies = [
        {"code": 550, "text": "5.1.1 no such user", "phase": "rcpt"},
        {"code": 452, "text": "4.2.2 mailbox full", "phase": "rcpt"},
        {"code": 554, "text": "5.7.1 blocked using a blocklist", "phase": "connect"},
    ]
    addresses = [{"address": "Ann@Example.com"}, {"address": "ann@@example.com"}]
    lines, one, many = await asyncio.gather(
        run("explain", "reply", "-", folder=tmp_path, settings={}, stdin="\n".join(map(json.dumps, replies)) + "\n{\n"),
        run("explain", "reply", "550 5.1.1 no such user", folder=tmp_path, settings={}),
        run("explain", "address", "-", folder=tmp_path, settings={}, stdin="\n".join(map(json.dumps, addresses))),
    )
    found = [json.loads(line) for line in lines.stdout.splitlines()]
    assert [answer.get("class") for answer in found] == ["mailbox_missing", "mailbox_full", "sender_blocked", None]
    assert "error" in found[3]
    assert json.loads(one.stdout)["class"] == "mailbox_missing"
    told = [json.loads(line) for line in many.stdout.splitlines()]
    assert [answer["valid"] for answer in told] == [True, False]
    assert told[0]["normalized"] == "Ann@example.com"
    assert told[1]["reason"]
    assert [end.returncode for end in (lines, one, many)] == [0, 0, 0]


async def test_a_running_system_explains_a_mail_host_and_its_credits(served: Listening, tmp_path: Path):
    data = str(served.program.folder / "data")
    alone = {**QUICK, "MAILVET_VALIDATOR_URLS": f"http://127.0.0.1:{free_port()}"}
    explained, checked, nobody = await asyncio.gather(
        run("explain", "mx", "mx.slow0.example", "--json", "--data", data, folder=tmp_path, settings={}),
        run("credits", "check", "--data", data, folder=tmp_path, settings={}),
        run("explain", "mx", "mx.a.example", "--data", str(tmp_path), folder=tmp_path, settings=alone),
    )
    assert explained.returncode == 0, explained.stderr
    answer = json.loads(explained.stdout)
    assert answer["mailHost"] == "mx.slow0.example"
    assert {"breaker", "limits"} <= set(answer)
    assert checked.returncode == 0, checked.stdout
    assert "agrees" in checked.stdout
    assert nobody.returncode == 2
    assert nobody.stderr.startswith("mailvet: MAILVET_VALIDATOR_URLS: ")
