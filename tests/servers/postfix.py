"""Postfix: master, and what smtpd needs to answer up to RCPT, each on one port of loopback. It never has mail to deliver."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from string import Template

from tests.servers.mail_packages import ACCOUNT, ROOT, environment, missing
from tests.servers.process import Process, Server

_CONFIG = Path(__file__).parent / "postfix"
_QUEUES = ("active", "bounce", "defer", "deferred", "incoming", "maildrop", "pid", "private", "public", "hold", "flush")


class PostfixServer(Server):
    """`parameters`: of main.cf, beyond and over those of postfix/main.cf. `postscreen`: in front of smtpd."""

    def __init__(self, folder: Path, parameters: Mapping[str, str], *, postscreen: bool = False) -> None:
        super().__init__(folder)
        self._parameters = parameters
        self._listener = "postscreen" if postscreen else "smtpd"
        self._processes = "1" if postscreen else "-"

    @staticmethod
    def missing() -> str | None:
        return missing("usr/lib/postfix/sbin/master")

    async def start(self) -> None:
        environ = self._configure()
        command = [str(ROOT / "usr/lib/postfix/sbin/master"), "-d"]
        self._process = Process(command, self._folder, environ)
        await self._process.wait_until(lambda: "daemon started" in self.log(), 10)

    async def stop(self) -> None:
        """By SIGKILL: told to end, master first sleeps for a second, and there is nothing of value in the queue."""
        await self.kill()

    def log(self) -> str:
        """All it wrote so far; a session's lines may come a moment after its end."""
        path = self._folder / "log"
        return path.read_text() if path.exists() else ""

    def ended(self) -> bool:
        """The log tells of the end of every session it tells the beginning of."""
        log = self.log()
        return _count(r"/smtpd\[\d+\]: connect from", log) == _count(r"/smtpd\[\d+\]: disconnect from", log)

    def ends(self) -> list[str]:
        """What was said in each session, by smtpd's count, such as "ehlo=1 mail=1 rcpt=0/2 quit=1 commands=3/5"."""
        return re.findall(r"/smtpd\[\d+\]: disconnect from \S+ (.*)", self.log())

    def _configure(self) -> dict[str, str]:
        self._folder.mkdir(parents=True, exist_ok=True)
        for path in ("data", "etc", *(f"queue/{name}" for name in _QUEUES)):
            (self._folder / path).mkdir(parents=True)
        if os.getuid() == 0:  # not so that it can be written to: Postfix looks whose it is
            os.chown(self._folder / "data", ACCOUNT, ACCOUNT)
        etc, environ = self._folder / "etc", environment(self._folder)
        environ["MAIL_CONFIG"] = str(etc)
        names = {
            "folder": self._folder,
            "root": ROOT,
            "port": self.port,
            "listener": self._listener,
            "processes": self._processes,
        }
        main = Template((_CONFIG / "main.cf").read_text()).substitute(names, environment=" ".join(environ))
        lines = [line for line in main.splitlines() if line.partition(" =")[0] not in self._parameters]
        lines += [f"{name} = {value}" for name, value in self._parameters.items()]
        (etc / "main.cf").write_text("\n".join(lines) + "\n")
        os.utime(etc / "main.cf", (0, 0))  # Postfix waits two seconds for a young file to be complete
        (etc / "master.cf").write_text(Template((_CONFIG / "master.cf").read_text()).substitute(names))
        (etc / "dynamicmaps.cf").touch()
        return environ


def _count(pattern: str, text: str) -> int:
    return sum(1 for _ in re.finditer(pattern, text))
