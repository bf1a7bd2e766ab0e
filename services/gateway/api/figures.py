"""`/v1/figures`: rate, errors and durations, tokens and waits, as the monitor counted them."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response

from services.gateway.api import monitor
from services.gateway.api.auth import Caller
from services.gateway.api.world import Here

router = APIRouter(prefix="/v1/figures", tags=["figures"])

_QUERY = (
    "since", "until", "window", "whole", "group_by", "service", "name", "model", "model_version", "endpoint_id",
    "job_id", "attempt",
)  # fmt: skip


@router.get(
    "",
    openapi_extra={
        "parameters": [
            {"name": name, "in": "query", "required": False, "schema": {"type": "string"}} for name in _QUERY
        ]
    },
)
async def get_figures(request: Request, here: Here, caller: Caller) -> Response:
    """Figures of the tenant's spans by time and label; `window` is 10s, 1m, 1h or 1d, `group_by` some of the labels."""
    return await monitor.ask(here, caller, "/v1/figures", dict(request.query_params))
