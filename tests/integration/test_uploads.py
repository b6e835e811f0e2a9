"""Lists over a real socket: what is accepted, what is refused, and that a refusal leaves nothing behind."""

from __future__ import annotations

import asyncio
import io
import resource
import shutil
import zipfile
from collections.abc import AsyncIterator, Awaitable, Callable
from itertools import pairwise
from pathlib import Path

import httpx
import pytest

from gateway.accounts.caller import Caller
from gateway.batches.store import receiving_file, store_batches
from gateway.collections import FILES
from gateway.files.change import start
from gateway.problem import Problem
from gateway.uploads.folder import receiving
from gateway.uploads.keep_list import LIST_TABLE
from gateway.uploads.plan import PlannedBatch
from gateway.uploads.receive import Received
from gateway.uploads.routes import router
from gateway.uploads.submit import Upload, submit, sweep_leftovers
from tests.integration.list_gateway import ORG, ListGateway

LIMIT = 700_000


@pytest.fixture
async def gateway(tmp_path: Path) -> AsyncIterator[ListGateway]:
    async with ListGateway(tmp_path, router, max_upload_bytes=LIMIT, max_upload_rows=5_000) as gateway:
        yield gateway


@pytest.fixture(scope="module")
async def refusing(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[ListGateway]:
    """For tests after which nothing may be left."""
    folder = tmp_path_factory.mktemp("refusing")
    async with ListGateway(folder, router, max_upload_bytes=LIMIT, max_upload_rows=5_000) as gateway:
        yield gateway


async def nothing_is_left(gateway: ListGateway) -> bool:
    balance = await gateway.ledger.balance(ORG)
    return (await gateway.on_disk(), await gateway.files(), balance.reserved) == ([], [], 0)


async def until(condition: Callable[[], Awaitable[object]]) -> None:
    async with asyncio.timeout(5):
        while not await condition():
            await asyncio.sleep(0.01)


async def test_a_list_becomes_batches_grouped_by_domain_and_a_hold(gateway: ListGateway) -> None:
    rows = ["Name,E-Mail,City"]
    rows += [f'"Lee, {n}",user{n}@d{n % 7}.example.com,Bern' for n in range(250)]
    rows += ["Twice,USER3@D3.example.com,Bern", "Nobody,not-an-address,Bern", "", ",,"]
    answer = await gateway.upload("\n".join(rows).encode())
    body = answer.json()
    assert answer.status_code == 202
    assert answer.headers["location"] == f"/api/v1/files/{body['fileId']}"
    assert body | {"fileId": ""} == {
        "fileId": "",
        "filename": "list.csv",
        "status": "queued",
        "totalEmails": 252,
        "uniqueEmails": 250,
        "duplicates": 1,
        "malformed": 1,
        "creditsReserved": 250,
        "cost": 250,
        "test": False,
        "totalBatches": 4,
        "column": "E-Mail",
        "hasHeader": True,
        "delimiter": ",",
        "encoding": "utf-8",
    }
    batches = await gateway.batches(body["fileId"])
    pending = [batch for batch in batches if batch["status"] == "pending"]
    domains = [email.split("@")[1] for batch in pending for email in batch["emails"]]
    assert len(pending) == 3
    assert len(domains) == 250
    assert sum(a != b for a, b in pairwise(domains)) == 6
    row_of = {email: row for batch in pending for email, row in zip(batch["emails"], batch["rows"], strict=True)}
    assert row_of["user0@d0.example.com"] == 2
    assert row_of["user249@d4.example.com"] == 251
    assert [result["row"] for result in batches[-1]["results"]] == [253]
    assert (await gateway.ledger.balance(ORG)).reserved == 250
    assert gateway.announced == [body["fileId"]]
    assert await gateway.on_disk() == [body["fileId"]]


async def test_without_credits_nothing_is_kept(gateway: ListGateway) -> None:
    gateway.org_id = "org_poor"
    answer = await gateway.upload(b"email\nann@b.example.com\n")
    assert answer.status_code == 402
    assert answer.json()["code"] == "insufficient_credits"
    assert await gateway.files() == []
    assert await gateway.on_disk() == []


async def test_a_client_that_goes_away_leaves_nothing(refusing: ListGateway) -> None:
    _, writer = await asyncio.open_connection("127.0.0.1", refusing.port)
    writer.write(
        b"POST /api/v1/files HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n"
        b"Content-Type: multipart/form-data; boundary=b\r\n\r\n"
        b'--b\r\nContent-Disposition: form-data; name="file"; filename="a.csv"\r\n\r\nemail\r\n'
    )
    await writer.drain()
    await until(refusing.on_disk)
    writer.close()
    await until(lambda: nothing_is_left(refusing))


def zipped(**entries: bytes) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in entries.items():
            archive.writestr(name, content)
    return out.getvalue()


OLE = bytes.fromhex("d0cf11e0a1b11ae1") + b"\0" * 504
REFUSED: dict[str, tuple[str, bytes, int, str, set[str]]] = {
    "empty": ("a.csv", b"", 422, "empty_file", {"field"}),
    "blank lines only": ("a.csv", b"\n\r\n  \n", 422, "empty_file", {"field"}),
    "header only": ("a.csv", b"email,name\n", 422, "no_rows", {"line"}),
    "no e-mail column": ("a.csv", b"name,city\nAnn,Bern\nBob,Rome\n", 422, "no_email_column", {"columns", "field"}),
    "two candidates": ("a.csv", b"email,email2\na@x.de,b@x.de\nc@x.de,d@x.de\n", 422, "ambiguous_column", {"columns"}),
    "gzip called csv": ("a.csv", b"\x1f\x8b\x08\0\0\0\0\0\0\3", 415, "unsupported_type", {"field"}),
    "program called csv": ("a.csv", b"MZ" + bytes(range(256)) * 8, 415, "unsupported_type", {"field"}),
    "PDF called csv": ("a.csv", b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n", 415, "unsupported_type", {"field"}),
    "picture called csv": ("a.csv", b"RIFF\x24\0\0\0WEBPVP8 \x18\0\0\0\x30\1\0", 415, "unsupported_type", {"field"}),
    "tar called csv": ("a.csv", b"list.csv".ljust(512, b"\0"), 415, "unsupported_type", {"field"}),
    "zip called csv": ("a.csv", zipped(a=b"email\na@x.de\n"), 415, "wrong_type", {"field"}),
    "text called xlsx": ("a.xlsx", b"email\na@x.de\n", 415, "wrong_type", {"field"}),
    "text called zip": ("a.zip", b"email\na@x.de\n", 415, "wrong_type", {"field"}),
    "web page": ("a.csv", b"<!DOCTYPE html><p>a@x.de", 415, "unsupported_type", {"field"}),
    "quote never closed": (
        "a.csv",
        b'email,name\na@x.de,A\n"b@x.de,B\nc@x.de,C\n',
        422,
        "unterminated_quote",
        {"line"},
    ),
    "quote closed by the next one": (
        "a.csv",
        b'email,name\n"a@x.de,A\nb@x.de,B\nc@x.de,"Cee, C"\n',
        422,
        "unterminated_quote",
        {"line"},
    ),
    "NUL": ("a.csv", b"email\na@x.de\nb\0@x.de\n", 422, "nul_byte", {"line", "byteOffset"}),
    "large field": (
        "a.csv",
        b"email,note\na@x.de,x\nb@x.de," + b"x" * 131_073 + b"\n",
        422,
        "field_too_large",
        {"line", "field"},
    ),
    "endless line": ("a.csv", b"email\n" + b"x" * 600_000, 422, "line_too_long", {"line"}),
    "many columns": ("a.csv", b"," * 9_999 + b"\na@x.de" + b"," * 9_999, 422, "too_many_columns", {"line", "field"}),
    "undecodable": ("a.csv", b"email\na@x.de\nb\xff\xfe@x.de\n", 422, "undecodable", {"line", "byteOffset"}),
    "broken UTF-8": (
        "a.csv",
        "email,name\na@x.de,Zoë\nb@x.de,Ren".encode() + b"\xe9e\n",
        422,
        "undecodable",
        {"line", "byteOffset"},
    ),
    "too many rows": ("a.csv", b"email\n" + b"a@x.de\n" * 5_001, 422, "too_many_rows", {"line"}),
    "encrypted workbook": (
        "a.xlsx",
        OLE + "EncryptedPackage".encode("utf-16-le"),
        422,
        "encrypted",
        {"field"},
    ),
    "old workbook": ("a.xls", OLE, 415, "unsupported_type", {"field"}),
    "damaged archive": ("a.zip", zipped(a=b"email\na@x.de\n" * 99)[:60], 422, "bad_archive", {"field"}),
    "archive in an archive": (
        "a.zip",
        zipped(**{"b.zip": zipped(a=b"email\na@x.de\n")}),
        422,
        "nested_archive",
        {"entry"},
    ),
    "zip bomb": ("a.zip", zipped(**{"a.csv": b"\n" * 40_000_000}), 422, "zip_bomb", {"entry"}),
    "zip of too much": ("a.zip", zipped(**{"a.csv": b"user@example.com\n" * 42_000}), 413, "too_large", {"limit"}),
    "empty archive": ("a.zip", zipped(**{".DS_Store": b"x"}), 422, "empty_file", set()),
    "document": ("a.docx", zipped(**{"[Content_Types].xml": b"<x/>"}), 415, "unsupported_type", {"field"}),
    "damaged workbook": (
        "a.xlsx",
        zipped(**{"[Content_Types].xml": b"<x/>", "xl/workbook.xml": b"<nothing"}),
        422,
        "bad_workbook",
        {"field"},
    ),
}


@pytest.mark.parametrize("case", REFUSED)
async def test_what_cannot_be_read_is_refused_and_leaves_nothing(refusing: ListGateway, case: str) -> None:
    name, content, status, code, where = REFUSED[case]
    answer = await refusing.upload(content, name)
    problem = answer.json()
    assert (answer.status_code, problem["code"]) == (status, code), problem
    assert answer.headers["content-type"] == "application/problem+json"
    assert where <= problem.keys()
    assert await nothing_is_left(refusing)


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"column": "phone"}, "no_such_column"),
        ({"column": "7"}, "no_such_column"),
        ({"has_header": "maybe"}, "invalid_request"),
        ({f"f{n}": "x" for n in range(11)}, "too_many_fields"),
        ({"column": "x" * 65_537}, "field_too_large"),
    ],
)
async def test_options_that_do_not_fit_are_refused(refusing: ListGateway, fields: dict[str, str], code: str) -> None:
    answer = await refusing.upload(b"email,backup\na@x.de,b@x.de\n", **fields)
    assert answer.status_code in (400, 422)
    assert answer.json()["code"] == code
    assert await nothing_is_left(refusing)


