"""The uploader's own table comes back with verdicts beside it, in four formats, over a real socket."""

from __future__ import annotations

import asyncio
import contextlib
import csv
import io
import json
import zipfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import openpyxl
import pytest

from gateway.batches.store import accept_file, store_batches
from gateway.collections import FILES
from gateway.downloads.cells import APPENDED
from gateway.downloads.routes import router as downloads
from gateway.uploads.folder import erase_folders
from gateway.uploads.keep_list import LIST_TABLE, keep_list
from gateway.uploads.plan import assign_fates, plan_batches
from gateway.uploads.routes import router as uploads
from shared.documents import Change
from tests.integration.list_gateway import ORG, ListGateway


@pytest.fixture
async def gateway(tmp_path: Path) -> AsyncIterator[ListGateway]:
    async with ListGateway(tmp_path, uploads, downloads) as gateway:
        yield gateway


def verdict(email: str, row: int, status: str = "valid", **details: Any) -> dict[str, Any]:
    return {
        "email": email,
        "normalized": email,
        "status": status,
        "is_valid": status == "valid",
        "risk_level": "low",
        "reason": "accepted" if status == "valid" else "mailbox_missing",
        "verify_status": status,
        "score": 95 if status == "valid" else 0,
        "suggestion": None,
        "details": {
            "dns": {"mx": ["mx.b.example"]},
            "smtp": {"code": 250 if status == "valid" else 550},
            "flags": {"role": False, "free": True},
            "provider": "other",
            "checked_at": "2026-01-01T00:00:00Z",
        }
        | details,
        "row": row,
    }


async def verified(gateway: ListGateway, content: bytes, name: str = "list.csv", **fields: str) -> str:
    """The id of an uploaded file whose addresses have verdicts: those with `no` in them invalid, the others valid."""
    answer = await gateway.upload(content, name, **fields)
    assert answer.status_code == 202, answer.text
    file_id: str = answer.json()["fileId"]
    await give_verdicts(gateway, file_id)
    return file_id


async def give_verdicts(gateway: ListGateway, file_id: str) -> None:
    for batch in await gateway.batches(file_id):
        if batch["status"] == "pending":
            pairs = zip(batch["emails"], batch["rows"], strict=True)
            results = [verdict(email, row, "invalid" if "no" in email else "valid") for email, row in pairs]
            await gateway.finish_batch(file_id, batch["no"], results)
    await gateway.documents.update(FILES, file_id, Change(set={"status": "completed"}))


async def download(gateway: ListGateway, file_id: str, form: str, **query: str) -> bytes:
    answer = await gateway.client.get(f"/api/v1/files/{file_id}/download", params={"format": form, **query})
    assert answer.status_code == 200, answer.text
    return answer.content


async def rows_of(gateway: ListGateway, file_id: str, delimiter: str = ",", **query: str) -> list[dict[str, str]]:
    text = (await download(gateway, file_id, "csv", **query)).decode("utf-8")
    return list(csv.DictReader(io.StringIO(text), delimiter=delimiter))


LIST = (
    "Name;E-Mail;Balance;Note\n"
    '"Lee; Ann";ann@b.example.com;-5;=1+1\n'
    "\n"
    "Bob;no.bob@b.example.com;1,5; @SUM(A1)\n"
    "Ann again;ANN@B.example.com;0;+49 170 1\n"
    "Nobody;not-an-address;;x;surplus\n"
)


async def test_a_csv_keeps_rows_columns_and_delimiter_and_says_what_was_found(gateway: ListGateway) -> None:
    file_id = await verified(gateway, LIST.encode())
    rows = await rows_of(gateway, file_id, ";")
    assert list(rows[0]) == ["Name", "E-Mail", "Balance", "Note", "column 5", *APPENDED]
    assert [row["Name"] for row in rows] == ["Lee; Ann", "Bob", "Ann again", "Nobody"]
    assert [row["E-Mail"] for row in rows][2:] == ["ANN@B.example.com", "not-an-address"]
    assert [row["Balance"] for row in rows] == ["-5", "1,5", "0", ""]
    assert [row["Note"] for row in rows] == ["'=1+1", "' @SUM(A1)", "'+49 170 1", "x"]
    assert [row["column 5"] for row in rows] == ["", "", "", "surplus"]
    assert [row["mailvet_status"] for row in rows] == ["valid", "invalid", "valid", "invalid"]
    assert [row["mailvet_reason"] for row in rows] == ["accepted", "mailbox_missing", "accepted", "invalid_syntax"]
    assert [row["mailvet_duplicate_of"] for row in rows] == ["", "", "2", ""]
    assert [row["mailvet_is_valid"] for row in rows] == ["true", "false", "true", "false"]
    assert rows[0]["mailvet_mx"] == "mx.b.example"
    assert rows[0]["mailvet_smtp_code"] == "250"
    assert rows[0]["mailvet_free"] == "true"
    assert rows[0]["mailvet_role"] == "false"


