"""The well-behaved mail server. Every other character changes a part of it."""

# ruff: noqa: ARG002 - characters answer through one signature, whether or not they look at all of it

from __future__ import annotations

import re
from typing import TYPE_CHECKING, ClassVar

from services.maillab.dialogue import Act, Answer
from services.maillab.mailboxes import MAX_DIGITS, Kind, kind_of
from services.maillab.replies import KINDS, WORDING, template, wire

if TYPE_CHECKING:
    from services.maillab.dialogue import Dialogue
    from services.maillab.lab import Lab
    from services.maillab.world import Host

DIGITS = b"0123456789"
MAX_STEMS = 100_000  # beginnings of local parts remembered
_PLAIN_RCPT = re.compile(rb"RCPT TO:<([a-z0-9._-]+)@([a-z0-9.-]+)>\r\Z").match
EXTENSIONS = ("PIPELINING", "SIZE 52428800", "8BITMIME", "ENHANCEDSTATUSCODES")


class Character:
    """Accepts the mailboxes that exist and refuses the others at RCPT, like most of the Internet."""

    name: ClassVar[str] = "accepts_rejects"

    def __init__(
        self,
        host: Host,
        lab: Lab,
        *,
        extensions: tuple[str, ...] = EXTENSIONS,
        banner: str | None = None,
        grey_wait: float = 0.0,
        random: str | None = None,
        missing: str | None = None,
    ) -> None:
        """`grey_wait`: seconds before a `grey*` mailbox opens; `random`, `missing`: other words for those refusals."""
        self.host = host
        self.lab = lab
        self.extensions = extensions
        self.grey_wait = grey_wait
        wording = WORDING[host.style]
        self._banner = wire(banner or wording["banner"].replace("{h}", host.name))
        self._mail_ok = wire(wording["mail"])
        self._mailboxes = lab.world.mailboxes
        self._templates = {key: template(host.style, key, host.name) for key in KINDS}
        for kind, text in (("random", random), ("missing", missing)):
            if text is not None:
                self._templates[kind] = wire(text.replace("%", "%%").replace("{a}", "%(a)b").replace("{d}", "%(d)b"))
        self._serves: set[str] = set()
        self._version = lab.world.version
        self._quick_domains: set[bytes] = set()
        self._quick_stems: dict[bytes, tuple[bytes, bytes]] = {}
        steady = type(self).rcpt is Character.rcpt and type(self).judge is Character.judge
        self.quick = self._quick if steady else None

    # one method for each thing a client says; each returns bytes or an Act

    def teaser(self, dialogue: Dialogue) -> bytes:
        """Said at once, before the banner proper; who speaks between the two speaks before the banner."""
        return b""

    def connect(self, dialogue: Dialogue) -> Answer:
        return self._banner

    def ehlo(self, dialogue: Dialogue) -> Answer:
        return dialogue.offer(self.extensions)

    def hello(self, dialogue: Dialogue) -> Answer:
        return wire(f"250 {self.host.name}")

    def mail(self, dialogue: Dialogue, sender: str) -> Answer:
        return self._mail_ok

    def rcpt(self, dialogue: Dialogue, address: str) -> Answer:
        if address in self._mailboxes:
            return self.lab.scripted(address, self._mailboxes[address])
        local, _, domain = address.rpartition("@")
        if domain not in self._serves and not self._learn(domain):
            return self.say("relay", address)
        kind = kind_of(local, self.host.known)
        if self.quick is not None and kind in ("known", "missing"):
            self._remember(local, domain, kind)
        return self.judge(dialogue, address, kind)

    def _remember(self, local: str, domain: str, kind: Kind) -> None:
        """Let `_quick` answer for the likes of `local`, with the text before and after the address it names, if any."""
        before, name, after = self._templates[kind].partition(b"%(a)b")
        if b"%" in before + after or len(self._quick_stems) >= MAX_STEMS:
            return
        self._quick_domains.add(domain.encode())
        self._quick_stems[local.encode().rstrip(DIGITS)] = (before, name and after)

    def _quick(self, line: bytes) -> bytes | None:
        """The answer to the RCPT of a mailbox whose like was asked about before, or None: look closer.

        For speed: the recipients of a benchmark are `user1`, `bad2`, … of few domains, and most take this way.
        """
        found = _PLAIN_RCPT(line)
        if found is None or self._mailboxes:
            return None
        local, domain = found.groups()
        stem = local.rstrip(DIGITS)
        if domain not in self._quick_domains or len(local) - len(stem) > MAX_DIGITS:
            return None
        around = self._quick_stems.get(stem)
        if around is None:
            return None
        before, after = around
        return b"%b%b@%b%b" % (before, local, domain, after) if after else before

    def judge(self, dialogue: Dialogue, address: str, kind: Kind) -> Answer:
        """The answer for an address of a domain served here that no script covers."""
        if kind == "grey":
            return self.put_off(dialogue, address, self.grey_wait)
        return self.say(kind, address)

    def reset(self, dialogue: Dialogue) -> Answer:
        return b"250 2.0.0 Ok\r\n"

    def starttls(self, dialogue: Dialogue) -> Answer:
        return Act(b"220 2.0.0 Ready to start TLS\r\n", then="tls")

    def unknown(self, dialogue: Dialogue) -> Answer:
        return b"502 5.5.2 Error: command not recognized\r\n"

    def quit(self, dialogue: Dialogue) -> Answer:
        return Act(b"221 2.0.0 Bye\r\n", then="close")

    # what they share

    def say(self, kind: str, address: str) -> bytes:
        """The host's words for `kind` of mailbox."""
        text = self._templates[kind]
        if kind == "known" and b"%" not in text:
            return text
        return text % {b"a": address.encode(), b"d": address.rpartition("@")[2].encode()}

    def put_off(self, dialogue: Dialogue, address: str, wait: float, text: bytes | None = None) -> Answer:
        """Greylisting: refuse until `wait` seconds after the first ask, then accept."""
        now = self.lab.clock()
        opens = self.lab.greylist.setdefault((self.host.name, dialogue.sender or "", address), now + wait)
        if now < opens or opens == now + wait:
            return text or self.say("grey", address)
        return self.say("known", address)

    def look_around(self) -> None:
        """Forget which domains are served here when DNS has changed."""
        if self._version != self.lab.world.version:
            self._version = self.lab.world.version
            self._serves.clear()
            self._quick_domains.clear()

    def _learn(self, domain: str) -> bool:
        served = self.lab.world.serves(self.host, domain)
        if served:
            self._serves.add(domain)
        return served
