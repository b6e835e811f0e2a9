"""Members of an organisation and their roles.

Who may sign in to an organisation is the sign-in provider's to say; the role is ours, never above what the provider's
own role allows. A member is written down at his first sign-in, or before by an admin. Who is removed here stays out,
whatever his token says, until an admin adds him again.

The last owner stays: an owner who is demoted or removed is changed first and put back when no other owner is found
then. Two last owners who remove each other at the same moment are both put back; an organisation never ends up without.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator

from gateway.accounts.caller import ROLE_SCOPES, ROLES, Caller, Role
from gateway.accounts.organisations import ensure_organisation
from gateway.accounts.tokens import Session
from gateway.audit.record import append
from gateway.collections import AUDIT, MEMBERS
from gateway.problem import Problem, not_found
from shared.documents import Change, Document, Documents

MOST = 1_000  # members of one organisation


def member_id(org_id: str, user_id: str) -> str:
    """Unambiguous: an organisation's id has no colon."""
    return f"{org_id}:{user_id}"


async def sign_in(documents: Documents, session: Session) -> Caller:
    """The caller behind a session; written down where he is new. Raises Problem 403 for a removed member."""
    member = await documents.get(MEMBERS, member_id(session.org_id, session.user_id))
    if member is None:
        member = await _first_sign_in(documents, session)
    if member["removedAt"] is not None:
        raise Problem(403, "not_a_member", "You were removed from this organisation.")
    role = ROLES[max(ROLES.index(member["role"]), ROLES.index(session.ceiling))]
    actor = f"user:{session.user_id}"
    if session.session_id is not None:
        await _note_session(documents, session, actor)
    return Caller(session.org_id, actor, ROLE_SCOPES[role], role)


async def _note_session(documents: Documents, session: Session, actor: str) -> None:
    id_ = f"session:{session.org_id}:{session.session_id}"
    if await documents.get(AUDIT, id_) is None:
        await append(documents, session.org_id, actor, "session.started", session.user_id, detail={}, id_=id_)


async def _first_sign_in(documents: Documents, session: Session) -> Document:
    role = session.role
    if session.ceiling == "owner" and not await _owners(documents, session.org_id):
        role = "owner"  # somebody has to be, and the provider's admins come first
    await ensure_organisation(documents, session.org_id, time.time())
    fresh = _document(session.org_id, session.user_id, None, role)
    await documents.insert(MEMBERS, fresh)
    return await documents.get(MEMBERS, fresh["_id"]) or fresh


async def add_member(documents: Documents, caller: Caller, user_id: str, email: str | None, role: Role) -> Document:
    """Raises Problem 403 for a role above the caller's, 409 for one who is there already."""
    _may_give(caller, role)
    if await documents.count(MEMBERS, {"orgId": caller.org_id}) >= MOST:
        raise Problem(409, "too_many_members", f"An organisation has at most {MOST} members.")
    fresh = _document(caller.org_id, user_id, email, role)
    if await documents.insert(MEMBERS, fresh):
        return fresh
    back = Change(set={name: fresh[name] for name in ("email", "role", "createdAt", "removedAt")})
    # Only one who was removed is added again: `removedAt` is a number then.
    existing = await documents.get(MEMBERS, fresh["_id"])
    if existing is None or existing["removedAt"] is None:
        raise Problem(409, "already_a_member", "There is such a member already.")
    again = await documents.update(MEMBERS, fresh["_id"], back, {"removedAt": existing["removedAt"]})
    if again is None:
        raise Problem(409, "already_a_member", "There is such a member already.")
    return again


async def change_role(documents: Documents, caller: Caller, user_id: str, role: Role) -> Document:
    """Raises Problem 404, 403 for a role above the caller's, 409 `last_owner`."""
    member = await find_member(documents, caller.org_id, user_id)
    _may_give(caller, role)
    _may_give(caller, member["role"])
    return await _change(documents, member, {"role": role})


async def remove_member(documents: Documents, caller: Caller, user_id: str) -> None:
    """Raises Problem 404, 403 for one above the caller, 409 `last_owner`."""
    member = await find_member(documents, caller.org_id, user_id)
    _may_give(caller, member["role"])
    await _change(documents, member, {"removedAt": time.time(), "email": None})


async def find_member(documents: Documents, org_id: str, user_id: str) -> Document:
    member = await documents.get(MEMBERS, member_id(org_id, user_id))
    if member is None or member["removedAt"] is not None:
        raise not_found("member")
    return member


async def members(documents: Documents, org_id: str) -> AsyncIterator[Document]:
    async for member in documents.scan(MEMBERS, {"orgId": org_id}):
        if member["removedAt"] is None:
            yield member


async def _change(documents: Documents, member: Document, fields: Document) -> Document:
    before = {name: member[name] for name in ("role", "removedAt")}
    changed = await documents.update(MEMBERS, member["_id"], Change(set=fields), before)
    if changed is None:
        raise Problem(409, "changed_meanwhile", "Somebody else changed this member just now; look again.")
    if member["role"] == "owner" and not await _owners(documents, member["orgId"]):
        await documents.update(MEMBERS, member["_id"], Change(set={**before, "email": member["email"]}))
        raise Problem(409, "last_owner", "An organisation keeps at least one owner.")
    return changed


async def _owners(documents: Documents, org_id: str) -> int:
    return len([member async for member in members(documents, org_id) if member["role"] == "owner"])


def _may_give(caller: Caller, role: Role) -> None:
    if not caller.has_role(role):
        raise Problem(403, "role_missing", f"Only an {role} or above may do this.", role=role)


def _document(org_id: str, user_id: str, email: str | None, role: Role) -> Document:
    return {
        "_id": member_id(org_id, user_id),
        "orgId": org_id,
        "userId": user_id,
        "email": email,
        "role": role,
        "createdAt": time.time(),
        "removedAt": None,
    }
