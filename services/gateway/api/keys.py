"""`/v1/keys`: API keys. An administrator makes them, for any tenant; a key's text is shown once."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Query
from pydantic import StringConstraints

from services.gateway.api.auth import Caller
from services.gateway.api.world import After, Here, Id, Limit, not_found, page
from services.gateway.jobfile import Form
from services.gateway.keys import Keys, Principal
from services.gateway.plain import iso
from services.gateway.tables import KeyRow
from sskai.http import Problem

router = APIRouter(prefix="/v1/keys", tags=["keys"])

TenantId = Annotated[str, StringConstraints(pattern=r"^tenant_[a-z0-9_-]{1,60}$")]


class KeyForm(Form):
    name: Annotated[str, StringConstraints(pattern=r"^[\w .@-]{1,100}$")]
    tenant_id: TenantId | None = None  # absent: the caller's own
    sampled: bool = True  # false: InferenceSampled tells nothing of what is asked with it


@router.post("", status_code=201)
async def create_key(form: KeyForm, here: Here, caller: Caller) -> dict[str, Any]:
    """A new key. `key` is in this answer and nowhere else."""
    if not caller.admin:
        raise Problem(403, "Forbidden", "Only an administrator's key makes keys: ask your operator")
    async with here.database.transaction() as session:
        row, key = await Keys(session).create(
            form.tenant_id or caller.tenant_id, form.name, here.now(), sampled=form.sampled
        )
    return {**shown(row), "key": key}


@router.get("")
async def list_keys(
    here: Here, caller: Caller, tenant_id: TenantId | None = None, after: After = None, limit: Limit = 20
) -> dict[str, Any]:
    """Keys of the caller's tenant, newest first; an administrator may ask for another tenant's."""
    async with here.database.transaction() as session:
        rows = await Keys(session).of_tenant(_tenant(caller, tenant_id), after, limit + 1)
    return page([shown(row) for row in rows], limit)


@router.delete("/{key_id}", status_code=204)
async def revoke_key(
    key_id: Id, here: Here, caller: Caller, tenant_id: Annotated[TenantId | None, Query()] = None
) -> None:
    """It is refused from now on."""
    async with here.database.transaction() as session:
        found = await Keys(session).revoke(_tenant(caller, tenant_id), key_id, here.now())
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
        "admin": row.admin,
        "sampled": row.sampled,
        "created_at": iso(row.created_at),
        "revoked_at": iso(row.revoked_at) if row.revoked_at else None,
    }


def _tenant(caller: Principal, asked: str | None) -> str:
    """Somebody else's tenant is as unknown as one that does not exist."""
    if asked is None or asked == caller.tenant_id or caller.admin:
        return asked or caller.tenant_id
    raise not_found("tenant", asked)
