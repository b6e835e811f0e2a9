"""A RabbitMQ node of its own: own ports, own data, own epmd, any user, no system service touched.

The packaged /usr/sbin wrapper changes user and folder, so the server script behind it is started instead. epmd runs in
the foreground under our watcher; left to itself it would daemonise and stay.
"""

from __future__ import annotations

import asyncio
import secrets
import shutil
import signal
from pathlib import Path

from tests.servers.process import Process, Server, ServerDidNotStart, can_bind, exchange, free_port

_SCRIPTS = (
    "/usr/lib/rabbitmq/bin/rabbitmq-server",  # Debian, Fedora
    "/opt/homebrew/opt/rabbitmq/sbin/rabbitmq-server",
    "/usr/local/opt/rabbitmq/sbin/rabbitmq-server",
)
_HELLO = b"AMQP\x00\x00\x09\x01"
_STARTS = 3  # a port of the node before may stay busy for a few seconds


class RabbitServer(Server):
    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self._epmd: Process | None = None
        self._dist_port, self._epmd_port = free_port(), free_port()

    @staticmethod
    def missing() -> str | None:
        if _script() is None or _epmd() is None:
            return "no rabbitmq-server here: run 'make servers'"
        return None

    @property
    def url(self) -> str:
        return f"amqp://guest:guest@127.0.0.1:{self.port}/"

    async def start(self) -> None:
        for attempt in range(1, _STARTS + 1):
            try:
                await self._start()
            except ServerDidNotStart:
                if attempt == _STARTS:
                    raise
            else:
                return

    async def _start(self) -> None:
        script, epmd = _script(), _epmd()
        assert script is not None
        assert epmd is not None
        if not can_bind(self.port):
            await asyncio.sleep(1)
            raise ServerDidNotStart(f"port {self.port} is taken: another broker would answer for ours")
        environment = self._environment()
        if self._epmd is None:
            command = [epmd, "-port", str(self._epmd_port), "-address", "127.0.0.1"]
            self._epmd = Process(command, self._folder, environment)
            await self._epmd.wait_until(lambda: not can_bind(self._epmd_port), 5)
        self._process = Process([script], self._folder, environment)
        await self._process.wait_until(lambda: exchange(self.port, _HELLO)[:1] == b"\x01", 60)

    def _environment(self) -> dict[str, str]:
        folder = self._folder
        for name in ("home", "mnesia", "log"):
            (folder / name).mkdir(parents=True, exist_ok=True)
        cookie = folder / "home" / ".erlang.cookie"
        if not cookie.exists():
            cookie.write_text(secrets.token_hex(16))
            cookie.chmod(0o400)
        (folder / "plugins").write_text("[].\n")
        (folder / "rabbitmq.conf").write_text(
            f"listeners.tcp.1 = 127.0.0.1:{self.port}\nlog.console = false\n"
            "vm_memory_high_watermark.absolute = 1GB\ndisk_free_limit.absolute = 200MB\n"
        )
        return {
            "HOME": str(folder / "home"),
            "LANG": "C.UTF-8",
            "RABBITMQ_NODENAME": f"mailvet{self.port}@localhost",
            "RABBITMQ_NODE_IP_ADDRESS": "127.0.0.1",
            "RABBITMQ_NODE_PORT": str(self.port),
            "RABBITMQ_DIST_PORT": str(self._dist_port),
            "ERL_EPMD_PORT": str(self._epmd_port),
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "RABBITMQ_CONF_ENV_FILE": "/dev/null",
            "RABBITMQ_MNESIA_BASE": str(folder / "mnesia"),
            "RABBITMQ_LOG_BASE": str(folder / "log"),
            "RABBITMQ_CONFIG_FILE": str(folder / "rabbitmq.conf"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(folder / "plugins"),
            "RABBITMQ_PID_FILE": str(folder / "pid"),
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "+S 2:2 +sbwt none -kernel inet_dist_use_interface {127,0,0,1}",
        }

    async def stop(self) -> None:
        await super().stop()
        epmd, self._epmd = self._epmd, None
        if epmd is not None:
            await epmd.end(signal.SIGKILL)

    def freeze(self) -> None:
        """The node goes silent with its connections open, as behind a dead network."""
        assert self._process is not None
        self._process.signal(signal.SIGSTOP)

    def thaw(self) -> None:
        assert self._process is not None
        self._process.signal(signal.SIGCONT)


def _script() -> str | None:
    return next((script for script in _SCRIPTS if Path(script).exists()), None)


def _epmd() -> str | None:
    found = shutil.which("epmd")
    if found:
        return found
    return next((str(path) for path in Path("/usr/lib/erlang").glob("erts-*/bin/epmd")), None)
