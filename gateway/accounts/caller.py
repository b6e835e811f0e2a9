"""Who is calling: the one place where a request gets its organisation, and what the caller may do in it.

Routes take `caller: CallerDep` and scope every query by `caller.org_id`. What a route needs is said beside it:
`dependencies=[Depends(need_scope("files:write"))]`, or `caller: Annotated[Caller, Depends(need_scope("files:write"))]`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Annotated, Literal, get_args

from fastapi import Depends, Request, Security
from fastapi.security import APIKeyHeader, HTTPBearer

from gateway.parts import PartsDep
from gateway.problem import Problem

DEFAULT_ORG = "org_default"  # the first organisation: MAILVET_API_KEY, BOOTSTRAP_CREDITS and dev mode belong to it

Role = Literal["owner", "admin", "member", "viewer"]
ROLES: tuple[Role, ...] = get_args(Role)  # the mightiest first

Scope = Literal[
    "files:read",
    "files:write",
    "validate:write",
    "credits:read",
    "billing:write",
    "webhooks:read",
    "webhooks:write",
    "keys:read",
    "keys:write",
    "members:read",  # they are changed by role (need_role), not by scope
    "audit:read",
    "privacy:write",  # erasure, suppression, retention
]
SCOPES: tuple[Scope, ...] = get_args(Scope)
EVERYTHING = "*"
# What a test key may do, if it has the scope: work in the sandbox. All else would change what live keys see or cost.
SANDBOX: frozenset[Scope] = frozenset(
    {"files:read", "files:write", "validate:write", "credits:read", "webhooks:read", "webhooks:write"}
)

_VIEWER: frozenset[str] = frozenset({"files:read", "credits:read", "webhooks:read", "members:read"})
ROLE_SCOPES: dict[Role, frozenset[str]] = {
    "owner": frozenset({EVERYTHING}),
    "admin": frozenset({EVERYTHING}),
    "member": _VIEWER | {"files:write", "validate:write"},
    "viewer": _VIEWER,
}


@dataclass(frozen=True, slots=True)
class Caller:
    """The authenticated caller. Every query of every route is scoped by `org_id`."""

    org_id: str
    actor: str  # "key:{id}", "user:{id}" or "dev", for the audit log and rate limits
    scopes: frozenset[str]  # what the caller may do; "*" is everything
    role: Role = "owner"  # of a member; keys: owner for the bootstrap key, admin with "*", else viewer
    test: bool = False  # a test key: sees and makes what is of the sandbox only

    def may(self, scope: Scope) -> bool:
        return EVERYTHING in self.scopes or scope in self.scopes

    def has_role(self, role: Role) -> bool:
        """Whether the caller is `role` or mightier."""
        return ROLES.index(self.role) <= ROLES.index(role)


# For the OpenAPI document only; what a request presents is judged in gateway/accounts/credentials.py.
_BEARER = HTTPBearer(auto_error=False, scheme_name="bearer", description="An API key or a session token.")
_API_KEY = APIKeyHeader(name="X-API-Key", auto_error=False, scheme_name="apiKey", description="An API key.")


async def identify(
    request: Request,
    parts: PartsDep,
    _bearer: Annotated[object, Security(_BEARER)] = None,
    _api_key: Annotated[object, Security(_API_KEY)] = None,
) -> Caller:
    """The caller of this request, counted against its rate limits.

    Raises Problem: 401 for any credential that is not right, 400 for one in the query string, 403 outside a key's
    networks, 429 over the limit.
    """
    return await parts.callers.identify(request)


CallerDep = Annotated[Caller, Depends(identify)]


def need_scope(scope: Scope) -> Callable[[Caller], Awaitable[Caller]]:
    """A dependency that answers 403 unless the caller may do `scope`."""

    async def scoped(caller: CallerDep) -> Caller:
        if not caller.may(scope):
            raise Problem(403, "scope_missing", f"This needs the scope {scope}.", scope=scope)
        if caller.test and scope not in SANDBOX:
            raise Problem(403, "test_key", "A test key works in the sandbox only; use a live key.", scope=scope)
        return caller

    return scoped


def need_role(role: Role) -> Callable[[Caller], Awaitable[Caller]]:
    """A dependency that answers 403 unless the caller is `role` or mightier."""

    async def ranked(caller: CallerDep) -> Caller:
        if caller.test:
            raise Problem(403, "test_key", "A test key works in the sandbox only; use a live key.", role=role)
        if not caller.has_role(role):
            raise Problem(403, "role_missing", f"This needs the role {role}.", role=role)
        return caller

    return ranked
