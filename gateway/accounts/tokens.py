"""Session tokens: a JWT (RFC 7519) of the sign-in provider becomes a Session, or 401.

`clerk`: RS256 only, key from the provider's JWKS; `iss`, `exp`, `iat`, `nbf` (5 s of leeway), `sub` and `sid` required;
`azp` one of the authorised parties where present; a pending session (`sts`) refused. Both generations of claims are
read: v2 `o: {id, rol}` and v1 `org_id`, `org_role`. Without an organisation the person is his own.
`hs256`, for those who host themselves: HS256 with their secret; `exp`, `iat`, `sub` required; `org_id` (default: the
first organisation) and `role` (default: member).

The organisation comes from the token and from nowhere else. Headers that point at keys (`jku`, `jwk`, `x5u`, `x5c`) and
`crit` are refused.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import jwt
from jwt.exceptions import PyJWTError

from gateway.accounts.caller import DEFAULT_ORG, ROLES, Role
from gateway.accounts.credentials import unauthorised
from gateway.accounts.jwks import Jwks

_LEEWAY = 5  # seconds
_KEY_HEADERS = frozenset({"jku", "jwk", "x5u", "x5c", "crit"})
ORG_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")
USER_ID = re.compile(r"[A-Za-z0-9_.|@:+-]{1,128}")


@dataclass(frozen=True, slots=True)
class Session:
    """A signed-in person. `role`: with which he starts here; `ceiling`: the most that the provider's role allows."""

    org_id: str
    user_id: str
    role: Role
    ceiling: Role
    session_id: str | None = None


def looks_like_token(credential: str) -> bool:
    """Whether to judge it as a JWT: three parts, the first a JSON object in base64url."""
    return credential.startswith("eyJ") and credential.count(".") == 2


async def read_clerk_token(token: str, keys: Jwks, issuer: str, parties: tuple[str, ...]) -> Session:
    """Raises Problem 401, or 503 while the provider's keys cannot be had."""
    kid = _header(token, "RS256").get("kid")
    key = await keys.find(kid) if isinstance(kid, str) else None
    if key is None:
        raise unauthorised()
    required = ["exp", "iat", "nbf", "iss", "sub", "sid"]
    claims = _claims(token, key.key, "RS256", required, issuer)
    if "azp" in claims and claims["azp"] not in parties:
        raise unauthorised()
    if claims.get("sts") == "pending":
        raise unauthorised()
    organisation = claims.get("o")
    if isinstance(organisation, Mapping):
        org_id, name = organisation.get("id"), organisation.get("rol")
    else:
        org_id, name = claims.get("org_id"), claims.get("org_role")
    if org_id is None:
        return _session(claims["sub"], claims["sub"], "owner", "owner", claims["sid"])
    role = _role(str(name).removeprefix("org:"))
    # The provider knows no owners, so its admins may be made owners here.
    return _session(org_id, claims["sub"], role, "owner" if role == "admin" else role, claims["sid"])


def read_hs256_token(token: str, secret: str) -> Session:
    """Raises Problem 401."""
    _header(token, "HS256")
    claims = _claims(token, secret, "HS256", ["exp", "iat", "sub"], None)
    role = _role(claims.get("role", "member"))
    return _session(claims.get("org_id", DEFAULT_ORG), claims["sub"], role, role, claims.get("sid"))


def _header(token: str, algorithm: str) -> dict[str, Any]:
    try:
        header: dict[str, Any] = jwt.get_unverified_header(token)
    except PyJWTError:
        raise unauthorised() from None
    if header.get("alg") != algorithm or _KEY_HEADERS & header.keys():
        raise unauthorised()
    return header


def _claims(token: str, key: Any, algorithm: str, required: list[str], issuer: str | None) -> dict[str, Any]:
    try:
        claims: dict[str, Any] = jwt.decode(
            token,
            key,
            algorithms=[algorithm],
            issuer=issuer,
            leeway=_LEEWAY,
            options={"require": required, "verify_aud": False},
        )
    except PyJWTError:
        raise unauthorised() from None
    return claims


def _role(name: object) -> Role:
    """A role of ours by that name; the least for names we do not know."""
    return next((role for role in ROLES if role == name), "viewer")


def _session(org_id: object, user_id: object, role: Role, ceiling: Role, session_id: object) -> Session:
    if not isinstance(org_id, str) or not ORG_ID.fullmatch(org_id):
        raise unauthorised()
    if not isinstance(user_id, str) or not USER_ID.fullmatch(user_id):
        raise unauthorised()
    return Session(org_id, user_id, role, ceiling, session_id if isinstance(session_id, str) else None)
