"""`/v1/traces`: the monitor's answer to the tenant's question."""

from __future__ import annotations

import re
from typing import Literal

from fastapi import APIRouter, Response

from services.gateway.api import monitor
from services.gateway.api.auth import Caller
from services.gateway.api.world import Here, Id, World, not_found
from services.gateway.keys import Principal

router = APIRouter(prefix="/v1/traces", tags=["traces"])


@router.get("/{trace_id}")
async def get_trace(trace_id: Id, here: Here, caller: Caller, shape: Literal["list", "tree"] = "list") -> Response:
    """A trace's spans with start and duration, parents before children; `shape=tree`: children within their parents."""
    return await fetch(here, caller, trace_id, shape)


async def fetch(here: World, caller: Principal, trace_id: str, shape: str = "list") -> Response:
    """Ask the monitor, which knows whose traces are whose."""
    missing = not_found("trace", trace_id)
    if not re.fullmatch(r"[0-9a-f]{32}", trace_id):
        raise missing
    return await monitor.ask(here, caller, f"/v1/traces/{trace_id}", {"shape": shape}, missing)
