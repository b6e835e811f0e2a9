"""What was deleted or changed is in no byte of the store's files, while it stays open."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path

import pytest

from shared.documents import Change, Collection, sqlite_scrub
from shared.documents.sqlite import SqliteDocuments

THINGS = Collection("Things", indexed=("kind", "note"), indexes=(("kind", "note"),))
NEEDLE = b"canary"


def left(folder: Path) -> list[str]:
    return [path.name for path in sorted(folder.iterdir()) if NEEDLE in path.read_bytes()]


@pytest.mark.parametrize("seed", range(6))
async def test_nothing_deleted_or_changed_is_left_in_the_files(tmp_path: Path, seed: int) -> None:
    chance = random.Random(seed)
    async with SqliteDocuments(tmp_path / "documents.db", [THINGS]) as documents:
        for at in range(400):
            secret = at % 2 == 0
            text = ("canary" if secret else "harmless") * chance.choice((1, 30, 900, 9_000))
            note = f"canary {at}" if secret else "plain"
            await documents.insert(THINGS, {"_id": f"{at:04d}", "kind": at % 5, "note": note, "text": text})
        assert left(tmp_path)
        for at in range(0, 400, 2):
            if chance.random() < 0.5:
                await documents.delete(THINGS, f"{at:04d}")
            else:
                await documents.update(THINGS, f"{at:04d}", Change(set={"text": "gone", "note": "gone"}))
        await documents.scrub()
        assert left(tmp_path) == []
        kept = [one async for one in documents.scan(THINGS, {"kind": 1}, sort="note")]
        assert kept
        await documents.scrub()
        assert await documents.insert(THINGS, {"_id": "after", "kind": 1})


async def test_a_scrub_that_was_cut_off_is_made_good_by_the_next(tmp_path: Path) -> None:
    path = tmp_path / "documents.db"
    async with SqliteDocuments(path, [THINGS]) as documents:
        await documents.insert(THINGS, {"_id": "a", "text": "canary" * 50_000})
        await documents.delete(THINGS, "a")
        await documents._write(lambda connection: connection.execute('CREATE TABLE "_filler" (zeros BLOB)'))
        await documents.scrub()
        assert left(tmp_path) == []


async def test_a_large_file_is_written_anew_once_a_day(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite_scrub, "SMALL", 0)

    async def written_on(documents: SqliteDocuments) -> int:
        day: int = await documents._write(lambda connection: connection.execute("PRAGMA user_version").fetchone()[0])
        return day

    async with SqliteDocuments(tmp_path / "documents.db", [THINGS]) as documents:
        assert await written_on(documents) == 0
        await documents.scrub()
        today = await written_on(documents)
        assert today > 20_000
        statements: list[str] = []
        await documents._write(lambda connection: connection.set_trace_callback(statements.append))
        await documents.scrub()
        assert "VACUUM" not in statements
        await documents._write(lambda connection: connection.execute(f"PRAGMA user_version = {today - 1}"))
        await documents.scrub()
        assert "VACUUM" in statements
        await documents._write(lambda connection: connection.set_trace_callback(None))


async def test_writes_and_reads_beside_a_scrub_are_not_disturbed(tmp_path: Path) -> None:
    async with SqliteDocuments(tmp_path / "documents.db", [THINGS]) as documents:

        async def write(number: int) -> None:
            assert await documents.insert(THINGS, {"_id": f"w{number}", "kind": 1, "text": "x" * 40_000})
            assert await documents.get(THINGS, f"w{number}") is not None
            await documents.delete(THINGS, f"w{number}")

        await asyncio.gather(*(write(number) for number in range(200)), *(documents.scrub() for _ in range(4)))
        assert await documents.count(THINGS, {"kind": 1}) == 0
