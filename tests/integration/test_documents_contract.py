"""One contract, two document stores: the embedded SQLite file and a MongoDB wire server."""

from __future__ import annotations

import asyncio
import itertools
import os
import secrets
import signal
import sqlite3
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from shared.documents import Change, Collection, Document, Documents, Gt, Gte, In, Lt, Lte, Missing, Ne
from shared.documents.mongodb import MongoDocuments
from shared.documents.sqlite import SqliteDocuments
from shared.errors import DocumentsUnavailable
from tests.servers import MongoServer

THINGS = Collection(
    "Things",
    indexed=("owner", "rank", "state", "summary"),
    indexes=(("owner", "rank"), ("owner", "rank", "state", "summary")),
)
ACCOUNTS = Collection("Accounts")
BOTH = (THINGS, ACCOUNTS)


@pytest.fixture(params=["sqlite", pytest.param("mongodb", marks=pytest.mark.mongodb)])
def server(request: pytest.FixtureRequest) -> MongoServer | None:
    return request.getfixturevalue("mongo") if request.param == "mongodb" else None


@pytest.fixture
async def store(server: MongoServer | None, tmp_path: Path) -> AsyncIterator[Documents]:
    if server is None:
        async with SqliteDocuments(tmp_path / "documents.sqlite", BOTH) as documents:
            yield documents
    else:
        async with MongoDocuments(server.url_of("t" + secrets.token_hex(6)), BOTH) as documents:
            yield documents


async def ids(store: Documents, where: dict[str, Any], **options: Any) -> list[str]:
    return [document["_id"] async for document in store.scan(THINGS, where, **options)]


async def fill(store: Documents, **fields_by_id: Document) -> None:
    await store.insert_many(THINGS, [{"_id": id_, **fields} for id_, fields in fields_by_id.items()])


# --- insert, get, replace, delete ---
async def test_what_was_inserted_comes_back_as_it_was(store: Documents) -> None:
    document = {
        "_id": "a",
        "none": None,
        "yes": True,
        "whole": 2**53 + 1,
        "real": 1.5,
        "text": "grüße 例え \x00'\"",
        "list": [1, "two", {"three": [3.0]}],
        "object": {"gmail.com": 1, "inner": {"mx.example.org": [2]}},
    }
    assert await store.insert(THINGS, document) is True
    found = await store.get(THINGS, "a")
    assert found == document
    assert found is not None
    assert all(isinstance(found[name], type(value)) for name, value in document.items())


async def test_an_id_is_taken_once(store: Documents) -> None:
    assert await store.insert(THINGS, {"_id": "a", "n": 1}) is True
    assert await store.insert(THINGS, {"_id": "a", "n": 2}) is False
    assert await store.get(THINGS, "a") == {"_id": "a", "n": 1}


async def test_an_id_must_be_a_string(store: Documents) -> None:
    with pytest.raises(ValueError, match="_id"):
        await store.insert(THINGS, {"_id": 7})


async def test_insert_many_counts_those_whose_id_was_free(store: Documents) -> None:
    await store.insert(THINGS, {"_id": "b", "n": "old"})
    assert await store.insert_many(THINGS, [{"_id": id_, "n": "new"} for id_ in "abc"]) == 2
    assert await store.insert_many(THINGS, [{"_id": id_, "n": "newer"} for id_ in "abc"]) == 0
    assert await store.insert_many(THINGS, []) == 0
    assert await store.get(THINGS, "b") == {"_id": "b", "n": "old"}


async def test_replace_inserts_or_replaces_the_whole(store: Documents) -> None:
    await store.replace(THINGS, {"_id": "a", "owner": "x", "rank": 1})
    await store.replace(THINGS, {"_id": "a", "owner": "y"})
    assert await store.get(THINGS, "a") == {"_id": "a", "owner": "y"}
    assert await ids(store, {"rank": Missing()}) == ["a"]
    assert await ids(store, {"owner": "x"}) == []


async def test_delete_says_whether_there_was_something(store: Documents) -> None:
    await store.insert(THINGS, {"_id": "a"})
    assert await store.delete(THINGS, "a") is True
    assert await store.delete(THINGS, "a") is False
    assert await store.get(THINGS, "a") is None


async def test_delete_many_deletes_what_meets_the_condition_and_no_more(store: Documents) -> None:
    await store.insert_many(THINGS, [{"_id": f"{n:04}", "rank": n} for n in range(500)])
    assert await store.delete_many(THINGS, {"rank": Gte(50)}) == 450
    assert await store.count(THINGS, {}) == 50


