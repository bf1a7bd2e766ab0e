"""`/v1/members`: the people of a project."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import APIRouter
from pydantic import StringConstraints

from services.gateway.access import Role
from services.gateway.api.auth import Caller
from services.gateway.api.world import After, Here, Id, Limit, not_found, page
from services.gateway.jobfile import Form
from services.gateway.people import LastAdminError, People
from services.gateway.plain import iso
from services.gateway.tables import MemberRow
from sskai.http import Problem

router = APIRouter(prefix="/v1/members", tags=["accounts"])

MAX_MEMBERS = 1_000
Email = Annotated[str, StringConstraints(to_lower=True, max_length=254, pattern=r"^[^\s@,;<>\"]+@[^\s@,;<>\"]+$")]
RoleName = Literal["viewer", "developer", "admin"]


class InvitationForm(Form):
    email: Email
    role: RoleName


class RoleForm(Form):
    role: RoleName


@router.post("", status_code=201)
async def invite_member(form: InvitationForm, here: Here, caller: Caller) -> dict[str, Any]:
    """Whoever signs in with this address, verified by the identity provider, is in the project."""
    async with here.database.transaction() as session:
        people = People(session)
        if await people.count(caller.tenant_id) >= MAX_MEMBERS:
            raise Problem(409, "Too many members", f"A project has at most {MAX_MEMBERS}: remove one")
        member = await people.add_member(caller.tenant_id, form.email, Role(form.role), here.now())
    if member is None:
        raise Problem(409, "A member already", f"{form.email} is in the project: change the role instead")
    return shown(member)


@router.get("")
async def list_members(here: Here, caller: Caller, after: After = None, limit: Limit = 20) -> dict[str, Any]:
    """Newest first, invited ones too."""
    async with here.database.transaction() as session:
        rows = await People(session).members(caller.tenant_id, after, limit + 1)
    return page([shown(row) for row in rows], limit)


@router.patch("/{member_id}")
async def change_role(member_id: Id, form: RoleForm, here: Here, caller: Caller) -> dict[str, Any]:
    """Another role; the last admin keeps theirs: 409."""
    async with here.database.transaction() as session:
        people = People(session)
        member = await people.member(caller.tenant_id, member_id)
        if member is None:
            raise not_found("member", member_id)
        try:
            await people.set_role(member, Role(form.role))
        except LastAdminError as error:
            raise _last_admin() from error
    here.known_keys.forget()
    return shown(member)


@router.delete("/{member_id}", status_code=204)
async def remove_member(member_id: Id, here: Here, caller: Caller) -> None:
    """They are out of the project at once; the last admin stays: 409."""
    async with here.database.transaction() as session:
        people = People(session)
        member = await people.member(caller.tenant_id, member_id)
        if member is None:
            raise not_found("member", member_id)
        try:
            await people.remove(member)
        except LastAdminError as error:
            raise _last_admin() from error
    here.known_keys.forget()


def shown(row: MemberRow) -> dict[str, Any]:
    return {
        "id": row.member_id,
        "object": "member",
        "email": row.email,
        "name": row.name,
        "role": row.role,
        "state": "invited" if row.user_id is None else "active",
        "created_at": iso(row.created_at),
    }


def _last_admin() -> Problem:
    return Problem(409, "The last admin", "A project keeps an admin: make somebody else one first")
