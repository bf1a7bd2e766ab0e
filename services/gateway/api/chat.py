"""OpenAI's answering routes: passed on to inference, answer by answer and token by token.

A restart of inference goes unnoticed as long as nothing of the answer was sent: the request is tried again. When the
client goes away, the connection to inference is closed, which frees its place there. Errors have OpenAI's shape. Keys
have limits, and so have all together; a target that fails is left alone for a while (`admission.py`).
"""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any

import aiohttp
import structlog
from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse, StreamingResponse
from opentelemetry import propagate
from prometheus_client import Counter
from starlette.background import BackgroundTask

from services.gateway.api import ratelimits
from services.gateway.api.auth import Caller
from services.gateway.api.world import Here, World
from services.gateway.keys import Principal
from services.gateway.library import Library
from services.gateway.store import Store

log = structlog.get_logger()

router = APIRouter(prefix="/v1", tags=["inference"])

REFUSED = Counter("sskai_gateway_requests_refused", "Requests to inference over a limit", ["code"])
FIRST_PAUSE_SECONDS = 0.1
LAST_PAUSE_SECONDS = 2.0
OPENAI = "/v1/"  # these bodies name their model; of the others the path does
# Where tensors begin behind the JSON of a request to /v2/models (the Open Inference Protocol's binary data).
TENSORS_HEADER = "Inference-Header-Content-Length"
KEPT_HEADERS = ("content-type", "retry-after", "x-request-id", "cache-control")
_BODY = {
    "requestBody": {
        "required": True,
        "content": {"application/json": {"schema": {"type": "object", "required": ["model"]}}},
    }
}


@dataclass(frozen=True, slots=True)
class _Onward:
    """What is passed on. `path`: inference's own. `name`: the endpoint's."""

    method: str
    path: str
    body: bytes
    headers: Mapping[str, str]
    tenant_id: str
    name: str


class _AwayError(Exception):
    """Inference cannot take the request now."""

    def __init__(self, message: str, code: str = "unavailable", status: int = 503) -> None:
        super().__init__(message)
        self.code = code
        self.status = status


@router.post("/chat/completions", openapi_extra=_BODY)
async def chat_completions(request: Request, here: Here, caller: Caller) -> Response:
    """OpenAI's chat completions; `model` is an endpoint's name."""
    return await pass_on(request, here, caller, "/v1/chat/completions")


@router.post("/completions", openapi_extra=_BODY)
async def completions(request: Request, here: Here, caller: Caller) -> Response:
    """OpenAI's completions; `model` is an endpoint's name."""
    return await pass_on(request, here, caller, "/v1/completions")


@router.post("/embeddings", openapi_extra=_BODY)
async def embeddings(request: Request, here: Here, caller: Caller) -> Response:
    """OpenAI's embeddings; `model` is an endpoint's name."""
    return await pass_on(request, here, caller, "/v1/embeddings")


@router.post("/images/generations", openapi_extra=_BODY)
async def images(request: Request, here: Here, caller: Caller) -> Response:
    """OpenAI's image generations; `model` is the name of an endpoint of a text-to-image model."""
    return await pass_on(request, here, caller, "/v1/images/generations")


async def pass_on(request: Request, here: World, caller: Principal, path: str) -> Response:
    """Inference's answer to this request, by its own method, within the key's limits; 503 when inference stays away."""
    clock = asyncio.get_running_loop().time
    limits = here.request_limits()
    refused = here.admission.enter(caller.key_id, limits, clock())
    rate = ratelimits.of_requests(limits, here.admission.left(caller.key_id, limits, clock()))
    if refused is not None:
        REFUSED.labels(code=refused.code).inc()
        status, kind = (503, "server_error") if refused.shed else (429, "rate_limit_error")
        headers = {"Retry-After": str(refused.retry_after_seconds), **rate}
        return _error(status, refused.message, kind, refused.code, headers)
    leave = partial(here.admission.leave, caller.key_id)
    try:
        response = await _answered(request, here, caller, path, leave)
    except BaseException:
        leave()
        raise
    if not isinstance(response, StreamingResponse):
        leave()
    response.headers.update(rate)
    return response


