"""`/v1/tenants`: projects."""

from __future__ import annotations

from typing import Annotated, Any, TypeAlias

from fastapi import APIRouter
from pydantic import StringConstraints

from services.gateway.access import Role, role_of
from services.gateway.api.auth import Caller
from services.gateway.api.world import After, Here, Id, Limit, World, not_found, page
from services.gateway.asking import acting_for, crossing_projects
from services.gateway.jobfile import Form
from services.gateway.keys import Principal
from services.gateway.people import People
from services.gateway.plain import iso
from services.gateway.tables import TenantRow
from sskai.contract import new_id
from sskai.http import Problem

router = APIRouter(prefix="/v1/tenants", tags=["accounts"])

Projects: TypeAlias = list[tuple[TenantRow, Role | None]]  # what the caller is in each


class TenantForm(Form):
    name: Annotated[str, StringConstraints(strip_whitespace=True, pattern=r"^[^\x00-\x1f\x7f]{1,100}$")]


@router.get("")
async def list_tenants(here: Here, caller: Caller, after: After = None, limit: Limit = 20) -> dict[str, Any]:
    """The caller's projects, newest first; an operator's are all of them."""
    with crossing_projects():
        async with here.database.transaction() as session:
            people = People(session)
            found: Projects
            if caller.operator:
                found = [(tenant, Role.ADMIN) for tenant in await people.tenants(after, limit + 1)]
            else:
                found = await _own(people, caller)
                found.sort(key=lambda one: one[0].created_at, reverse=True)
                ids = [tenant.tenant_id for tenant, _ in found]
                found = found[ids.index(after) + 1 if after in ids else 0 :]
    return page([shown(tenant, role) for tenant, role in found[: limit + 1]], limit)


@router.post("", status_code=201)
async def create_tenant(form: TenantForm, here: Here, caller: Caller) -> dict[str, Any]:
    """A new project, and its first admin is who makes it. An operator may; persons may where signing up is open."""
    person = caller.actor.kind == "user"
    if not caller.operator and not (person and here.settings.sign_up == "open"):
        raise Problem(403, "Forbidden", "Projects are made by the operator of this installation", scope="operator")
    now, tenant_id = here.now(), new_id("tenant")
    with acting_for(tenant_id, as_owner=True):
        async with here.database.transaction() as session:
            people = People(session)
            tenant = people.add_tenant(tenant_id, form.name, now)
            await session.flush()
            user = await people.user(caller.actor.id) if person else None
            if user is not None:
                await people.add_member(tenant_id, user.email or user.user_id, Role.ADMIN, now, user)
    return shown(tenant, Role.ADMIN)


@router.get("/{tenant_id}")
async def get_tenant(tenant_id: Id, here: Here, caller: Caller) -> dict[str, Any]:
    """One of the caller's projects."""
    return shown(*await _find(here, caller, tenant_id))


@router.patch("/{tenant_id}")
async def rename_tenant(tenant_id: Id, form: TenantForm, here: Here, caller: Caller) -> dict[str, Any]:
    """Another name; its admins may."""
    _, role = await _find(here, caller, tenant_id)
    if role is not Role.ADMIN:
        detail = "tenant.update needs the scope `admin`: ask an admin of the project"
        raise Problem(403, "Forbidden", detail, scope="admin")
    with acting_for(tenant_id):
        async with here.database.transaction() as session:
            tenant = await People(session).tenant(tenant_id)
            if tenant is None:
                raise not_found("tenant", tenant_id)
            tenant.name = form.name
    return shown(tenant, role)


async def _find(here: World, caller: Principal, tenant_id: str) -> tuple[TenantRow, Role | None]:
    with crossing_projects():
        async with here.database.transaction() as session:
            people = People(session)
            found: Projects
            if caller.operator:
                tenant = await people.tenant(tenant_id)
                found = [(tenant, Role.ADMIN)] if tenant else []
            else:
                found = [one for one in await _own(people, caller) if one[0].tenant_id == tenant_id]
    if not found:
        raise not_found("tenant", tenant_id)
    return found[0]


async def _own(people: People, caller: Principal) -> Projects:
    if caller.actor.kind == "user":
        return [(tenant, Role(member.role)) for tenant, member in await people.memberships(caller.actor.id)]
    own = await people.tenant(caller.tenant_id)
    return [(own, role_of(caller.scopes))] if own else []


def shown(tenant: TenantRow, role: Role | None) -> dict[str, Any]:
    return {
        "id": tenant.tenant_id,
        "object": "tenant",
        "name": tenant.name,
        "role": role.value if role else None,
        "created_at": iso(tenant.created_at),
    }
