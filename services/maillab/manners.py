"""The conduct a mail administrator would complain about, noticed as it happens: one sentence, once a session.

Only what the server really offered or asked for counts: commands sent together after PIPELINING was offered are fine,
hanging up on a server that keeps silent is fine, and so is leaving a hostile one without QUIT.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from services.maillab.wirelog import Session, WireLog
    from services.maillab.world import Host, World

MAX_COMMAND = 512  # octets with CRLF, RFC 5321 section 4.5.3.1.4
MAIL_EXTRA = 26 + 17 + 10  # what SIZE, BODY and SMTPUTF8 add to MAIL: RFC 1870, 6152, 6531
# RFC 2920 section 3.1 and RFC 3207 section 4: these end a group of commands sent together.
GROUP_ENDS = frozenset((b"EHLO", b"HELO", b"DATA", b"VRFY", b"EXPN", b"TURN", b"QUIT", b"NOOP", b"STAR", b"AUTH"))
NEVER = {
    b"DATA": "DATA was sent: nobody asked for a message",
    b"BDAT": "BDAT was sent: nobody asked for a message",
    b"AUTH": "AUTH was sent",
    b"VRFY": "VRFY was sent",
    b"EXPN": "EXPN was sent",
    b"TURN": "TURN was sent",
    b"ETRN": "ETRN was sent",
}


class Neighbourhood:
    """What is noticed across sessions: waits that greylists asked for, and how many probes a domain saw."""

    def __init__(self, world: World, log: WireLog, clock: Callable[[], float]) -> None:
        self.world = world
        self.log = log
        self.clock = clock
        self.not_before: dict[str, float] = {}
        self._probes: dict[str, set[str]] = {}

    @property
    def is_watching(self) -> bool:
        """Whether addresses need looking at at all."""
        return bool(self.not_before) or self.world.allowed is not None

    def ask_to_wait(self, address: str, seconds: float) -> None:
        self.not_before[address] = self.clock() + seconds

    def is_stranger(self, address: str) -> bool:
        """Not in the allowed set, and not one of the few probes its domain may see."""
        allowed = self.world.allowed
        if allowed is None or address in allowed:
            return False
        probes = self._probes.setdefault(address.rpartition("@")[2], set())
        probes.add(address)
        return len(probes) > self.world.probes_per_domain


class Manners:
    """The watcher of one session."""

    def __init__(self, neighbourhood: Neighbourhood, host: Host, session: Session) -> None:
        self._all = neighbourhood
        self._host = host
        self._session = session
        self._said: set[str] = set()

    def complain(self, sentence: str) -> None:
        if sentence not in self._said:
            self._said.add(sentence)
            self._all.log.complain(self._all.clock(), self._session, sentence)

    def crowded(self, count: int) -> None:
        if self._host.cap is not None and count > self._host.cap:
            self.complain(f"{count} connections at once, more than the {self._host.cap} allowed")

    def early(self) -> None:
        self.complain("something was sent before the banner")

    def flight(self, lines: list[bytes], *, offered: bool, unanswered: bool) -> None:
        """A group of whole lines that came together. `unanswered`: the reply to an earlier one was still due."""
        if unanswered and not offered and lines[0][:4].upper() != b"QUIT":
            self.complain("a command was sent before the reply to the last one, and PIPELINING was not offered")
        if len(lines) == 1:
            return
        if not offered:
            self.complain("commands were sent together and PIPELINING was not offered")
        for line in lines[:-1]:
            verb = line[:4].upper()
            if verb in GROUP_ENDS:
                self.complain(f"{_verb(line)} was not the last of its group (RFC 2920)")

    def line(self, line: bytes) -> None:
        """A command as it came, without its LF."""
        if not line.endswith(b"\r"):
            self.complain("a line ended in a bare LF")
        elif b"\r" in line[:-1]:
            self.complain("a bare CR inside a line")
        limit = MAX_COMMAND + (MAIL_EXTRA if line[:4].upper() == b"MAIL" else 0)
        if len(line) + 1 > limit:
            self.complain(f"a line of {len(line) + 1} octets, more than {limit}")

    def command(self, verb: bytes) -> None:
        sentence = NEVER.get(verb)
        if sentence is not None:
            self.complain(sentence)

    def rcpt(self, address: str) -> None:
        wait = self._all.not_before.get(address)
        if wait is not None and self._all.clock() < wait:
            self.complain("an address was asked about again before the greylist's wait was over")
        if self._all.is_stranger(address):
            self.complain("an address was asked about that is on no list")

    def rejected(self) -> None:
        limit = self._host.max_rejects
        if limit is not None and self._session.reject_count > limit:
            self.complain(f"more than {limit} refused recipients in one session")

    def left(self, *, said_quit: bool, was_fine: bool) -> None:
        if was_fine and not said_quit:
            self.complain("left without QUIT although the server was fine")


def _verb(line: bytes) -> str:
    return line.split(b" ")[0].strip().decode("ascii", "replace").upper()