async def _answered(request: Request, here: World, caller: Principal, path: str, leave: Callable[[], None]) -> Response:
    """A StreamingResponse calls `leave` when it ends."""
    body = await request.body()
    document: Mapping[str, Any] = {}
    if path.startswith(OPENAI):
        read = _document(body)
        if isinstance(read, Response):
            return read
        document = read
    session = session_of(request.headers.get("x-sskai-session"), document)
    headers = _headers(here, caller, session)
    if tensors_at := request.headers.get(TENSORS_HEADER):
        headers[TENSORS_HEADER] = tensors_at
    name = str(document.get("model") or request.path_params.get("name", ""))
    onward = _Onward(request.method, path, body, headers, caller.tenant_id, name)
    sending = asyncio.create_task(_answer(here, onward))
    leaving = asyncio.create_task(_left(request))
    try:
        await asyncio.wait((sending, leaving), return_when=asyncio.FIRST_COMPLETED)
        if not sending.done():
            return Response(status_code=499)  # nobody is there to read it
        answer = sending.result()
    except _AwayError as error:
        return _error(error.status, str(error), "server_error", error.code, {"Retry-After": "2"})
    finally:
        for task in (sending, leaving):
            task.cancel()
            with suppress(asyncio.CancelledError, _AwayError):
                await task
    if answer.status == 404 and path.startswith(OPENAI) and (advice := await _model_without_endpoint(here, onward)):
        answer.close()
        return _error(404, advice, "invalid_request_error", "model_not_found")
    kept = {name: answer.headers[name] for name in KEPT_HEADERS if name in answer.headers}
    # As a background task too: of an answer whose client is gone before its first byte no generator is ever begun.
    ending = _Ending(answer, leave)
    background = BackgroundTask(ending.end)
    return StreamingResponse(_pieces(answer, ending), answer.status, kept, background=background)


class _Ending:
    """Closes the connection to inference and gives the place back, once."""

    def __init__(self, answer: aiohttp.ClientResponse, leave: Callable[[], None]) -> None:
        self._answer = answer
        self._leave: Callable[[], None] | None = leave

    async def end(self) -> None:
        leave, self._leave = self._leave, None
        if leave is not None:
            leave()
            self._answer.close()


def session_of(header: str | None, document: Mapping[str, Any]) -> str:
    """By what the versions of an endpoint are drawn: the header, else OpenAI's `user` and its kin; empty: nothing.

    Hashed: names of users are nobody's business on the way, and any text becomes a header.
    """
    named = (header, *(document.get(field) for field in ("user", "safety_identifier", "prompt_cache_key")))
    first = next((one for one in named if isinstance(one, str) and one), "")
    return hashlib.sha256(first.encode(errors="replace")).hexdigest()[:32] if first else ""


def _headers(here: World, caller: Principal, session: str) -> dict[str, str]:
    headers = {"Content-Type": "application/json", **here.internal_headers(caller.tenant_id)}
    headers |= {"X-SSKAI-Key": caller.key_id, "X-SSKAI-Session": session}
    if not caller.sampled:
        headers["X-SSKAI-Sample"] = "no"
    propagate.inject(headers)
    return headers


async def _answer(here: World, onward: _Onward) -> aiohttp.ClientResponse:
    """The beginning of the answer. Tried again, with growing pauses, while inference is away; raises _AwayError.

    Nothing of an answer was sent by then, and a prompt changes nothing, so that a second try is safe. A target that was
    silent for too long is not asked twice: it may still be at it.
    """
    clock = asyncio.get_running_loop().time
    until, pause = clock() + here.settings.inference_retry_seconds, FIRST_PAUSE_SECONDS
    while True:
        answer = await _try(here, onward)
        if isinstance(answer, aiohttp.ClientResponse):
            return answer
        if clock() + pause > until:
            raise _AwayError("Inference is away: try again")
        if here.waiting_for_inference >= here.settings.max_waiting_requests:
            REFUSED.labels(code="overloaded").inc()
            raise _AwayError("Too many requests wait for inference: try again", "overloaded")
        log.info("inference is away, trying again", reason=answer, pause_seconds=pause)
        here.waiting_for_inference += 1
        try:
            await asyncio.sleep(pause)
        finally:
            here.waiting_for_inference -= 1
        pause = min(2 * pause, LAST_PAUSE_SECONDS)


