"""Who waits at one mail host, and in which order they have their turn.

Each line (a file, or a single batch) is first come, first served. Flights are taken from the lines in turns, and one
that the line cannot fill is filled up from the next: a list of ten behind one of a million has its answers after a few
flights, and no flight, so no connection, more is needed than with a single queue. In front of all lines stand those
that sessions gave back, and the urgent ones: somebody is waiting for the answer with the page open. Suspects come
when nobody else is left, each in a flight of its own.

Pure, and cheap: whoever waits in a line is a place in a crowd, and is made a recipient when the turn comes.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Hashable, Iterable, Sequence

from validator.smtp.crowd import Crowd
from validator.smtp.recipient import Recipient


class Waiting:
    """The recipients that one host is still to be asked about."""

    __slots__ = ("_first", "_lines", "_suspects", "ordinary")

    def __init__(self) -> None:
        self.ordinary = 0  # all but suspects; those whose asker is closed are counted until they are found out
        self._first: deque[Recipient] = deque()
        self._lines: OrderedDict[Hashable, deque[Crowd]] = OrderedDict()
        self._suspects: deque[Recipient] = deque()

    def __len__(self) -> int:
        return self.ordinary + len(self._suspects)

    def join(self, crowd: Crowd, line: Hashable) -> None:
        """At the end of their line."""
        queue = self._lines.get(line)
        if queue is None:
            queue = self._lines[line] = deque()
        queue.append(crowd)
        self.ordinary += crowd.left

    def put_first(self, recipients: Sequence[Recipient]) -> None:
        """In front of everybody, in this order."""
        self._first.extendleft(reversed(recipients))
        self.ordinary += len(recipients)

    def suspect(self, recipients: Iterable[Recipient]) -> None:
        self._suspects.extend(recipients)

    def take(self, size: int, flight: list[Recipient]) -> None:
        """Add to the empty `flight` the next, at most `size`, that somebody still waits for, all of one kind."""
        self._take_first(size, flight)
        lines = self._lines
        while lines and len(flight) < size:
            line, queue = next(iter(lines.items()))
            before = len(flight)
            self._take_of(queue, size, flight)
            if queue:  # the flight is full, or the next is of the other kind
                if len(flight) > before:
                    lines.move_to_end(line)
                break
            del lines[line]
        while not flight and size and self._suspects:
            if not (suspect := self._suspects.popleft()).asker.closed:
                flight.append(suspect)

    def _take_first(self, size: int, flight: list[Recipient]) -> None:
        queue = self._first
        before = len(queue)
        while queue and len(flight) < size:
            recipient = queue.popleft()
            if recipient.asker.closed:
                continue
            if flight and recipient.smtputf8 != flight[0].smtputf8:
                queue.appendleft(recipient)
                break
            flight.append(recipient)
        self.ordinary -= before - len(queue)

    def _take_of(self, queue: deque[Crowd], size: int, flight: list[Recipient]) -> None:
        while queue and len(flight) < size:
            crowd = queue[0]
            before = crowd.left
            if not crowd.asker.closed:
                crowd.take(size - len(flight), flight)
                if crowd.left:
                    self.ordinary -= before - crowd.left
                    return
            queue.popleft()
            self.ordinary -= before

    def drop_closed(self) -> None:
        """Forget those that nobody waits for any more."""
        self._first = deque(one for one in self._first if not one.asker.closed)
        for line, queue in list(self._lines.items()):
            kept = deque(crowd for crowd in queue if not crowd.asker.closed)
            if kept:
                self._lines[line] = kept
            else:
                del self._lines[line]
        self.ordinary = len(self._first) + sum(crowd.left for queue in self._lines.values() for crowd in queue)

    def clear(self) -> list[Recipient]:
        """Everybody who waited and is still waited for, in no order."""
        everybody = [one for one in (*self._first, *self._suspects) if not one.asker.closed]
        for queue in self._lines.values():
            for crowd in queue:
                if not crowd.asker.closed:
                    everybody += crowd.everybody()
        self._first.clear()
        self._lines.clear()
        self._suspects.clear()
        self.ordinary = 0
        return everybody