async def test_a_workbook_has_the_same_rows_as_strings(gateway: ListGateway) -> None:
    file_id = await verified(gateway, LIST.encode())
    book = openpyxl.load_workbook(io.BytesIO(await download(gateway, file_id, "xlsx")))
    cells = list(book.worksheets[0].iter_rows())
    expected = list(csv.reader(io.StringIO((await download(gateway, file_id, "csv")).decode()), delimiter=";"))
    assert [[cell.value or "" for cell in row] for row in cells] == expected
    assert {cell.data_type for row in cells for cell in row if cell.value is not None} == {"s"}


async def test_json_formats_hold_one_result_for_each_address_and_malformed_row(gateway: ListGateway) -> None:
    file_id = await verified(gateway, LIST.encode())
    whole = json.loads(await download(gateway, file_id, "json"))
    lines = [json.loads(line) for line in (await download(gateway, file_id, "jsonl")).splitlines()]
    assert whole == lines
    assert {(one["row"], one["email"], one["status"]) for one in whole} == {
        (2, "ann@b.example.com", "valid"),
        (4, "no.bob@b.example.com", "invalid"),
        (6, "not-an-address", "invalid"),
    }
    assert json.loads(await download(gateway, file_id, "json", status="risky")) == []


async def test_rows_can_be_chosen_by_status(gateway: ListGateway) -> None:
    file_id = await verified(gateway, LIST.encode())
    assert [row["Name"] for row in await rows_of(gateway, file_id, ";", status="invalid")] == ["Bob", "Nobody"]
    assert len(await rows_of(gateway, file_id, ";", status="valid, invalid")) == 4
    only = await download(gateway, file_id, "jsonl", status="valid")
    assert [json.loads(line)["row"] for line in only.splitlines()] == [2]
    wrong = await gateway.client.get(f"/api/v1/files/{file_id}/download", params={"status": "good"})
    assert wrong.status_code == 422


async def test_rows_without_a_verdict_are_pending_until_there_is_one(gateway: ListGateway) -> None:
    file_id = (await gateway.upload(b"email\nann@b.example.com\nbroken\n")).json()["fileId"]
    assert [row["mailvet_status"] for row in await rows_of(gateway, file_id)] == ["pending", "invalid"]
    assert [row["email"] for row in await rows_of(gateway, file_id, status="pending")] == ["ann@b.example.com"]
    await give_verdicts(gateway, file_id)
    assert [row["mailvet_status"] for row in await rows_of(gateway, file_id)] == ["valid", "invalid"]


async def test_rows_that_a_cancelled_file_never_came_to_say_so(gateway: ListGateway) -> None:
    file_id = (await gateway.upload(b"email\nann@b.example.com\n")).json()["fileId"]
    await gateway.documents.update(FILES, file_id, Change(set={"status": "cancelled"}))
    row = (await rows_of(gateway, file_id))[0]
    assert (row["mailvet_status"], row["mailvet_reason"]) == ("", "cancelled")


@pytest.mark.parametrize(
    ("encoding", "bom"), [("utf-8", b""), ("utf-8-sig", b"\xef\xbb\xbf"), ("utf-16", b"\xef\xbb\xbf"), ("cp1252", b"")]
)
async def test_a_download_is_utf_8_and_has_a_mark_where_the_upload_had_one(
    gateway: ListGateway, encoding: str, bom: bytes
) -> None:
    text = "email,name\r\nann@b.example.com,Zoë\r\nbob@b.example.com,Müller\r\n"
    file_id = await verified(gateway, text.encode(encoding))
    content = await download(gateway, file_id, "csv")
    assert content.startswith(bom + b"email,name,mailvet_status")
    assert "Zoë" in content.decode()


