"""Every queue, and where its dead letters go. No queue name is spelled anywhere else.

The arguments hold on RabbitMQ 3.10 and on 4.x. `x-delivery-limit` is always set: 3.10 has no default (a poison message
circles for ever), 4.x drops after 20. At-least-once dead lettering needs the strategy, `reject-publish` and an exchange
together, else it silently becomes at-most-once. A changed argument is refused by the broker (406): change the name.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

DEAD_LETTER_EXCHANGE = "email_validation.dead"
DELIVERY_LIMIT = 20


@dataclass(frozen=True, slots=True)
class Queue:
    """A durable quorum queue. `dead_letters`: the queue that gets what was refused or delivered too often."""

    name: str
    dead_letters: Queue | None = None
    arguments: dict[str, Any] = field(default_factory=dict, hash=False, compare=False)


def _quorum(name: str, dead: Queue) -> Queue:
    return Queue(
        name,
        dead,
        {
            "x-queue-type": "quorum",
            "x-delivery-limit": DELIVERY_LIMIT,
            "x-dead-letter-exchange": DEAD_LETTER_EXCHANGE,
            "x-dead-letter-routing-key": dead.name,
            "x-dead-letter-strategy": "at-least-once",
            "x-overflow": "reject-publish",
        },
    )


DEAD = Queue(
    "email_validation.dead",
    None,
    {
        "x-queue-type": "quorum",
        "x-delivery-limit": 1_000_000,
        "x-max-length": 100_000,
        "x-overflow": "reject-publish",
    },
)
WORK = _quorum("email_validation", DEAD)
RESULTS = _quorum("email_validation.results", DEAD)

QUEUES: tuple[Queue, ...] = (DEAD, WORK, RESULTS)