async def _try(here: World, onward: _Onward) -> aiohttp.ClientResponse | str:
    """One try; why it was in vain, if it was and another one is safe. Raises _AwayError if none is."""
    clock = asyncio.get_running_loop().time
    target = here.targets.choose(here.inference_urls(), clock())
    if target is None:
        return "circuit open"
    circuit = here.targets.circuit(target)
    circuit.begin()
    try:
        answer = await here.onward.send(
            onward.method,
            target + onward.path,
            onward.body,
            onward.headers,
            here.settings.inference_timeout_seconds,
        )
    except aiohttp.SocketTimeoutError as error:
        circuit.failed(clock())
        raise _AwayError("Inference was silent for too long: try again", "timeout", 504) from error
    except (aiohttp.ClientError, TimeoutError) as error:
        circuit.failed(clock())
        return repr(error)
    except BaseException:
        circuit.left()
        raise
    circuit.succeeded()
    if answer.status == 503 or (answer.status == 404 and await _is_promised(here, onward)):
        # It is there, and loads the endpoint, or has not heard of it yet: no fault of its own.
        answer.close()
        return str(answer.status)
    return answer


async def _is_promised(here: World, onward: _Onward) -> bool:
    """Whether an endpoint was accepted under this name: whoever has its 202 may ask it at once."""
    async with here.database.transaction() as session:
        return await Store(session).has_endpoint_named(onward.tenant_id, onward.name)


async def _model_without_endpoint(here: World, onward: _Onward) -> str:
    """What to do if `model` names a model that nothing serves; empty: it names none."""
    async with here.database.transaction() as session:
        model = await Library(session).model(onward.tenant_id, onward.name, here.catalogue)
    if model is None:
        return ""
    form = json.dumps({"name": "...", "model": model.id, "kind": "serverless"})
    return f"{model.id} is a model that no endpoint serves under this name: POST /v1/endpoints {form}"


async def _left(request: Request) -> None:
    """Returns when the client has gone away."""
    while (await request.receive())["type"] != "http.disconnect":
        pass


async def _pieces(answer: aiohttp.ClientResponse, ending: _Ending) -> AsyncIterator[bytes]:
    try:
        async for piece in answer.content.iter_any():
            yield piece
    except (aiohttp.ClientError, TimeoutError) as error:
        # The status is sent already. A reader of the stream learns it from an event; any other body ends too short.
        log.warning("inference broke off in the middle of an answer", error=repr(error))
        if not answer.headers.get("content-type", "").startswith("text/event-stream"):
            raise
        yield b"data: " + json.dumps(_shape("Inference broke off: try again", "server_error", None)).encode() + b"\n\n"
    finally:
        await ending.end()


def _document(body: bytes) -> dict[str, Any] | Response:
    """Inference judges the request; here it only has to be JSON that names a model."""
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        return _error(400, "The body is not JSON", "invalid_request_error", None)
    if not isinstance(document, dict) or not isinstance(document.get("model"), str):
        return _error(400, "`model` must name an endpoint: GET /v1/endpoints", "invalid_request_error", None)
    return document


def _shape(message: str, kind: str, code: str | None) -> dict[str, Any]:
    return {"error": {"message": message, "type": kind, "param": None, "code": code}}


def _error(
    status: int, message: str, kind: str, code: str | None, headers: dict[str, str] | None = None
) -> JSONResponse:
    return JSONResponse(_shape(message, kind, code), status, headers)
