"""`/v1/receipts`: what jobs cost, to the nano-dollar."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter

from services.gateway.api.auth import Caller
from services.gateway.api.world import After, Here, Id, Limit, not_found, page
from services.gateway.store import Store
from services.gateway.tables import ReceiptRow

router = APIRouter(prefix="/v1/receipts", tags=["receipts"])

NANO = 1e-9


@router.get("")
async def list_receipts(here: Here, caller: Caller, after: After = None, limit: Limit = 20) -> dict[str, Any]:
    """Receipts, of the newest job first; `after` is a job's id."""
    async with here.database.transaction() as session:
        rows = await Store(session).receipts(caller.tenant_id, after, limit + 1)
    return page([shown(row) for row in rows], limit, cursor="job_id")


@router.get("/{job_id}")
async def get_receipt(job_id: Id, here: Here, caller: Caller) -> dict[str, Any]:
    """A job's receipt; 404 until it has ended and every metered interval is in the ledger."""
    async with here.database.transaction() as session:
        row = await Store(session).receipt(caller.tenant_id, job_id)
    if row is None:
        raise not_found("receipt of job", job_id)
    return shown(row)


def shown(row: ReceiptRow) -> dict[str, Any]:
    """The monitor's figures, exact in nano-USD and readable in USD."""
    body = {name: value for name, value in row.body.items() if name != "tenant_id"}
    in_usd = {
        name.replace("_nano_usd", "_usd"): value * NANO for name, value in body.items() if name.endswith("_nano_usd")
    }
    return {"object": "receipt", **body, **in_usd}