async def test_a_list_without_a_header_gets_one(gateway: ListGateway) -> None:
    file_id = await verified(gateway, b"ann@b.example.com\nno@b.example.com\n", "list.txt")
    rows = await rows_of(gateway, file_id)
    assert [(row["email"], row["mailvet_status"]) for row in rows] == [
        ("ann@b.example.com", "valid"),
        ("no@b.example.com", "invalid"),
    ]


def workbook(*rows: list[Any], empty_rows: int = 0) -> bytes:
    book = openpyxl.Workbook()
    book.active.title = "Empty"
    sheet = book.create_sheet("List")
    for _ in range(empty_rows):
        sheet.append([])
    for row in rows:
        sheet.append(row)
    out = io.BytesIO()
    book.save(out)
    return out.getvalue()


async def test_a_workbook_goes_in_and_comes_out(gateway: ListGateway) -> None:
    content = workbook(
        ["Id", "Email"], ["1\n2", "ann@b.example.com"], [2.5, "no@b.example.com"], [True, None], empty_rows=2
    )
    file_id = await verified(gateway, content, "list.xlsx")
    rows = await rows_of(gateway, file_id)
    assert [(row["Id"], row["Email"], row["mailvet_status"]) for row in rows] == [
        ("1\n2", "ann@b.example.com", "valid"),
        ("2.5", "no@b.example.com", "invalid"),
        ("TRUE", "", "invalid"),
    ]
    results = json.loads(await download(gateway, file_id, "json"))
    assert sorted(one["row"] for one in results) == [4, 5, 6]


async def test_a_cover_before_the_list_is_passed_over(gateway: ListGateway) -> None:
    book = openpyxl.Workbook()
    book.active.title = "About"
    book.active.append(["Export of 3 May, made by Ann @ Sales"])
    sheet = book.create_sheet("Members")
    for row in (["Name", "E-mail"], ["Ann", "ann@b.example.com"], ["Bob", "no@b.example.com"]):
        sheet.append(row)
    out = io.BytesIO()
    book.save(out)
    file_id = await verified(gateway, out.getvalue(), "members.xlsx")
    assert [(row["Name"], row["mailvet_status"]) for row in await rows_of(gateway, file_id)] == [
        ("Ann", "valid"),
        ("Bob", "invalid"),
    ]


def zipped(entries: dict[str, bytes]) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in entries.items():
            archive.writestr(name, content)
    return out.getvalue()


async def test_an_archive_of_one_list_is_that_list(gateway: ListGateway) -> None:
    content = zipped({"__MACOSX/._a.csv": b"x", "deep/../../a.csv": LIST.encode("utf-16")})
    file_id = await verified(gateway, content, "list.zip")
    assert [row["Name"] for row in await rows_of(gateway, file_id, ";")] == ["Lee; Ann", "Bob", "Ann again", "Nobody"]


async def test_lists_of_an_archive_are_laid_below_each_other(gateway: ListGateway) -> None:
    entries = {
        "a.csv": b"Name,Email\nAnn,ann@b.example.com\n",
        "b/b.txt": b"no@b.example.com\nANN@b.example.com\n",
        "c.xlsx": workbook(["E-Mail", "Name", "City"], ["cee@b.example.com", "Cee", "Bern"]),
    }
    file_id = await verified(gateway, zipped(entries), "list.zip")
    rows = await rows_of(gateway, file_id)
    assert list(rows[0])[:4] == ["file", "Name", "Email", "City"]
    assert [(row["file"], row["Name"], row["Email"], row["City"], row["mailvet_duplicate_of"]) for row in rows] == [
        ("a.csv", "Ann", "ann@b.example.com", "", ""),
        ("b.txt", "", "no@b.example.com", "", ""),
        ("b.txt", "", "ANN@b.example.com", "", "2"),
        ("c.xlsx", "Cee", "cee@b.example.com", "Bern", ""),
    ]


