"""`/v1/keys`: API keys. A project's admins make them, an operator for any project; a key's text is shown once."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query
from pydantic import Field, StringConstraints

from services.gateway.access import SCOPES, SCOPES_OF, Role, Scope
from services.gateway.api.auth import Caller
from services.gateway.api.world import After, Here, Id, Limit, not_found, page
from services.gateway.asking import acting_for
from services.gateway.jobfile import Duration, Form, duration_seconds
from services.gateway.keys import Keys, Principal
from services.gateway.people import People
from services.gateway.plain import iso
from services.gateway.tables import KeyRow
from sskai.http import Problem

router = APIRouter(prefix="/v1/keys", tags=["keys"])

TenantId = Annotated[str, StringConstraints(pattern=r"^tenant_[a-z0-9_-]{1,60}$")]
KeyScope = Literal["read", "infer", "write", "admin"]
MAX_DAYS = 3_650


class KeyForm(Form):
    name: Annotated[str, StringConstraints(pattern=r"^[\w .@-]{1,100}$")]
    scopes: list[KeyScope] | None = Field(default=None, min_length=1, max_length=len(SCOPES))  # a developer's
    expires_in: Duration | None = None  # never
    tenant_id: TenantId | None = None  # absent: the caller's own
    operator: bool = False  # for the whole installation
    sampled: bool = True  # false: InferenceSampled tells nothing of what is asked with it


@router.post("", status_code=201)
async def create_key(form: KeyForm, here: Here, caller: Caller) -> dict[str, Any]:
    """A new key, which may do no more than who makes it. `key` is in this answer and nowhere else."""
    if form.operator and not caller.operator:
        raise Problem(403, "Forbidden", "Only an operator makes operators", scope=Scope.OPERATOR.value)
    tenant_id, scopes = _tenant(caller, form.tenant_id), _scopes(caller, form)
    now = here.now()
    expires_at = now + timedelta(seconds=duration_seconds(form.expires_in)) if form.expires_in else None
    if expires_at is not None and expires_at > now + timedelta(days=MAX_DAYS):
        raise Problem(422, "Too long", f"expires_in: at most {MAX_DAYS}d; leave it out for a key that stays")
    with acting_for(tenant_id, as_owner=caller.operator):  # who may make the project, too
        async with here.database.transaction() as session:
            if caller.operator:
                await People(session).ensure_tenant(tenant_id, now)
            row, key = await Keys(session).create(
                tenant_id,
                form.name,
                now,
                scopes=scopes,
                operator=form.operator,
                sampled=form.sampled,
                expires_at=expires_at,
                created_by=caller.actor.id,
            )
    return {**shown(row), "key": key}


@router.get("")
async def list_keys(
    here: Here, caller: Caller, tenant_id: TenantId | None = None, after: After = None, limit: Limit = 20
) -> dict[str, Any]:
    """Keys of the caller's tenant, newest first; an operator may ask for another tenant's."""
    whose = _tenant(caller, tenant_id)
    with acting_for(whose):
        async with here.database.transaction() as session:
            rows = await Keys(session).of_tenant(whose, after, limit + 1)
    return page([shown(row) for row in rows], limit)


@router.delete("/{key_id}", status_code=204)
async def revoke_key(
    key_id: Id, here: Here, caller: Caller, tenant_id: Annotated[TenantId | None, Query()] = None
) -> None:
    """It is refused from now on."""
    whose = _tenant(caller, tenant_id)
    with acting_for(whose):
        async with here.database.transaction() as session:
            found = await Keys(session).revoke(whose, key_id, here.now())
    here.known_keys.forget()
    if not found:
        raise not_found("key", key_id)


def shown(row: KeyRow) -> dict[str, Any]:
    return {
        "id": row.key_id,
        "object": "key",
        "tenant_id": row.tenant_id,
        "name": row.name,
        "prefix": row.prefix,
        "scopes": row.scopes,
        "operator": row.operator,
        "sampled": row.sampled,
        "created_by": row.created_by or None,
        "created_at": iso(row.created_at),
        "expires_at": iso(row.expires_at) if row.expires_at else None,
        "last_used_at": iso(row.last_used_at) if row.last_used_at else None,
        "revoked_at": iso(row.revoked_at) if row.revoked_at else None,
    }


def _tenant(caller: Principal, asked: str | None) -> str:
    """Somebody else's tenant is as unknown as one that does not exist."""
    if asked is None or asked == caller.tenant_id or caller.operator:
        return asked or caller.tenant_id
    raise not_found("tenant", asked)


def _scopes(caller: Principal, form: KeyForm) -> frozenset[Scope]:
    """What the new key may do: what is asked for, or a developer's part of what the caller may."""
    if form.scopes is None:
        return SCOPES_OF[Role.DEVELOPER] & caller.scopes
    asked = frozenset(map(Scope, form.scopes))
    if more := asked - caller.scopes:
        detail = f"scopes: a key may do no more than who makes it, and you may not {', '.join(sorted(more))}"
        raise Problem(403, "Forbidden", detail, field="scopes", scope=min(more).value)
    return asked
