"""RCPT as fast as C asks it (rcpt_client.c), and a mail host in C (rcpt_sink.c) that is no slower than its clients.

Both are programs of ours without any checks that a verifier needs: what they show is how much of the machine's speed is
left. A benchmark that compares with them lets both sides ask the same host with the same connections at once.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from tests.bench.compiled import NotBuiltError, build_c


def why_not() -> str | None:
    """Why there is no C here, if so."""
    try:
        build_c("rcpt_sink")
        build_c("rcpt_client")
    except NotBuiltError as error:
        return str(error)
    return None


@dataclass
class Sink:
    """A running rcpt_sink. Mailboxes `user*` exist."""

    port: int
    _process: subprocess.Popen[bytes]

    def count(self) -> dict[str, Any]:
        """Since the last call: `connections`, `recipients`, `refused`, `rude`, `peak`, `worst`; `cpu` seconds in all."""
        if self._process.stdin is None or self._process.stdout is None:
            raise RuntimeError("a sink without pipes")
        self._process.stdin.write(b"\n")
        self._process.stdin.flush()
        counted: dict[str, Any] = json.loads(self._process.stdout.readline())
        return counted


@contextmanager
def c_sink(addresses: Iterable[str]) -> Iterator[Sink]:
    """A sink on all `addresses`, on the last processor; this process and its children keep to the others meanwhile."""
    mine = os.sched_getaffinity(0)
    last = {max(mine)}
    os.sched_setaffinity(0, last)
    process = subprocess.Popen(
        [str(build_c("rcpt_sink")), *addresses], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )  # fmt: skip
    try:
        os.sched_setaffinity(0, (mine - last) or mine)
        if process.stdout is None or not (port := process.stdout.readline()):
            raise RuntimeError("the sink does not run")
        yield Sink(int(port), process)
    finally:
        os.sched_setaffinity(0, mine)
        process.kill()
        process.communicate()


async def c_client(
    by_address: Mapping[str, list[str]], *, port: int, slots: int, flight: int, recipients: int, refusals: int
) -> dict[str, Any]:
    """Ask hosts (by IP address) about recipients. Returns valid, invalid, sessions, flights, seconds and cpu seconds.

    `recipients`: of one session; `refusals`: how many it hardly has more of, 0 for no such limit.
    """
    told = "".join(f"@{address}\n" + "\n".join(emails) + "\n" for address, emails in by_address.items())
    process = await asyncio.create_subprocess_exec(
        str(build_c("rcpt_client")), *map(str, (port, slots, flight, recipients, refusals)),
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    out, _ = await process.communicate(told.encode())
    if process.returncode:
        raise RuntimeError("the C client gave up")
    found: dict[str, Any] = json.loads(out)
    return found
