"""Servers that keep silent, hang up, or take their time."""

# ruff: noqa: ARG002 - characters answer through one signature, whether or not they look at all of it

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from services.maillab.characters.character import EXTENSIONS, Character
from services.maillab.dialogue import Act, Answer
from services.maillab.mailboxes import Kind
from services.maillab.replies import wire

if TYPE_CHECKING:
    from services.maillab.dialogue import Dialogue

SILENCE = Act(then="silence")


class Silent(Character):
    """Takes the connection and never says a word."""

    name: ClassVar[str] = "silent"

    def connect(self, dialogue: Dialogue) -> Answer:
        return SILENCE


class SilentAfterEhlo(Character):
    """Says its banner, and nothing after EHLO."""

    name: ClassVar[str] = "silent_after_ehlo"

    def ehlo(self, dialogue: Dialogue) -> Answer:
        return SILENCE

    hello = ehlo


class SilentRcpt(Character):
    """Never answers the RCPT after the first `after` ones."""

    name: ClassVar[str] = "silent_rcpt"

    def __init__(self, *args: Any, after: int = 0, **options: Any) -> None:
        super().__init__(*args, **options)
        self.after = after

    def judge(self, dialogue: Dialogue, address: str, kind: Kind) -> Answer:
        return SILENCE if dialogue.rcpts > self.after else super().judge(dialogue, address, kind)


class Drops(Character):
    """Cuts the connection without a word: at connect, after EHLO, or at the RCPT after the first `after` ones."""

    name: ClassVar[str] = "drops"

    def __init__(self, *args: Any, at: str = "connect", after: int = 0, reset: bool = False, **options: Any) -> None:
        """`at`: "connect", "ehlo" or "rcpt"; `reset`: with a TCP reset instead of an orderly end."""
        super().__init__(*args, **options)
        self.at = at
        self.after = after
        self.cut = Act(then="abort" if reset else "close")

    def connect(self, dialogue: Dialogue) -> Answer:
        return self.cut if self.at == "connect" else super().connect(dialogue)

    def ehlo(self, dialogue: Dialogue) -> Answer:
        return self.cut if self.at == "ehlo" else super().ehlo(dialogue)

    def judge(self, dialogue: Dialogue, address: str, kind: Kind) -> Answer:
        if self.at == "rcpt" and dialogue.rcpts > self.after:
            return self.cut
        return super().judge(dialogue, address, kind)


class DisconnectsOnRandom(Character):
    """Answers about mailboxes that exist or are marked missing, and hangs up at a random one."""

    name: ClassVar[str] = "disconnects_on_random"

    def judge(self, dialogue: Dialogue, address: str, kind: Kind) -> Answer:
        return Act(then="close") if kind == "random" else super().judge(dialogue, address, kind)


class QuitsEarly(Character):
    """Says 221 unasked at the RCPT after the first `after` ones, and hangs up."""

    name: ClassVar[str] = "quits_early"

    def __init__(self, *args: Any, after: int = 1, **options: Any) -> None:
        super().__init__(*args, **options)
        self.after = after

    def judge(self, dialogue: Dialogue, address: str, kind: Kind) -> Answer:
        if dialogue.rcpts > self.after:
            return Act(b"221 2.0.0 Closing connection, goodbye\r\n", then="close")
        return super().judge(dialogue, address, kind)


class NoPipelining(Character):
    """Does not offer PIPELINING, and refuses commands that come together."""

    name: ClassVar[str] = "no_pipelining"

    def __init__(self, *args: Any, extensions: tuple[str, ...] = EXTENSIONS[1:], **options: Any) -> None:
        super().__init__(*args, extensions=extensions, **options)

    def refusal(self, dialogue: Dialogue) -> Act | None:
        if not dialogue.together:
            return None
        return Act(b"503 5.5.0 Improper use of SMTP command pipelining\r\n", then="close")

    def mail(self, dialogue: Dialogue, sender: str) -> Answer:
        return self.refusal(dialogue) or super().mail(dialogue, sender)

    def rcpt(self, dialogue: Dialogue, address: str) -> Answer:
        return self.refusal(dialogue) or super().rcpt(dialogue, address)


class HeloOnly(Character):
    """From before ESMTP: EHLO is not recognised, HELO is."""

    name: ClassVar[str] = "helo_only"

    def ehlo(self, dialogue: Dialogue) -> Answer:
        dialogue.helo = None
        return b"502 Command not implemented\r\n"


class SlowBanner(Character):
    """Like postscreen: half a banner, a pause, the rest; who talks meanwhile is refused for the whole session."""

    name: ClassVar[str] = "slow_banner"

    def __init__(self, *args: Any, delay: float = 1.0, **options: Any) -> None:
        super().__init__(*args, **options)
        self.delay = delay

    def teaser(self, dialogue: Dialogue) -> bytes:
        return self._banner.replace(b"220 ", b"220-", 1)

    def connect(self, dialogue: Dialogue) -> Answer:
        return Act(self._banner, delay=self.delay)

    def ehlo(self, dialogue: Dialogue) -> Answer:
        if dialogue.state.get("early"):
            return Act(b"550 5.5.1 Protocol error: you talk too soon\r\n", then="close")
        return super().ehlo(dialogue)

    hello = ehlo


class Tarpit(Character):
    """Takes `delay` seconds for every reply, each one more with every refused recipient."""

    name: ClassVar[str] = "tarpit"

    def __init__(self, *args: Any, delay: float = 0.2, growing: bool = False, **options: Any) -> None:
        """`growing`: the delay is multiplied by the number of refused recipients so far, plus one."""
        super().__init__(*args, **options)
        self.delay = delay
        self.growing = growing

    def rcpt(self, dialogue: Dialogue, address: str) -> Answer:
        answer = super().rcpt(dialogue, address)
        delay = self.delay * (dialogue.rejects + 1 if self.growing else 1)
        if isinstance(answer, Act):
            return answer
        return Act(answer, delay=delay)


class MultiLine(Character):
    """Says everything in several lines, in good order."""

    name: ClassVar[str] = "multi_line"

    def connect(self, dialogue: Dialogue) -> Answer:
        name = self.host.name
        return wire(f"220-{name} ESMTP\n220-Unauthorised use is forbidden.\n220-\n220 All of it is logged.")

    def judge(self, dialogue: Dialogue, address: str, kind: Kind) -> Answer:
        answer = super().judge(dialogue, address, kind)
        if isinstance(answer, Act):
            return answer
        code, text = answer[:3], answer[4:]
        return b"".join(
            (code, b"-", text, code, b"-Questions: postmaster@", self.host.name.encode(), b"\r\n", code, b" ", text)
        )


class Down(Character):
    """Nobody listens on its address: connections are refused."""

    name: ClassVar[str] = "down"


class BlackHole(Character):
    """Connection attempts are dropped and time out (Linux)."""

    name: ClassVar[str] = "black_hole"
