"""Look-ups that follow aliases and say what the DNS said: found, nothing of that type, no such name, or nothing known.

RFC 2308 tells "no such name" (NXDOMAIN) from "no record of that type" (nodata); both are facts about the domain. Every
other ending (SERVFAIL, REFUSED, timeout, loop, nonsense) says nothing about the domain and is a FAILURE.
"""

from __future__ import annotations

from enum import Enum, auto
from typing import NamedTuple

from validator.dns import wire
from validator.dns.exchange import Exchange, NoReply

MAX_ALIASES = 8  # of one look-up; a longer chain is a loop or a trap


class Ending(Enum):
    FOUND = auto()
    NODATA = auto()
    NXDOMAIN = auto()
    FAILURE = auto()


class Answer(NamedTuple):
    ending: Ending
    values: tuple[wire.Value, ...] = ()
    ttl: int | None = None  # seconds; None where the reply names none
    temporary: bool = False  # only with FAILURE
    why: str = ""


class Budget:
    """What one domain may cost. `deadline` by the loop's clock."""

    __slots__ = ("deadline", "left")

    def __init__(self, queries: int, deadline: float) -> None:
        self.left = queries
        self.deadline = deadline

    def spend(self) -> bool:
        """False: nothing is left."""
        self.left -= 1
        return self.left >= 0


async def look_up(exchange: Exchange, name: str, rtype: int, budget: Budget) -> Answer:
    """The records of `rtype` at `name` or at what it is an alias for. Never raises for what the DNS says."""
    seen = {name}
    ttl: int | None = None
    while True:
        if not budget.spend():
            return _failure("too many queries for one domain", temporary=False)
        try:
            reply = await exchange.ask(wire.write_question(name, rtype), budget.deadline)
        except NoReply as ending:
            return _failure(str(ending), temporary=True)
        except ValueError as error:  # a name that does not fit the wire is the name of nothing
            return Answer(Ending.NXDOMAIN, why=str(error))
        if reply.referral or reply.rcode not in (wire.NOERROR, wire.NXDOMAIN):
            what = "a referral" if reply.referral else wire.RCODE_NAMES.get(reply.rcode, f"rcode {reply.rcode}")
            return _failure(what, temporary=True)
        end, ttl = _follow(reply, name, ttl, seen)
        if end is None:
            return _failure("an alias loop or too many aliases", temporary=False)
        found = [record for record in reply.records if record.rtype == rtype and record.owner == end]
        if found:
            ttl = _least(ttl, min(record.ttl for record in found))
            return Answer(Ending.FOUND, tuple(record.value for record in found), ttl)
        if reply.rcode == wire.NXDOMAIN or end == name:
            missing = reply.rcode == wire.NXDOMAIN
            return Answer(Ending.NXDOMAIN if missing else Ending.NODATA, ttl=reply.negative_ttl)
        name = end  # the server did not look behind the alias; it is asked for the target itself


def _follow(reply: wire.Reply, name: str, ttl: int | None, seen: set[str]) -> tuple[str | None, int | None]:
    """Where the aliases in `reply` lead from `name`, and the shortest time to live on the way. None: nowhere."""
    aliases = {record.owner: record for record in reply.records if record.rtype == wire.CNAME}
    while (alias := aliases.get(name)) is not None:
        name = str(alias.value)
        ttl = _least(ttl, alias.ttl)
        if name in seen or len(seen) > MAX_ALIASES:
            return None, ttl
        seen.add(name)
    return name, ttl


def _failure(why: str, *, temporary: bool) -> Answer:
    return Answer(Ending.FAILURE, temporary=temporary, why=why)


def _least(ttl: int | None, other: int) -> int:
    return other if ttl is None else min(ttl, other)
