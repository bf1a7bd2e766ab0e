"""What is asked of the monitor for a tenant: an answer in JSON, or a file that is passed on as it comes."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import httpx2
from fastapi import Response
from fastapi.responses import StreamingResponse

from services.gateway.api.world import World
from services.gateway.keys import Principal
from sskai.http import PROBLEM_JSON, Problem

MONITOR_SECONDS = 30
PASSED_ON = ("content-type", "content-disposition")


async def ask(
    here: World, caller: Principal, path: str, params: dict[str, Any] | None = None, missing: Problem | None = None
) -> Response:
    """The monitor's answer; what it refuses is refused in its words, what it does not know as `missing` says."""
    request = _request(here, caller, path, params or {})
    try:
        answer = await here.http.send(request)
    except httpx2.HTTPError as error:
        raise away() from error
    if answer.status_code == 404 and missing is not None:
        raise missing
    return _answered(answer)


async def stream(here: World, caller: Principal, path: str, params: dict[str, Any]) -> Response:
    """A file, piece by piece."""
    request = _request(here, caller, path, params)
    try:
        answer = await here.http.send(request, stream=True)
    except httpx2.HTTPError as error:
        raise away() from error
    if answer.status_code != 200:
        await answer.aread()
        return _answered(answer)
    headers = {name: answer.headers[name] for name in PASSED_ON if name in answer.headers}
    return StreamingResponse(_pieces(answer), headers=headers)


def away() -> Problem:
    return Problem(503, "The monitor is away", "Try again in a few seconds", headers={"Retry-After": "2"})


def _request(here: World, caller: Principal, path: str, params: dict[str, Any]) -> httpx2.Request:
    if not here.settings.otlp_url:
        raise Problem(503, "No monitor", "Nothing is watched here: set SSKAI_OTLP_URL")
    return here.http.build_request(
        "GET",
        f"{here.settings.otlp_url.rstrip('/')}{path}",
        params={name: value for name, value in params.items() if value is not None},
        headers=here.internal_headers(caller.tenant_id),
        timeout=MONITOR_SECONDS,
    )


async def _pieces(answer: httpx2.Response) -> AsyncIterator[bytes]:
    try:
        async for piece in answer.aiter_bytes():
            yield piece
    finally:
        await answer.aclose()


def _answered(answer: httpx2.Response) -> Response:
    if answer.status_code == 200:
        return Response(answer.content, media_type="application/json")
    refused = answer.status_code in (400, 404, 422, 503)
    if refused and answer.headers.get("content-type", "").startswith(PROBLEM_JSON):
        body = answer.json()
        more = {name: body[name] for name in ("field", "errors") if body.get(name)}
        raise Problem(answer.status_code, str(body.get("title", "")), str(body.get("detail", "")), **more)
    raise Problem(502, "The monitor failed", f"It answered {answer.status_code}: try again")
