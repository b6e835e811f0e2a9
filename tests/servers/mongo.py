"""A MongoDB wire server: real `mongod` where there is one on PATH, else FerretDB (make servers builds it).

FerretDB 1.x finds first and modifies then, so a conditional update is atomic there only when commands come one at a
time: its URL asks for a connection pool of one. The real server needs no such thing.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from pymongo import MongoClient
from pymongo.errors import PyMongoError

from tests.servers.process import Process, Server

_FERRETDB = Path(__file__).parents[2] / ".tools" / "bin" / "ferretdb"


class MongoServer(Server):
    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self._mongod = shutil.which("mongod")

    @staticmethod
    def missing() -> str | None:
        if shutil.which("mongod") or _FERRETDB.exists():
            return None
        return "no mongod on PATH and no FerretDB in .tools/bin: run 'make servers'"

    @property
    def is_real(self) -> bool:
        return self._mongod is not None

    @property
    def url(self) -> str:
        return self.url_of("mailvet")

    def url_of(self, database: str) -> str:
        return f"mongodb://127.0.0.1:{self.port}/{database}" + ("" if self.is_real else "?maxPoolSize=1")

    async def start(self) -> None:
        data = self._folder / "data"
        data.mkdir(parents=True, exist_ok=True)
        address = f"127.0.0.1:{self.port}"
        if self._mongod is not None:
            command = [self._mongod, "--bind_ip", "127.0.0.1", "--port", str(self.port), "--dbpath", str(data)]
        else:
            command = [str(_FERRETDB), address, str(data)]
        self._process = Process(command, self._folder)
        await self._process.wait_until(self._answers, 30)

    def _answers(self) -> bool:
        with MongoClient(self.url, serverSelectionTimeoutMS=200) as client:
            try:
                client.admin.command("ping")
            except PyMongoError:
                return False
        return True
