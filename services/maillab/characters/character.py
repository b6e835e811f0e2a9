"""The well-behaved mail server. Every other character changes a part of it."""

# ruff: noqa: ARG002 - characters answer through one signature, whether or not they look at all of it

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from services.maillab.dialogue import Act, Answer
from services.maillab.mailboxes import Kind, kind_of
from services.maillab.replies import KINDS, WORDING, template, wire

if TYPE_CHECKING:
    from services.maillab.dialogue import Dialogue
    from services.maillab.lab import Lab
    from services.maillab.world import Host

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
        self._templates = {key: template(host.style, key, host.name) for key in KINDS}
        for kind, text in (("random", random), ("missing", missing)):
            if text is not None:
                self._templates[kind] = wire(text.replace("%", "%%").replace("{a}", "%(a)b").replace("{d}", "%(d)b"))
        self._kinds: dict[str, Kind] = {}
        self._serves: set[str] = set()

    # one method for each thing a client says; each returns bytes or an Act

    def connect(self, dialogue: Dialogue) -> Answer:
        return self._banner

    def ehlo(self, dialogue: Dialogue) -> Answer:
        return dialogue.offer(self.extensions)

    def hello(self, dialogue: Dialogue) -> Answer:
        return wire(f"250 {self.host.name}")

    def mail(self, dialogue: Dialogue, sender: str) -> Answer:
        return self._mail_ok

    def rcpt(self, dialogue: Dialogue, address: str) -> Answer:
        scripted = self.lab.world.mailboxes.get(address)
        if scripted is not None:
            return self.lab.scripted(address, scripted)
        local, _, domain = address.rpartition("@")
        if domain not in self._serves and not self._learn(domain):
            return self.say("relay", address)
        return self.judge(dialogue, address, self.kind(local))

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
        if b"%" not in text:
            return text
        return text % {b"a": address.encode(), b"d": address.rpartition("@")[2].encode()}

    def put_off(self, dialogue: Dialogue, address: str, wait: float, text: bytes | None = None) -> Answer:
        """Greylisting: refuse until `wait` seconds after the first ask, then accept."""
        now = self.lab.clock()
        opens = self.lab.greylist.setdefault((self.host.name, dialogue.sender or "", address), now + wait)
        if now < opens or opens == now + wait:
            return text or self.say("grey", address)
        return self.say("known", address)

    def kind(self, local: str) -> Kind:
        found = self._kinds.get(local)
        if found is None:
            if len(self._kinds) > 100_000:
                self._kinds.clear()
            found = self._kinds[local] = kind_of(local, self.host.known)
        return found

    def _learn(self, domain: str) -> bool:
        served = self.lab.world.serves(self.host, domain)
        if served:
            self._serves.add(domain)
        return served