@pytest.mark.parametrize("column", ["backup", "BACKUP", "2"])
async def test_the_column_can_be_named(gateway: ListGateway, column: str) -> None:
    answer = await gateway.upload(b"email,backup\na@x.de,b@x.de\n", column=column)
    assert answer.json()["column"] == "backup"
    assert (await gateway.batches(answer.json()["fileId"]))[0]["emails"] == ["b@x.de"]


async def test_a_body_over_the_limit_is_refused_before_it_is_stored(refusing: ListGateway) -> None:
    answer = await refusing.upload(b"email\n" + b"a@x.de\n" * 300_000)
    assert (answer.status_code, answer.json()["code"]) == (413, "too_large")
    assert await nothing_is_left(refusing)


async def test_a_file_over_the_limit_is_refused_while_it_streams(refusing: ListGateway) -> None:
    async def body() -> AsyncIterator[bytes]:
        yield b'--b\r\nContent-Disposition: form-data; name="file"; filename="a.csv"\r\n\r\nemail\r\n'
        for _ in range(LIMIT // 7_000 + 2):
            yield b"a@x.de\n" * 1_000
        yield b"\r\n--b--\r\n"

    headers = {"content-type": "multipart/form-data; boundary=b"}
    answer = await refusing.client.post("/api/v1/files", content=body(), headers=headers)
    assert (answer.status_code, answer.json()["code"]) == (413, "too_large")
    assert await nothing_is_left(refusing)


async def test_a_client_that_asks_first_need_not_send_what_is_too_large(refusing: ListGateway) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", refusing.port)
    writer.write(
        b"POST /api/v1/files HTTP/1.1\r\nHost: x\r\nContent-Length: 100000000\r\nExpect: 100-continue\r\n"
        b"Content-Type: multipart/form-data; boundary=b\r\n\r\n"
    )
    async with asyncio.timeout(5):
        answer = await reader.read()
    writer.close()
    assert answer.startswith(b"HTTP/1.1 413 ")
    assert b"\r\nconnection: close\r\n" in answer.lower()


async def multipart(gateway: ListGateway, *parts: str, kind: str = "multipart/form-data; boundary=b") -> httpx.Response:
    body = "".join(f"--b\r\n{part}\r\n" for part in parts) + "--b--\r\n"
    return await gateway.client.post("/api/v1/files", content=body.encode(), headers={"content-type": kind})


FILE = 'Content-Disposition: form-data; name="file"; filename="a.csv"\r\n\r\nemail\r\na@x.de\r\n'


@pytest.mark.parametrize(
    ("parts", "status", "code"),
    [
        ((FILE, FILE), 400, "too_many_files"),
        ((FILE.replace('"file"', '"list"'),), 400, "unexpected_file"),
        (('Content-Disposition: form-data; name="column"\r\n\r\n1',), 422, "missing_file"),
        (("Content-Type: text/csv\r\n\r\nemail",), 400, "bad_multipart"),
        (("X: " + "x" * 9_000 + "\r\n" + FILE,), 400, "bad_multipart"),
        ((), 422, "missing_file"),
    ],
)
async def test_bodies_that_are_not_one_file_are_refused(
    refusing: ListGateway, parts: tuple[str, ...], status: int, code: str
) -> None:
    answer = await multipart(refusing, *parts)
    assert (answer.status_code, answer.json()["code"]) == (status, code)
    assert await nothing_is_left(refusing)


async def test_a_body_that_is_not_multipart_is_refused(refusing: ListGateway) -> None:
    for kind, status in (("text/csv", 415), ("multipart/form-data", 400), ("", 415)):
        answer = await multipart(refusing, FILE, kind=kind)
        assert answer.status_code == status
    assert await nothing_is_left(refusing)


async def test_a_file_name_is_only_shown(gateway: ListGateway) -> None:
    answer = await multipart(gateway, FILE.replace("a.csv", "../../etc/\u202epasswd\tx.csv"))
    assert answer.json()["filename"] == "passwdx.csv"
    assert await gateway.on_disk() == [answer.json()["fileId"]]


async def test_the_same_key_gives_the_same_file(gateway: ListGateway) -> None:
    headers = {"Idempotency-Key": "once"}
    files = {"file": ("a.csv", b"email\na@x.de\n")}
    first = await gateway.client.post("/api/v1/files", files=files, headers=headers)
    again = await gateway.client.post("/api/v1/files", files=files, headers=headers)
    other = await gateway.client.post("/api/v1/files", files={"file": ("a.csv", b"email\nb@x.de\n")}, headers=headers)
    assert first.json() == again.json()
    assert first.headers["location"] == again.headers["location"]
    assert other.status_code == 422
    assert await gateway.on_disk() == [first.json()["fileId"]]
    assert (await gateway.ledger.balance(ORG)).reserved == 1


async def test_folders_that_nobody_receives_are_swept(gateway: ListGateway) -> None:
    kept = (await gateway.upload(b"email\na@x.de\n")).json()["fileId"]
    uploads = gateway.settings.data_dir / "uploads"
    for name in ("spool-crashed", "0123abcd"):
        (uploads / name).mkdir()
        (uploads / name / "upload").write_bytes(b"email\n")
    (uploads / "spool-crashed.lock").touch()
    with receiving(gateway.settings, "living") as folder:
        assert folder is not None
        folder.mkdir()
        assert await sweep_leftovers(gateway.parts) == 2
        assert await gateway.on_disk() == sorted([kept, "living", "living.lock"])
    assert await sweep_leftovers(gateway.parts) == 1
    assert await gateway.on_disk() == [kept]


async def test_a_disk_that_takes_no_more_is_507_and_nothing_is_left(gateway: ListGateway) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (600_000, hard))  # writing further fails as on a full disk
    try:
        answer = await gateway.upload(b"email\n" + b"a@x.de\n" * 95_000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert (answer.status_code, answer.json()["code"]) == (507, "disk_full")
    assert "retry-after" in answer.headers
    assert await nothing_is_left(gateway)


async def test_a_list_can_be_looked_at_before_it_is_paid_for(gateway: ListGateway) -> None:
    files = {"file": ("a.csv", b"email\na@x.de\nb@x.de\nbroken\n")}
    answer = await gateway.client.post("/api/v1/files", files=files, params={"start": "false"})
    body = answer.json()
    assert (answer.status_code, body["status"], body["creditsReserved"], body["cost"]) == (202, "ready", 0, 2)
    assert (await gateway.ledger.balance(ORG)).reserved == 0
    assert await gateway.batches(body["fileId"]) == []
    file = (await gateway.files())[0]
    assert (await start(gateway.parts, file))["status"] == "queued"
    assert (await gateway.ledger.balance(ORG)).reserved == 2
    assert [batch["status"] for batch in await gateway.batches(body["fileId"])] == ["pending", "done"]


async def test_a_crash_between_hold_and_batches_is_taken_up_by_the_same_key(gateway: ListGateway) -> None:
    file_id, content = "f" * 32, b"email\na@x.de\nb@y.de\n"
    left = receiving_file(
        file_id,
        ORG,
        kind="upload",
        filename="a.csv",
        created_at=1.0,
        total=2,
        unique=2,
        duplicates=0,
        malformed=0,
        table=LIST_TABLE,
    )
    await gateway.documents.insert(FILES, left)
    await gateway.ledger.hold(ORG, file_id, 2)
    batch = PlannedBatch(1, ["old@x.de"], [9])
    await store_batches(gateway.documents, file_id, ORG, [batch])
    first = await submit(gateway.parts, CALLER, file_id, spooled(gateway, content))
    again = await submit(gateway.parts, CALLER, file_id, spooled(gateway, content))
    assert first["status"] == again["status"] == "queued"
    assert sorted(row for one in await gateway.batches(file_id) for row in one["rows"]) == [2, 3]
    assert (await gateway.ledger.balance(ORG)).reserved == 2


async def test_a_hold_that_was_given_back_is_not_taken_for_a_new_one(gateway: ListGateway) -> None:
    file_id = "e" * 32
    await gateway.ledger.hold(ORG, file_id, 1)
    await gateway.ledger.release(ORG, file_id)
    with pytest.raises(Problem) as caught:
        await submit(gateway.parts, CALLER, file_id, spooled(gateway, b"email\na@x.de\n"))
    assert caught.value.status == 409
    assert await nothing_is_left(gateway)


CALLER = Caller(ORG, "dev", frozenset())


def spooled(gateway: ListGateway, content: bytes) -> Upload:
    spool = gateway.settings.data_dir / "uploads" / "spool"
    shutil.rmtree(spool, ignore_errors=True)
    spool.mkdir(parents=True)
    (spool / "upload").write_bytes(content)
    return Upload(spool, Received("a.csv", len(content), b""))