# --- update ---
async def test_an_update_sets_increments_pushes_and_unsets_in_one_step(store: Documents) -> None:
    await store.insert(THINGS, {"_id": "a", "n": 1, "gone": 1, "tags": ["x"], "deep": {"kept": 1}})
    change = Change(
        set={"owner": "o", "deep.new.path": 5, "domains": {"gmail.com": 1}},
        inc={"n": 2, "made": -1, "deep.count": 1},
        push={"tags": "y", "fresh": {"a": 1}},
        unset=("gone", "never.there"),
    )
    after = await store.update(THINGS, "a", change)
    assert after == {
        "_id": "a",
        "n": 3,
        "tags": ["x", "y"],
        "deep": {"kept": 1, "new": {"path": 5}, "count": 1},
        "owner": "o",
        "domains": {"gmail.com": 1},
        "made": -1,
        "fresh": [{"a": 1}],
    }
    assert await store.get(THINGS, "a") == after
    assert await ids(store, {"owner": "o"}) == ["a"]


async def test_an_update_of_nothing_returns_none(store: Documents) -> None:
    assert await store.update(THINGS, "absent", Change(set={"n": 1})) is None
    assert await store.get(THINGS, "absent") is None


async def test_an_update_whose_condition_fails_changes_nothing(store: Documents) -> None:
    await store.insert(THINGS, {"_id": "a", "n": 1, "tags": ["x"]})
    for where in ({"n": 2}, {"n": Gt(1)}, {"tags": Ne("x")}, {"n": Missing()}, {"absent": 1}):
        assert await store.update(THINGS, "a", Change(inc={"n": 1}), where) is None, where
    assert await store.get(THINGS, "a") == {"_id": "a", "n": 1, "tags": ["x"]}


@pytest.mark.parametrize(
    "change",
    [Change(inc={"text": 1}), Change(push={"text": 1}), Change(set={"text.deeper": 1}), Change(set={"_id": "b"})],
)
async def test_a_change_that_does_not_fit_is_a_value_error_and_changes_nothing(
    store: Documents, change: Change
) -> None:
    await store.insert(THINGS, {"_id": "a", "text": "t"})
    with pytest.raises(ValueError):
        await store.update(THINGS, "a", change)
    assert await store.get(THINGS, "a") == {"_id": "a", "text": "t"}


async def test_an_account_is_never_oversold(store: Documents) -> None:
    await store.insert(ACCOUNTS, {"_id": "org", "available": 1_000, "holds": {}})

    async def hold(number: int) -> bool:
        change = Change(inc={"available": -30}, set={f"holds.f{number}": 30})
        condition = {"available": Gte(30), f"holds.f{number}": Missing()}
        return await store.update(ACCOUNTS, "org", change, condition) is not None

    won = sum(await asyncio.gather(*(hold(number) for number in range(100))))
    account = await store.get(ACCOUNTS, "org")
    assert account is not None
    assert won == 33
    assert account["available"] == 10
    assert len(account["holds"]) == 33


async def test_one_of_many_inserts_of_an_id_wins(store: Documents) -> None:
    outcomes = await asyncio.gather(*(store.insert(ACCOUNTS, {"_id": "grant", "n": n}) for n in range(20)))
    assert sum(outcomes) == 1


async def test_replacing_at_once_leaves_one_of_the_documents(store: Documents) -> None:
    await asyncio.gather(*(store.replace(THINGS, {"_id": "a", "rank": n}) for n in range(20)))
    assert await store.count(THINGS, {}) == 1
    assert await store.count(THINGS, {"rank": Gte(0)}) == 1


# --- conditions ---
ZOO: dict[str, Document] = {
    "false": {"rank": False},
    "five": {"rank": 5},
    "half": {"rank": 0.5},
    "list": {"rank": {"a": 1}},
    "missing": {},
    "null": {"rank": None},
    "one": {"rank": 1.0},
    "text": {"rank": "5"},
    "true": {"rank": True},
}