async def test_a_list_that_came_as_json_downloads_like_an_upload(gateway: ListGateway) -> None:
    emails = ["ann@b.example.com", "broken", "ANN@b.example.com", "no@b.example.com", ""]
    fates = assign_fates(enumerate(emails, 1))
    await asyncio.to_thread(keep_list, gateway.settings, "f1", emails, fates)
    file = {"_id": "f1", "orgId": ORG, "filename": "list", "status": "receiving", "totalEmails": 5, "table": LIST_TABLE}
    await gateway.documents.insert(FILES, file)
    await store_batches(gateway.documents, "f1", ORG, plan_batches(sorted(fates.unique), 100), fates.malformed)
    await accept_file(gateway.parts, "f1", 2)
    await give_verdicts(gateway, "f1")
    rows = await rows_of(gateway, "f1")
    assert [row["email"] for row in rows] == emails
    assert [row["mailvet_status"] for row in rows] == ["valid", "invalid", "valid", "invalid", "invalid"]
    assert rows[2]["mailvet_duplicate_of"] == "1"
    await gateway.documents.update(FILES, "f1", Change(set={"table": None}))
    assert [row["email"] for row in await rows_of(gateway, "f1")] == [emails[n] for n in (0, 1, 3, 4)]


async def test_a_finished_file_is_collected_once_and_erased_whole(gateway: ListGateway) -> None:
    file_id = await verified(gateway, LIST.encode())
    first, second = await asyncio.gather(*(download(gateway, file_id, "csv") for _ in range(2)))
    assert first == second
    kept = gateway.settings.data_dir / "exports" / file_id
    assert [path.name for path in kept.iterdir()] == ["final"]
    erase_folders(gateway.settings, file_id)
    erase_folders(gateway.settings, file_id)
    assert await gateway.on_disk() == []


async def test_downloads_are_sent_as_files_that_nobody_keeps(gateway: ListGateway) -> None:
    file_id = await verified(gateway, LIST.encode(), "Kunden; März.csv")
    answer = await gateway.client.get(f"/api/v1/files/{file_id}/download")
    assert answer.headers["content-disposition"] == (
        "attachment; filename=\"Kunden_ M_rz-mailvet.csv\"; filename*=UTF-8''Kunden%3B%20M%C3%A4rz-mailvet.csv"
    )
    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["content-type"].startswith("text/csv")


async def test_what_is_not_there_or_somebody_elses_is_404(gateway: ListGateway) -> None:
    file_id = await verified(gateway, LIST.encode())
    gateway.org_id = "org_other"
    for unknown in (file_id, "nothing", "..%2f..%2fetc"):
        answer = await gateway.client.get(f"/api/v1/files/{unknown}/download")
        assert answer.status_code == 404
    gateway.org_id = ORG
    await gateway.documents.update(FILES, file_id, Change(set={"eraseState": "running"}))
    assert (await gateway.client.get(f"/api/v1/files/{file_id}/download")).status_code == 404


async def test_a_download_that_cannot_be_made_is_a_problem(gateway: ListGateway) -> None:
    file_id = await verified(gateway, LIST.encode())
    (gateway.settings.data_dir / "uploads" / file_id / "plan.bin").unlink()
    answer = await gateway.client.get(f"/api/v1/files/{file_id}/download")
    assert (answer.status_code, answer.json()["code"]) == (503, "unavailable")


async def test_a_download_that_breaks_is_seen_to_be_cut_off(gateway: ListGateway) -> None:
    rows = b"".join(b"user%d@b.example.com,%s\n" % (n, b"x" * 200) for n in range(2_000))
    file_id = await verified(gateway, b"email,note\n" + rows)
    plan = gateway.settings.data_dir / "uploads" / file_id / "plan.bin"
    plan.write_bytes(plan.read_bytes()[:-4])
    with pytest.raises(httpx.RemoteProtocolError):
        await gateway.client.get(f"/api/v1/files/{file_id}/download")


async def test_whoever_goes_away_ends_the_writer_of_his_download(gateway: ListGateway) -> None:
    rows = b"".join(b"user%d@b.example.com,%s\n" % (n, b"x" * 10_000) for n in range(1_000))
    file_id = await verified(gateway, b"email,note\n" + rows)
    async with gateway.client.stream("GET", f"/api/v1/files/{file_id}/download") as answer:
        await anext(answer.aiter_raw())
        assert writers() == 1
    async with asyncio.timeout(5):
        while writers():
            await asyncio.sleep(0.01)


def writers() -> int:
    """Children of this process that write downloads."""
    count = 0
    for children in Path("/proc/self/task").glob("*/children"):
        for child in children.read_text().split():
            with contextlib.suppress(OSError):
                count += b"write_table" in Path(f"/proc/{child}/cmdline").read_bytes()
    return count
