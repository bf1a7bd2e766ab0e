"""`/v1/endpoints/ID/drift`: the monitor's answer to whether what is asked is still what was trained for."""

from __future__ import annotations

from fastapi import APIRouter, Response

from services.gateway.api import monitor
from services.gateway.api.auth import Caller
from services.gateway.api.world import Here, Id, not_found

router = APIRouter(prefix="/v1/endpoints", tags=["endpoints"])


@router.get("/{endpoint_id}/drift")
async def get_drift(endpoint_id: Id, here: Here, caller: Caller) -> Response:
    """Every drift test of the endpoint's versions: statistic, threshold, samples, and what was told, in words."""
    missing = not_found("drift tests of endpoint", endpoint_id)
    return await monitor.ask(here, caller, f"/v1/drift/{endpoint_id}", missing=missing)
