"""Who is calling: the one place where a request gets its organisation."""

from __future__ import annotations

from dataclasses import dataclass

DEFAULT_ORG = "org_default"  # the first organisation: MAILVET_API_KEY, BOOTSTRAP_CREDITS and dev mode belong to it


@dataclass(frozen=True, slots=True)
class Caller:
    """The authenticated caller. Every query of every route is scoped by `org_id`."""

    org_id: str
    actor: str  # "key:{id}" or "user:{id}", for the audit log and rate limits
    scopes: frozenset[str]  # what an API key may do; "*" is everything
    role: str = "owner"  # of a signed-in member: owner, admin, member, viewer
    test: bool = False  # a test key
