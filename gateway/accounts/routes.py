"""GET /api/v1/organisation and /api/v1/members."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated

from fastapi import APIRouter, Depends, Path, Response
from pydantic import BaseModel, ConfigDict, Field, field_validator

from gateway.accounts.caller import Caller, CallerDep, Role, need_role, need_scope
from gateway.accounts.members import add_member, change_role, find_member, members, remove_member
from gateway.accounts.tokens import USER_ID
from gateway.audit.record import record
from gateway.collections import ORGANISATIONS
from gateway.idempotency.once import OnceDep
from gateway.parts import PartsDep
from gateway.problem import not_found
from shared.address import Malformed, parse_address
from shared.documents import Document

router = APIRouter(tags=["organisation"])

UserId = Annotated[str, Path(max_length=128)]
Admin = Annotated[Caller, Depends(need_role("admin"))]


class Organisation(BaseModel):
    id: str
    name: str
    createdAt: datetime  # noqa: N815 - the wire's spelling
    plan: str
    role: Role  # the caller's
    retentionDays: int | None  # noqa: N815 - null: the installation's
    lowCreditsBelow: int | None  # noqa: N815 - null: the installation's


class NewMember(BaseModel):
    """`userId` is the sign-in provider's."""

    model_config = ConfigDict(extra="forbid")

    userId: str = Field(pattern=f"^{USER_ID.pattern}$")  # noqa: N815 - the wire's spelling
    role: Role = "member"
    email: str | None = Field(default=None, max_length=320)

    @field_validator("email")
    @classmethod
    def _email(cls, value: str | None) -> str | None:
        if value is not None and isinstance(parse_address(value), Malformed):
            raise ValueError("no e-mail address")
        return value


class NewRole(BaseModel):
    model_config = ConfigDict(extra="forbid")

    role: Role


class Member(BaseModel):
    userId: str  # noqa: N815 - the wire's spelling
    email: str | None
    role: Role
    createdAt: datetime  # noqa: N815 - the wire's spelling


class Members(BaseModel):
    items: list[Member]


@router.get("/api/v1/organisation")
async def organisation(parts: PartsDep, caller: CallerDep) -> Organisation:
    """The caller's organisation."""
    found = await parts.documents.get(ORGANISATIONS, caller.org_id)
    if found is None:
        raise not_found("organisation")
    return show_organisation(found, caller)


@router.get("/api/v1/members")
async def list_members(parts: PartsDep, caller: Annotated[Caller, Depends(need_scope("members:read"))]) -> Members:
    """Everyone in the organisation."""
    return Members(items=[_show(member) async for member in members(parts.documents, caller.org_id)])


@router.post("/api/v1/members", status_code=201, response_model=Member)
async def create_member(new: NewMember, parts: PartsDep, caller: Admin, once: OnceDep) -> Response:
    """Write a member down before the first sign-in, or let a removed one in again."""

    async def produce(_: str) -> Response:
        member = await add_member(parts.documents, caller, new.userId, new.email, new.role)
        await parts.callers.changed()
        await record(parts, caller, "member.added", new.userId, {"role": new.role})
        return Response(_show(member).model_dump_json(), 201, media_type="application/json")

    return await once(produce, new)


@router.patch("/api/v1/members/{user_id}")
async def change_member(user_id: UserId, new: NewRole, parts: PartsDep, caller: Admin) -> Member:
    """Give a member another role. The last owner stays one."""
    before = await find_member(parts.documents, caller.org_id, user_id)
    member = await change_role(parts.documents, caller, user_id, new.role)
    await parts.callers.changed()
    await record(parts, caller, "member.changed", user_id, {"role": new.role, "before": before["role"]})
    return _show(member)


@router.delete("/api/v1/members/{user_id}", status_code=204)
async def delete_member(user_id: UserId, parts: PartsDep, caller: Admin) -> None:
    """Remove a member, who is refused everywhere within 5 seconds. The last owner stays."""
    await remove_member(parts.documents, caller, user_id)
    await parts.callers.changed()
    await record(parts, caller, "member.removed", user_id)


def show_organisation(found: Document, caller: Caller) -> Organisation:
    return Organisation(
        id=found["_id"],
        name=found["name"],
        createdAt=datetime.fromtimestamp(found["createdAt"], UTC),
        plan=found["plan"],
        role=caller.role,
        retentionDays=found.get("retentionDays"),
        lowCreditsBelow=found.get("lowCreditsBelow"),
    )


def _show(member: Document) -> Member:
    created = datetime.fromtimestamp(member["createdAt"], UTC)
    return Member(userId=member["userId"], email=member["email"], role=member["role"], createdAt=created)