@pytest.mark.parametrize(
    ("condition", "expected"),
    [
        (5, {"five"}),
        (1, {"one"}),
        (True, {"true"}),
        (None, {"null"}),
        ("5", {"text"}),
        ({"a": 1}, {"list"}),
        (Missing(), {"missing"}),
        (In((5, "5", None)), {"five", "text", "null"}),
        (In(()), set()),
        (In((1, False)), {"one", "false"}),
        (Ne(5), set(ZOO) - {"five"}),
        (Ne(None), set(ZOO) - {"null"}),
        (Ne(True), set(ZOO) - {"true"}),
        (Lt(5), {"half", "one"}),
        (Lte(5), {"half", "one", "five"}),
        (Gt(0.5), {"one", "five"}),
        (Gte(0), {"half", "one", "five"}),
        (Gt("4"), {"text"}),
        (Lt("6"), {"text"}),
        ((Gt(0.5), Lt(5)), {"one"}),
        ((Ne("5"), Ne(5), Gte(1)), {"one"}),
    ],
    ids=repr,
)
async def test_a_condition_means_the_same_in_scans_counts_and_updates(
    store: Documents, condition: Any, expected: set[str]
) -> None:
    await fill(store, **ZOO)
    assert set(await ids(store, {"rank": condition})) == expected
    assert await store.count(THINGS, {"rank": condition}) == len(expected)
    updated = {
        id_ for id_ in ZOO if await store.update(THINGS, id_, Change(set={"hit": 1}), {"rank": condition}) is not None
    }
    assert updated == expected


async def test_a_list_meets_a_condition_by_any_of_its_members(store: Documents) -> None:
    await store.insert(THINGS, {"_id": "a", "tags": ["x", 5]})

    async def holds(condition: Any) -> bool:
        return await store.update(THINGS, "a", Change(inc={"n": 1}), {"tags": condition}) is not None

    assert [await holds(c) for c in ("x", In(("y", 5)), Gt(4), Ne("y"), ["x", 5])] == [True] * 5
    assert [await holds(c) for c in ("y", In(("y",)), Gt(5), Ne("x"), ["x"])] == [False] * 5


async def test_all_fields_of_a_condition_must_hold(store: Documents) -> None:
    await fill(store, a={"owner": "x", "rank": 1}, b={"owner": "x", "rank": 2}, c={"owner": "y", "rank": 1})
    assert await ids(store, {"owner": "x", "rank": 1}) == ["a"]
    assert await ids(store, {"owner": "x", "_id": Gt("a")}) == ["b"]


async def test_a_range_needs_a_number_or_a_string(store: Documents) -> None:
    for value in (None, True, [1]):
        with pytest.raises(ValueError, match="needs a number"):
            await store.count(THINGS, {"rank": Lt(value)})


async def test_a_field_that_is_not_declared_is_refused(store: Documents) -> None:
    with pytest.raises(ValueError, match="not declared"):
        await store.count(THINGS, {"undeclared": 1})
    with pytest.raises(ValueError, match="not declared"):
        await store.delete_many(THINGS, {"undeclared": 1})
    with pytest.raises(ValueError, match="not declared"):
        await ids(store, {"undeclared": 1})
    with pytest.raises(ValueError, match="not declared"):
        await ids(store, {}, sort="undeclared")


@pytest.mark.parametrize("text", ["'", '"; DROP TABLE "Things"; --', "$where", "\x00", "a.b"])
async def test_values_are_values_and_never_code(store: Documents, text: str) -> None:
    await fill(store, a={"owner": text, "rank": 1}, b={"owner": "other", "rank": 1})
    assert await ids(store, {"owner": text}) == ["a"]
    assert await store.count(THINGS, {}) == 2


# --- scans ---
async def test_a_scan_is_ordered_by_the_field_and_then_the_id(store: Documents) -> None:
    await fill(store, d={"rank": 1}, a={"rank": 2}, c={"rank": 1}, b={"rank": 10})
    assert await ids(store, {}) == ["a", "b", "c", "d"]
    assert await ids(store, {}, descending=True) == ["d", "c", "b", "a"]
    assert await ids(store, {}, sort="rank") == ["c", "d", "a", "b"]
    assert await ids(store, {}, sort="rank", descending=True) == ["b", "a", "d", "c"]


async def test_a_sorted_scan_leaves_out_what_has_no_place_in_the_order(store: Documents) -> None:
    await fill(store, **ZOO)
    assert await ids(store, {}, sort="rank") == ["half", "one", "five", "text"]


