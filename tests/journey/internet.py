"""What exists in a journey's mail internet, what must be said about each address in it, and the lab that plays it.

Mailboxes called `user…` exist, `full…` are over quota, `disabled…` are switched off, all others are missing. A domain is
served by a host of its own. Verdicts are a status and the reasons that are right.
"""

from __future__ import annotations

import asyncio
import json
import re
import sys
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple
from zlib import crc32

from services.maillab.wirelog import Session, WireLog
from tests.journey.system import Program, until

CAP = 2  # connections at once that a host likes: the default of PER_MX_MAX_CONCURRENCY_DEFAULT
PROBES = 2  # random addresses a domain may be asked about
PATIENT = ("accepts_rejects", "catch_all", "greylisting", "full", "disabled", "no_pipelining")  # never hang up first
BILLABLE = ("valid", "invalid", "risky")


class Verdict(NamedTuple):
    status: str
    reasons: tuple[str, ...]


ACCEPTED = Verdict("valid", ("accepted",))
MISSING = Verdict("invalid", ("mailbox_missing",))
MALFORMED = Verdict("invalid", ("invalid_syntax",))
BY_KIND = {
    "user": ACCEPTED,
    "full": Verdict("risky", ("mailbox_full",)),
    "disabled": Verdict("invalid", ("mailbox_disabled",)),
}
BY_CHARACTER = {  # where the host decides for all its mailboxes, or for those that exist
    "catch_all": Verdict("risky", ("catch_all",)),
    "blocks_us": Verdict("unknown", ("prober_blocked", "circuit_open")),
    "silent": Verdict("unknown", ("timeout", "circuit_open")),
    "drops": Verdict("unknown", ("unreachable", "protocol_error", "put_off", "circuit_open", "server_error")),
    "down": Verdict("unknown", ("unreachable", "circuit_open")),
}


class Internet:
    """Add sites, then `write` the world and read `verdict_of` addresses."""

    def __init__(self) -> None:
        self.characters: dict[str, str] = {}
        self._tables: list[str] = ['[world]\nknown = "users"\n']

    def site(self, domain: str, character: str = "accepts_rejects", **options: Any) -> str:
        """A domain on a mail host of its own, mx.<domain>; returns the domain."""
        self.characters[domain] = character
        told = ", ".join(f"{name} = {json.dumps(value)}" for name, value in options.items())
        self._tables += [
            f'[[host]]\nname = "mx.{domain}"\ncharacter = "{character}"\noptions = {{ {told} }}\n',
            f'[[domain]]\nname = "{domain}"\nmx = [[10, "mx.{domain}"]]\n',
        ]
        return domain

    def sites(self, pattern: str, count: int, character: str = "accepts_rejects", **options: Any) -> list[str]:
        """Domains named by `pattern.format(n)`."""
        return [self.site(pattern.format(number), character, **options) for number in range(count)]

    def write(self, path: Path) -> None:
        path.write_text("\n".join(self._tables))

    def verdict_of(self, email: str) -> Verdict:
        """Of a well-formed address, as it must come out at the end."""
        local, _, domain = email.lower().rpartition("@")
        character = self.characters.get(domain)
        if character is None:
            return Verdict("invalid", ("domain_missing",))
        if character in BY_CHARACTER:
            return BY_CHARACTER[character]
        kind = re.sub(r"\d.*", "", local)
        return BY_KIND.get(character if kind == "user" and character in BY_KIND else kind, MISSING)

    def verdicts(self, emails: Iterable[str]) -> dict[str, Verdict]:
        return {email: self.verdict_of(email) for email in emails}


def people(domains: Iterable[str], count: int, tag: str = "") -> list[str]:
    """`count` different addresses spread over `domains`, an eighth of them missing; `tag` keeps lists apart."""
    names = list(domains)
    return [
        f"{'user' if crc32(f'{number}{tag}'.encode()) % 8 else 'bad'}{number}{tag}@{names[number % len(names)]}"
        for number in range(count)
    ]


