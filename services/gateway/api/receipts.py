"""`/v1/receipts`: what jobs cost, to the nano-dollar."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Query, Response

from services.gateway.api import monitor
from services.gateway.api.auth import Caller
from services.gateway.api.world import After, Here, Id, Limit, not_found, page
from services.gateway.store import Store
from services.gateway.tables import ReceiptRow
from sskai.money import NANO_PER_USD

router = APIRouter(prefix="/v1/receipts", tags=["receipts"])


@router.get("")
async def list_receipts(here: Here, caller: Caller, after: After = None, limit: Limit = 20) -> dict[str, Any]:
    """Receipts, of the newest job first; `after` is a job's id."""
    async with here.database.transaction() as session:
        rows = await Store(session).receipts(caller.tenant_id, after, limit + 1)
    return page([shown(row) for row in rows], limit, cursor="job_id")


@router.get("/endpoints/{endpoint_id}")
async def get_endpoint_receipt(
    endpoint_id: Id,
    here: Here,
    caller: Caller,
    month: Annotated[
        str | None, Query(pattern=r"^\d{4}-(0[1-9]|1[0-2])$", description="2026-11; by default this one")
    ] = None,
) -> Response:
    """What an endpoint's replicas cost in a month, what the same machine time costs on demand, and a day at a time.

    `final` is false while rows of that month may still come.
    """
    return await monitor.ask(here, caller, f"/v1/receipts/endpoints/{endpoint_id}", {"month": month})


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
        name.replace("_nano_usd", "_usd"): None if value is None else value / NANO_PER_USD
        for name, value in body.items()
        if name.endswith("_nano_usd")
    }
    return {"object": "receipt", **body, **in_usd}
