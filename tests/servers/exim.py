"""Exim as a daemon on a port of loopback. It never has mail to deliver."""

from __future__ import annotations

import os
import re
from pathlib import Path
from string import Template

from tests.servers.mail_packages import ROOT, environment, missing
from tests.servers.process import Process, Server

_CONFIG = Path(__file__).parent / "exim" / "exim.conf"


class EximServer(Server):
    """`options`, `acl` (first statements of the RCPT ACL) and `routers` (the first ones): parts of exim/exim.conf."""

    def __init__(self, folder: Path, *, options: str = "", acl: str = "", routers: str = "") -> None:
        super().__init__(folder)
        self._parts = {"options": options, "acl": acl, "routers": routers}

    @staticmethod
    def missing() -> str | None:
        if os.getuid() != 0:
            return "Exim reads only a configuration that belongs to root: run these tests as root"
        return missing("usr/sbin/exim4")

    async def start(self) -> None:
        (self._folder / "spool").mkdir(parents=True)
        environ = environment(self._folder)
        config = self._folder / "exim.conf"
        names = {"folder": self._folder, "root": ROOT, "port": self.port, "environment": " : ".join(environ)}
        config.write_text(Template(_CONFIG.read_text()).substitute(names, **self._parts))
        command = [str(ROOT / "usr/sbin/exim4"), "-C", str(config), "-bdf"]
        self._process = Process(command, self._folder, environ)
        await self._process.wait_until(lambda: "listening for SMTP" in self.log(), 10)

    def log(self) -> str:
        path = self._folder / "mainlog"
        return path.read_text() if path.exists() else ""

    def ended(self) -> bool:
        """The log tells of the end of every session it tells the beginning of."""
        turned_away = self.log().count("rejected connection in")
        begun = self.log().count("(TCP/IP connection count =")
        return begun == len(self.ends()) + turned_away

    def ends(self) -> list[str]:
        """How each session ended, such as "by QUIT"."""
        return re.findall(r"SMTP connection from .*? (?:closed )?(by \S+|lost|D=\S+|after .*)", self.log())