async def test_a_scan_goes_on_behind_the_last_document_seen(store: Documents) -> None:
    await store.insert_many(THINGS, [{"_id": f"{n:03}", "owner": "x", "rank": n // 4} for n in range(40)])
    for sort, descending in itertools.product(("_id", "rank"), (False, True)):
        seen: list[str] = []
        after = None
        while True:
            page = [
                document
                async for document in store.scan(
                    THINGS, {"owner": "x"}, sort=sort, descending=descending, after=after, limit=7
                )
            ]
            if not page:
                break
            seen += [document["_id"] for document in page]
            after = (page[-1][sort], page[-1]["_id"])
        assert seen == sorted((f"{n:03}" for n in range(40)), reverse=descending)


async def test_a_scan_longer_than_its_pages_sees_each_document_once(store: Documents) -> None:
    await store.insert_many(THINGS, [{"_id": f"{n:05}", "owner": "x", "rank": n % 7} for n in range(2_500)])
    expected = [f"{n:05}" for rank in range(7) for n in range(2_500) if n % 7 == rank]
    assert await ids(store, {"owner": "x"}, sort="rank") == expected
    assert await ids(store, {"owner": "x"}, sort="rank", fields=("rank",)) == expected
    assert await ids(store, {"owner": "x"}, limit=1_100, fields=("rank",)) == [f"{n:05}" for n in range(1_100)]


async def test_a_scan_of_fields_gives_only_these(store: Documents) -> None:
    summary = {"valid": 1, "domains": {"gmail.com": 2}}
    await fill(store, a={"owner": "x", "rank": None, "summary": summary, "more": 1}, b={"owner": "x"})
    declared = [d async for d in store.scan(THINGS, {"owner": "x"}, fields=("rank", "summary", "state"))]
    assert declared == [{"_id": "a", "rank": None, "summary": summary}, {"_id": "b"}]
    mixed = [d async for d in store.scan(THINGS, {"owner": "x"}, fields=("more", "owner"))]
    assert mixed == [{"_id": "a", "owner": "x", "more": 1}, {"_id": "b", "owner": "x"}]


async def test_a_scan_may_be_left_early_and_writes_go_on_beside_it(store: Documents) -> None:
    await store.insert_many(THINGS, [{"_id": f"{n:04}", "rank": n} for n in range(300)])
    scan = store.scan(THINGS, {}, sort="rank")
    first = await anext(scan)
    await asyncio.wait_for(store.update(THINGS, "0299", Change(set={"rank": 1_000})), 5)
    assert first["_id"] == "0000"
    await scan.aclose()  # type: ignore[attr-defined]
    assert await ids(store, {"rank": Gte(1_000)}) == ["0299"]


async def test_a_scan_with_a_limit_of_nothing_gives_nothing(store: Documents) -> None:
    await fill(store, a={})
    assert await ids(store, {}, limit=0) == []


# --- life ---
async def test_check_passes_while_the_store_is_open(store: Documents) -> None:
    await store.check()


@pytest.mark.mongodb
async def test_a_mongodb_that_is_not_there_is_said_at_once_and_without_its_password() -> None:
    with pytest.raises(DocumentsUnavailable) as caught:
        await MongoDocuments("mongodb://user:hunter2@127.0.0.1:1/x", BOTH, patience=0.2).__aenter__()
    assert "hunter2" not in str(caught.value)


@pytest.mark.mongodb
async def test_a_mongodb_that_was_killed_is_used_again_when_it_is_back(mongo: MongoServer) -> None:
    async with MongoDocuments(mongo.url_of("killed"), BOTH) as store:
        for number in range(20):
            await store.insert(THINGS, {"_id": f"{number:02}"})
        await mongo.kill()
        try:
            with pytest.raises(DocumentsUnavailable):
                await asyncio.wait_for(store.insert(THINGS, {"_id": "while away"}), 20)
        finally:
            await mongo.start()
        await store.check()
        assert await store.count(THINGS, {}) >= 20


async def test_a_closed_store_is_unavailable(tmp_path: Path) -> None:
    async with SqliteDocuments(tmp_path / "d.sqlite", BOTH) as store:
        pass
    with pytest.raises(DocumentsUnavailable):
        await store.get(THINGS, "a")
    with pytest.raises(DocumentsUnavailable):
        await store.insert(THINGS, {"_id": "a"})


async def test_a_file_that_is_no_database_is_unavailable(tmp_path: Path) -> None:
    path = tmp_path / "d.sqlite"
    path.write_bytes(b"not a database at all" * 100)
    with pytest.raises(DocumentsUnavailable):
        await SqliteDocuments(path, BOTH).__aenter__()


async def test_a_folder_that_cannot_be_made_is_unavailable(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(DocumentsUnavailable):
        await SqliteDocuments(tmp_path / "file" / "d.sqlite", BOTH).__aenter__()


async def test_a_full_disk_fails_the_write_and_leaves_the_store_usable(tmp_path: Path) -> None:
    async with SqliteDocuments(tmp_path / "d.sqlite", BOTH) as store:
        await store.insert(THINGS, {"_id": "before"})
        assert store._writer is not None
        full = await store._write(lambda c: c.execute("PRAGMA max_page_count=30").fetchone()[0])
        assert full == 30
        with pytest.raises(DocumentsUnavailable):
            await store.insert(THINGS, {"_id": "large", "text": "x" * 1_000_000})
        await store._write(lambda c: c.execute("PRAGMA max_page_count=100000").fetchone())
        assert await store.insert(THINGS, {"_id": "after"}) is True
        assert await ids(store, {}) == ["after", "before"]


async def test_a_locked_file_is_unavailable(tmp_path: Path) -> None:
    async with SqliteDocuments(tmp_path / "d.sqlite", BOTH) as store:
        await store._write(lambda c: c.execute("PRAGMA busy_timeout=20").fetchone())
        other = sqlite3.connect(tmp_path / "d.sqlite", isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(DocumentsUnavailable):
            await store.insert(THINGS, {"_id": "a"})
        other.execute("ROLLBACK")
        other.close()
        assert await store.insert(THINGS, {"_id": "a"}) is True


async def test_a_bad_change_in_a_group_fails_alone(tmp_path: Path) -> None:
    async with SqliteDocuments(tmp_path / "d.sqlite", BOTH) as store:
        await store.insert(THINGS, {"_id": "a", "text": "t", "n": 0})
        changes = [Change(inc={"text" if number % 2 else "n": 1}) for number in range(20)]
        outcomes = await asyncio.gather(*(store.update(THINGS, "a", c) for c in changes), return_exceptions=True)
        assert sum(isinstance(outcome, ValueError) for outcome in outcomes) == 10
        found = await store.get(THINGS, "a")
        assert found is not None
        assert found["n"] == 10


async def test_a_field_declared_later_is_filled_in(tmp_path: Path) -> None:
    async with SqliteDocuments(tmp_path / "d.sqlite", [Collection("Things")]) as store:
        await store.insert_many(Collection("Things"), [{"_id": str(n), "rank": n} for n in range(9)])
    async with SqliteDocuments(tmp_path / "d.sqlite", BOTH) as store:
        assert await ids(store, {"rank": Gte(7)}) == ["7", "8"]


async def test_a_scan_of_declared_fields_does_not_read_the_documents(tmp_path: Path) -> None:
    async with SqliteDocuments(tmp_path / "d.sqlite", BOTH) as store:
        await store.insert_many(
            THINGS, [{"_id": f"{n:04}", "owner": "x", "rank": n, "text": "x" * 100_000} for n in range(300)]
        )
    # documents made unreadable: a scan that touched one would fail
    tampered = sqlite3.connect(tmp_path / "d.sqlite", isolation_level=None)
    tampered.execute("UPDATE \"Things\" SET doc = x'00'")
    tampered.close()
    async with SqliteDocuments(tmp_path / "d.sqlite", BOTH) as store:
        ranks = [d["rank"] async for d in store.scan(THINGS, {"owner": "x"}, sort="rank", fields=("rank", "summary"))]
    assert ranks == list(range(300))


_WRITES_UNTIL_KILLED = """
import asyncio, sys
from pathlib import Path
from shared.documents import Change, Collection
from shared.documents.sqlite import SqliteDocuments

async def main():
    things = Collection("Things")
    async with SqliteDocuments(Path(sys.argv[1]), [things]) as store:
        await store.insert(things, {"_id": "counter", "n": 0})
        async def write(lane):
            for number in range(10**9):
                await store.insert(things, {"_id": f"{lane}.{number}", "text": "x" * 2000})
                await store.update(things, "counter", Change(inc={"n": 1}))
                print(f"{lane}.{number}", flush=True)
        await asyncio.gather(*(write(lane) for lane in range(8)))

asyncio.run(main())
"""


async def test_a_killed_writer_has_lost_nothing_that_was_acknowledged(tmp_path: Path) -> None:
    path = tmp_path / "d.sqlite"
    command = [sys.executable, "-c", _WRITES_UNTIL_KILLED, str(path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:  # noqa: ASYNC220 - nothing else runs
        assert child.stdout is not None
        told = [child.stdout.readline().strip() for _ in range(1_000)]
        os.kill(child.pid, signal.SIGKILL)
        told += [line.strip() for line in child.stdout if line.endswith("\n")]
    things = Collection("Things")
    async with SqliteDocuments(path, [things]) as store:
        kept = {document["_id"] async for document in store.scan(things, {}, fields=())}
        counter = await store.get(things, "counter")
    assert counter is not None
    assert set(told) <= kept
    assert counter["n"] >= len(told)
