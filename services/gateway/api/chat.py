"""OpenAI's answering routes: passed on to inference, answer by answer and token by token.

A restart of inference goes unnoticed as long as nothing of the answer was sent: the request is tried again. When the
client goes away, the connection to inference is closed, which frees its place there. Errors have OpenAI's shape.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any

import httpx2
import structlog
from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse, StreamingResponse
from opentelemetry import propagate

from services.gateway.api.auth import Caller
from services.gateway.api.world import Here, World
from services.gateway.keys import Principal

log = structlog.get_logger()

router = APIRouter(prefix="/v1", tags=["inference"])

FIRST_PAUSE_SECONDS = 0.1
LAST_PAUSE_SECONDS = 2.0
CONNECT_SECONDS = 3.0
KEPT_HEADERS = ("content-type", "retry-after", "x-request-id", "cache-control")
_BODY = {
    "requestBody": {
        "required": True,
        "content": {"application/json": {"schema": {"type": "object", "required": ["model"]}}},
    }
}


class _AwayError(Exception):
    """Inference cannot take the request now."""


@router.post("/chat/completions", openapi_extra=_BODY)
async def chat_completions(request: Request, here: Here, caller: Caller) -> Response:
    """OpenAI's chat completions; `model` is an endpoint's name."""
    return await _pass_on(request, here, caller, "/v1/chat/completions")


@router.post("/completions", openapi_extra=_BODY)
async def completions(request: Request, here: Here, caller: Caller) -> Response:
    """OpenAI's completions; `model` is an endpoint's name."""
    return await _pass_on(request, here, caller, "/v1/completions")


@router.post("/embeddings", openapi_extra=_BODY)
async def embeddings(request: Request, here: Here, caller: Caller) -> Response:
    """OpenAI's embeddings; `model` is an endpoint's name."""
    return await _pass_on(request, here, caller, "/v1/embeddings")


async def _pass_on(request: Request, here: World, caller: Principal, path: str) -> Response:
    body = await request.body()
    if refusal := _refusal(body):
        return refusal
    return await pass_on(request, here, caller, path, body)


async def pass_on(request: Request, here: World, caller: Principal, path: str, body: bytes) -> Response:
    """Inference's answer to this body, by the request's own method; 503 when inference stays away."""
    sending = asyncio.create_task(_answer(here, caller, request.method, path, body))
    leaving = asyncio.create_task(_left(request))
    try:
        await asyncio.wait((sending, leaving), return_when=asyncio.FIRST_COMPLETED)
        if not sending.done():
            return Response(status_code=499)  # nobody is there to read it
        answer = sending.result()
    except _AwayError:
        return _error(503, "Inference is away: try again", "server_error", "unavailable", {"Retry-After": "2"})
    finally:
        for task in (sending, leaving):
            task.cancel()
            with suppress(asyncio.CancelledError, _AwayError):
                await task
    headers = {name: answer.headers[name] for name in KEPT_HEADERS if name in answer.headers}
    return StreamingResponse(_pieces(answer), answer.status_code, headers)


async def _answer(here: World, caller: Principal, method: str, path: str, body: bytes) -> httpx2.Response:
    """The beginning of the answer. Tried again, with growing pauses, while inference is away; raises _AwayError."""
    clock = asyncio.get_running_loop().time
    until, pause = clock() + here.settings.inference_retry_seconds, FIRST_PAUSE_SECONDS
    headers = {"Content-Type": "application/json", **here.internal_headers(caller.tenant_id)}
    propagate.inject(headers)
    timeout = httpx2.Timeout(here.settings.inference_timeout_seconds, connect=CONNECT_SECONDS)
    url = here.settings.inference_url.rstrip("/") + path
    while True:
        request = here.http.build_request(method, url, content=body, headers=headers, timeout=timeout)
        try:
            answer = await here.http.send(request, stream=True)
        except httpx2.TransportError as error:
            reason = repr(error)
        else:
            if answer.status_code != 503:
                return answer
            reason = "503"
            await answer.aclose()
        if clock() + pause > until:
            raise _AwayError(reason)
        log.info("inference is away, trying again", reason=reason, pause_seconds=pause)
        await asyncio.sleep(pause)
        pause = min(2 * pause, LAST_PAUSE_SECONDS)


async def _left(request: Request) -> None:
    """Returns when the client has gone away."""
    while (await request.receive())["type"] != "http.disconnect":
        pass


async def _pieces(answer: httpx2.Response) -> AsyncIterator[bytes]:
    try:
        async for piece in answer.aiter_raw():
            yield piece
    except httpx2.TransportError as error:
        # The status is sent already. A reader of the stream learns it from an event; any other body ends too short.
        log.warning("inference broke off in the middle of an answer", error=repr(error))
        if not answer.headers.get("content-type", "").startswith("text/event-stream"):
            raise
        yield b"data: " + json.dumps(_shape("Inference broke off: try again", "server_error", None)).encode() + b"\n\n"
    finally:
        await answer.aclose()


def _refusal(body: bytes) -> Response | None:
    """Inference judges the request; here it only has to be JSON that names a model."""
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        return _error(400, "The body is not JSON", "invalid_request_error", None)
    if not isinstance(document, dict) or not isinstance(document.get("model"), str):
        return _error(400, "`model` must name an endpoint: GET /v1/endpoints", "invalid_request_error", None)
    return None


def _shape(message: str, kind: str, code: str | None) -> dict[str, Any]:
    return {"error": {"message": message, "type": kind, "param": None, "code": code}}


def _error(
    status: int, message: str, kind: str, code: str | None, headers: dict[str, str] | None = None
) -> JSONResponse:
    return JSONResponse(_shape(message, kind, code), status, headers)
