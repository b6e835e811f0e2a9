"""`mailvet verify` refuses what it cannot do before anything is asked of anybody."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from services.cli.verify import EXIT_REFUSED, Request, verify
from shared.errors import SettingsError
from shared.settings import Settings


async def test_an_ending_that_names_no_format_is_refused() -> None:
    request = Request(what=["ann@a.example"], out=Path("results.pdf"))
    with pytest.raises(SettingsError, match=r"--out.*\.csv"):
        await verify(Settings.load(_env_file=None), request, asyncio.Event())


async def test_what_is_neither_file_nor_address_is_one_line_on_stderr(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    name = str(tmp_path / ("long-" * 30) / "list.csv")
    assert await verify(Settings.load(_env_file=None), Request(what=[name]), asyncio.Event()) == EXIT_REFUSED
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith("mailvet: ")
    assert said.err.count("\n") == 1
