"""Addresses of one asker that wait together at a mail host.

Each becomes a Recipient only when its turn comes: hundreds of thousands may wait, a few thousand are being asked about.
They come out far ones side by side: neighbours in a list share their fate, and a run of refusals costs sessions.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from itertools import chain
from typing import Self

from validator.smtp.recipient import Asker, Recipient


class Crowd:
    """`left`: how many still wait."""

    __slots__ = ("_places", "_put_back", "_recipient", "asker", "left")

    def __init__(self, asker: Asker, size: int, recipient: Callable[[int], Recipient]) -> None:
        """`recipient` makes the one of a place, 0 to `size` - 1; it is called once for each place."""
        self.asker = asker
        self.left = size
        self._recipient = recipient
        self._places = _far_apart(size)
        self._put_back: Recipient | None = None

    @classmethod
    def of(cls, recipient: Recipient) -> Self:
        """One alone, who was made before."""
        return cls(recipient.asker, 1, lambda _: recipient)

    def take(self, most: int, flight: list[Recipient]) -> None:
        """Add the next ones to `flight`, at most so many, up to the first that is of another kind than those in it."""
        for _ in range(min(most, self.left)):
            recipient = self._put_back or self._recipient(next(self._places))
            if flight and recipient.smtputf8 != flight[0].smtputf8:
                self._put_back = recipient
                return
            self._put_back = None
            self.left -= 1
            flight.append(recipient)

    def everybody(self) -> list[Recipient]:
        """All who wait, who then no longer do."""
        rest = [self._recipient(place) for place in self._places]
        if self._put_back is not None:
            rest.insert(0, self._put_back)
        self.left, self._put_back = 0, None
        return rest


def _far_apart(size: int) -> Iterator[int]:
    if size == 1:
        return iter((0,))
    stride = math.isqrt(size) or 1
    return chain.from_iterable(range(start, size, stride) for start in range(stride))
