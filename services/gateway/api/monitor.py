"""What is asked of the monitor for a tenant: an answer in JSON, or a file that is passed on as it comes."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import httpx2
from fastapi import Response
from fastapi.responses import StreamingResponse

from services.gateway.api import inside
from services.gateway.api.world import World
from services.gateway.keys import Principal
from sskai.http import Problem

WHO = "monitor"
PASSED_ON = ("content-type", "content-disposition")


async def ask(
    here: World, caller: Principal, path: str, params: dict[str, Any] | None = None, missing: Problem | None = None
) -> Response:
    """The monitor's answer; what it refuses is refused in its words, what it does not know as `missing` says."""
    answer = await inside.send(here, caller, WHO, _url(here, path), params or {})
    if answer.status_code == 404 and missing is not None:
        raise missing
    if answer.status_code != 200:
        raise inside.refusal(answer, WHO)
    return Response(answer.content, media_type="application/json")


async def stream(here: World, caller: Principal, path: str, params: dict[str, Any]) -> Response:
    """A file, piece by piece."""
    answer = await inside.send(here, caller, WHO, _url(here, path), params, stream=True)
    if answer.status_code != 200:
        await answer.aread()
        raise inside.refusal(answer, WHO)
    headers = {name: answer.headers[name] for name in PASSED_ON if name in answer.headers}
    return StreamingResponse(_pieces(answer), headers=headers)


def _url(here: World, path: str) -> str:
    monitor = here.settings.monitor_url or here.settings.otlp_url
    if not monitor:
        raise Problem(503, "No monitor", "Nothing is watched here: set SSKAI_MONITOR_URL")
    return f"{monitor.rstrip('/')}{path}"


async def _pieces(answer: httpx2.Response) -> AsyncIterator[bytes]:
    try:
        async for piece in answer.aiter_bytes():
            yield piece
    finally:
        await answer.aclose()
