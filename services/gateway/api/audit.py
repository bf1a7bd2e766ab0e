"""`/v1/audit`: who changed what in the project, and whether the log is what was written."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Query

from services.gateway.api.auth import Caller
from services.gateway.api.world import After, Here, Limit, page
from services.gateway.audit import Audit, written
from services.gateway.tables import AuditRow

router = APIRouter(prefix="/v1/audit", tags=["accounts"])

Text = Annotated[str | None, Query(min_length=1, max_length=200, pattern=r"^[^\x00-\x1f\x7f]+$")]


@router.get("")
async def list_entries(
    here: Here,
    caller: Caller,
    *,
    actor: Annotated[Text, Query(description="An id or a name")] = None,
    action: Text = None,
    target: Text = None,
    after: After = None,
    limit: Limit = 20,
) -> dict[str, Any]:
    """Newest first. Of what was changed there are hashes, never the content."""
    async with here.database.transaction() as session:
        rows = await Audit(session).entries(
            caller.tenant_id, after, limit + 1, actor=actor, action=action, target=target
        )
    return page([shown(row) for row in rows], limit)


@router.get("/verify")
async def verify(here: Here, caller: Caller) -> dict[str, Any]:
    """Whether every entry since the first one is there, in its place, as it was written."""
    async with here.database.transaction() as session:
        verdict = await Audit(session).verify(caller.tenant_id)
    return {"valid": verdict.broken_at is None, "entries": verdict.entries, "broken_at": verdict.broken_at}


def shown(row: AuditRow) -> dict[str, Any]:
    return {
        "id": row.entry_id,
        "object": "audit.entry",
        "seq": row.seq,
        "at": written(row.at),
        "actor": {"kind": row.actor_kind, "id": row.actor_id, "name": row.actor_name},
        "action": row.action,
        "target": row.target,
        "status": row.status,
        "before_sha256": row.before_sha256,
        "after_sha256": row.after_sha256,
        "previous_sha256": row.previous_sha256,
        "sha256": row.sha256,
    }
