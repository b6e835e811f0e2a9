# ruff: noqa: ARG002 - characters answer through one signature, whether or not they look at all of it
"""Servers that break the protocol: none of their replies may become a verdict, and leaving them without QUIT is fine.

Each answers truthfully, but for the one thing it does wrong. Where a class has `at`, that is the command whose reply is
spoilt: "connect", "ehlo", "mail" or "rcpt".
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import repeat
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from services.maillab.characters.character import Character
from services.maillab.dialogue import Act, Answer
from services.maillab.mailboxes import Kind

if TYPE_CHECKING:
    from services.maillab.dialogue import Dialogue

Stage = Literal["connect", "ehlo", "mail", "rcpt"]
ACCEPTED = b"250 2.1.5 Ok\r\n"
BAD_CODES = (
    b"999 fine",
    b"25 2.1.5 Ok",
    b"-50 2.1.5 Ok",
    b"2x0 2.1.5 Ok",
    b"000 2.1.5 Ok",
    b"2500 2.1.5 Ok",
    b"Ok 250",
)


class Spoiler(Character):
    """Passes every reply at one stage through `spoil`."""

    def __init__(self, *args: Any, at: Stage = "rcpt", **options: Any) -> None:
        super().__init__(*args, **options)
        self.at = at

    def spoil(self, dialogue: Dialogue, reply: bytes) -> Answer:
        return reply

    def _pass(self, dialogue: Dialogue, stage: Stage, answer: Answer) -> Answer:
        if self.at != stage or isinstance(answer, Act):
            return answer
        dialogue.spoil()
        return self.spoil(dialogue, answer)

    def connect(self, dialogue: Dialogue) -> Answer:
        return self._pass(dialogue, "connect", super().connect(dialogue))

    def ehlo(self, dialogue: Dialogue) -> Answer:
        return self._pass(dialogue, "ehlo", super().ehlo(dialogue))

    def mail(self, dialogue: Dialogue, sender: str) -> Answer:
        return self._pass(dialogue, "mail", super().mail(dialogue, sender))

    def judge(self, dialogue: Dialogue, address: str, kind: Kind) -> Answer:
        return self._pass(dialogue, "rcpt", super().judge(dialogue, address, kind))


class Glued(Spoiler):
    """Glues an acceptance nobody asked for to its reply (to MAIL by default), so that replies are off by one."""

    name: ClassVar[str] = "glued"

    def __init__(self, *args: Any, at: Stage = "mail", **options: Any) -> None:
        super().__init__(*args, at=at, **options)

    def spoil(self, dialogue: Dialogue, reply: bytes) -> Answer:
        return reply + ACCEPTED


class InjectedLines(Spoiler):
    """As `glued`, but the extra reply comes a moment later, in a packet of its own."""

    name: ClassVar[str] = "injected_lines"

    def __init__(self, *args: Any, at: Stage = "mail", pause: float = 0.01, **options: Any) -> None:
        super().__init__(*args, at=at, **options)
        self.pause = pause

    def spoil(self, dialogue: Dialogue, reply: bytes) -> Answer:
        return Act(reply, stream=iter((ACCEPTED,)), gap=self.pause)


class MixedCodes(Spoiler):
    """One reply whose lines carry different codes: a refusal that ends as an acceptance."""

    name: ClassVar[str] = "mixed_codes"

    def spoil(self, dialogue: Dialogue, reply: bytes) -> Answer:
        return b"550-5.1.1 User unknown\r\n" + ACCEPTED


class BadCodes(Spoiler):
    """Replies whose code is none: 999, two digits, a sign, letters, text first; one after the other, or `code`."""

    name: ClassVar[str] = "bad_codes"

    def __init__(self, *args: Any, code: str | None = None, **options: Any) -> None:
        super().__init__(*args, **options)
        self.codes = (code.encode(),) if code is not None else BAD_CODES

    def spoil(self, dialogue: Dialogue, reply: bytes) -> Answer:
        turn = dialogue.state.get("turn", 0)
        dialogue.state["turn"] = turn + 1
        return self.codes[turn % len(self.codes)] + b"\r\n"


class EndlessReply(Spoiler):
    """A reply of ever more lines."""

    name: ClassVar[str] = "endless_reply"

    def spoil(self, dialogue: Dialogue, reply: bytes) -> Answer:
        line = b"250-2.1.5 and another thing\r\n"
        return Act(line, stream=repeat(line * 64))


class EndlessLine(Spoiler):
    """A reply whose line never ends."""

    name: ClassVar[str] = "endless_line"

    def spoil(self, dialogue: Dialogue, reply: bytes) -> Answer:
        return Act(b"250 2.1.5 ", stream=repeat(b"O" * 2_048))


class Dripping(Spoiler):
    """Its replies come one byte in `gap` seconds."""

    name: ClassVar[str] = "dripping"

    def __init__(self, *args: Any, gap: float = 1.0, **options: Any) -> None:
        super().__init__(*args, **options)
        self.gap = gap

    def spoil(self, dialogue: Dialogue, reply: bytes) -> Answer:
        return Act(stream=_bytes_of(reply), gap=self.gap)


class Garbage(Spoiler):
    """Binary rubbish with line ends in it, at connect by default."""

    name: ClassVar[str] = "garbage"

    def __init__(self, *args: Any, at: Stage = "connect", **options: Any) -> None:
        super().__init__(*args, at=at, **options)

    def spoil(self, dialogue: Dialogue, reply: bytes) -> Answer:
        return b"\x00\xff\xfe\x16\x03\x01\x00\x80\r\n\xf0\x9f\r\n" + bytes(range(128, 256)) + b"\r\n"


class WrongOrder(Spoiler):
    """Replies that belong to other commands; `swapped`: those to two RCPTs of a group change places.

    Swapped replies name the address they are about.
    """

    name: ClassVar[str] = "wrong_order"

    def __init__(self, *args: Any, swapped: bool = False, **options: Any) -> None:
        super().__init__(*args, **options)
        self.swapped = swapped

    def spoil(self, dialogue: Dialogue, reply: bytes) -> Answer:
        if not self.swapped:
            return b"354 Go ahead\r\n" if dialogue.rcpts % 2 else b"221 2.0.0 Bye\r\n"
        held: bytes | None = dialogue.state.pop("held", None)
        if held is not None:
            return reply + held
        if dialogue.together:
            dialogue.state["held"] = reply
            return b""
        return reply

    def judge(self, dialogue: Dialogue, address: str, kind: Kind) -> Answer:
        truth = Character.judge(self, dialogue, address, kind)
        if self.swapped and kind == "known":
            truth = b"250 2.1.5 <" + address.encode() + b"> Ok\r\n"
        return self._pass(dialogue, "rcpt", truth)


class DirtyText(Spoiler):
    """Truthful codes with terminal escapes, NULs, markup, a stray CR and half a UTF-8 character in the text."""

    name: ClassVar[str] = "dirty_text"

    def spoil(self, dialogue: Dialogue, reply: bytes) -> Answer:
        return reply.rstrip(b"\r\n") + b" \x1b[31mred\x07\x00<script>alert(1)</script> \xe2\x80\x8b\xc3\r\n"


class LfOnly(Spoiler):
    """Ends its lines with a bare LF, and is otherwise in order."""

    name: ClassVar[str] = "lf_only"

    def spoil(self, dialogue: Dialogue, reply: bytes) -> Answer:
        return reply.replace(b"\r\n", b"\n")


class Fragmented(Spoiler):
    """A good server on a bad line: replies come in pieces of `size` bytes, also in the middle of a code or CRLF."""

    name: ClassVar[str] = "fragmented"

    def __init__(self, *args: Any, size: int = 2, gap: float = 0.001, **options: Any) -> None:
        super().__init__(*args, **options)
        self.size = size
        self.gap = gap

    def spoil(self, dialogue: Dialogue, reply: bytes) -> Answer:
        pieces = (reply[start : start + self.size] for start in range(0, len(reply), self.size))
        return Act(stream=pieces, gap=self.gap)


def _bytes_of(data: bytes) -> Iterator[bytes]:
    return (data[place : place + 1] for place in range(len(data)))
