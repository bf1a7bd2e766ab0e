"""`/v1/traces`: the monitor's answer to the tenant's question."""

from __future__ import annotations

import re

import httpx2
from fastapi import APIRouter, Response

from services.gateway.api.auth import Caller
from services.gateway.api.world import Here, Id, World, not_found
from services.gateway.keys import Principal
from sskai.http import Problem

router = APIRouter(prefix="/v1/traces", tags=["traces"])

MONITOR_SECONDS = 10


@router.get("/{trace_id}")
async def get_trace(trace_id: Id, here: Here, caller: Caller) -> Response:
    """A trace as a tree of spans with start and duration."""
    return await fetch(here, caller, trace_id)


async def fetch(here: World, caller: Principal, trace_id: str) -> Response:
    """Ask the monitor, which knows whose traces are whose."""
    if not re.fullmatch(r"[0-9a-f]{32}", trace_id):
        raise not_found("trace", trace_id)
    return await ask_monitor(here, caller, f"/v1/traces/{trace_id}", not_found("trace", trace_id))


async def ask_monitor(here: World, caller: Principal, path: str, missing: Problem) -> Response:
    """The monitor's answer as it stands. Raises Problem: `missing` where it knows nothing, 503 if it is away."""
    if not here.settings.otlp_url:
        raise Problem(503, "No monitor", "Nothing is watched here: set SSKAI_OTLP_URL")
    url = here.settings.otlp_url.rstrip("/") + path
    headers = here.internal_headers(caller.tenant_id)
    try:
        answer = await here.http.get(url, headers=headers, timeout=MONITOR_SECONDS)
    except httpx2.HTTPError as error:
        raise Problem(503, "The monitor is away", "Try again in a few seconds", headers={"Retry-After": "2"}) from error
    if answer.status_code == 404:
        raise missing
    if answer.status_code != 200:
        raise Problem(502, "The monitor failed", f"It answered {answer.status_code}: try again")
    return Response(answer.content, media_type="application/json")