class Lab:
    """The lab in a process of its own that no journey kills; what it heard is read from its log."""

    def __init__(self, folder: Path, internet: Internet, rtt: float = 0.0) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.internet = internet
        self.log_file = folder / "wire.jsonl"
        internet.write(folder / "world.toml")
        command = [sys.executable, "-m", "services.maillab", "--world", str(folder / "world.toml")]
        command += ["--log", str(self.log_file), "--rtt", str(rtt)]
        self.program = Program(folder, "lab", command, {})
        self.settings: dict[str, str] = {}

    async def start(self) -> None:
        async def said() -> bool:
            return self.program.out.exists() and self.program.out.read_text().endswith("\n")

        await self.program.start(said)
        self.settings = json.loads(self.program.out.read_text())["env"]

    async def stop(self) -> None:
        if self.program.running:
            assert await self.program.terminate(10) == 0

    def sessions(self, since: float = 0.0) -> list[Session]:
        return [session for session in WireLog.load(self.log_file).sessions() if session.opened >= since]

    async def heard(self, emails: Sequence[str], at_least: int, *, after: float = 0.0) -> None:
        """Until so many of the addresses were asked about; fails where that was nearly all, for want of a middle."""
        wanted = {email.lower() for email in emails}

        def count() -> int:
            lines = (line for session in self.sessions() for line in session.lines if line.at > after)
            return len(wanted & {line.text[9:-1].lower() for line in lines if line.text.startswith("RCPT TO:<")})

        async def look() -> int | None:
            asked = await asyncio.to_thread(count)
            return asked if asked >= at_least else None

        asked = await until(look, 20, f"{at_least} addresses were asked about")
        assert asked is not None
        assert asked < 0.9 * len(wanted), "meant to be in mid-run"

    async def quiet(self, since: float) -> list[Session]:
        """The sessions since then, all of them over."""

        async def over() -> list[Session] | None:
            sessions = await asyncio.to_thread(self.sessions, since)
            return sessions if all(session.closed is not None for session in sessions) else None

        found = await until(over, 15, "every session has ended")
        assert found is not None
        return found

    async def check_manners(self, emails: Iterable[str], since: float, cuts: Iterable[float] = ()) -> list[Session]:
        """No host complained, whatever we were through. `cuts`: when we killed whoever talked to them.

        Only what was cut off by a kill may have left without QUIT. Raises AssertionError.
        """
        sessions = await self.quiet(since)
        excused = {session.number for session in sessions if _was_cut(session, cuts)}
        mine = {f"{session.host}, session {session.number}": session.number for session in sessions}
        for complaint in WireLog.load(self.log_file).complaints:
            number = mine.get(complaint.partition(": ")[0])
            assert number is None or (number in excused and "left without QUIT" in complaint), complaint
        for session in sessions:
            assert not session.data
            if self.internet.characters[session.host.removeprefix("mx.")] in PATIENT:
                assert session.quit or session.number in excused, f"session {session.number} ended without QUIT"
        _check_cap(sessions)
        self._check_recipients(sessions, emails)
        return sessions

    def _check_recipients(self, sessions: Iterable[Session], emails: Iterable[str]) -> None:
        ours = {email.lower() for email in emails}
        random: dict[str, set[str]] = {}
        for session in sessions:
            for address in session.rcpts:
                domain = address.rpartition("@")[2]
                if address.lower() not in ours:
                    random.setdefault(domain, set()).add(address)
        assert {domain: asked for domain, asked in random.items() if len(asked) > PROBES} == {}


def _was_cut(session: Session, cuts: Iterable[float]) -> bool:
    closed = session.closed or time.time()
    return not session.quit and any(session.opened - 0.5 <= cut <= closed + 0.1 for cut in cuts)


def _check_cap(sessions: Iterable[Session]) -> None:
    """Counted from the log itself: at no time more than CAP connections to a host."""
    steps: dict[str, list[tuple[float, int]]] = {}
    for session in sessions:
        assert session.closed is not None
        steps.setdefault(session.host, []).extend(((session.opened, 1), (session.closed, -1)))
    for host, changes in steps.items():
        count = 0
        for _, change in sorted(changes):
            count += change
            assert count <= CAP, f"{host} had {count} connections at once"
