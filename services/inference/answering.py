"""One request's way: find the endpoint, read the prompt, draw the answer, whole or as a stream."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import aclosing
from dataclasses import dataclass

from fastapi import Request
from fastapi.responses import JSONResponse, Response, StreamingResponse

from services.inference import domain, openai
from services.inference.domain import Endpoint
from services.inference.engine import (
    EngineError,
    Generation,
    NotLoadedError,
    OverloadedError,
    PromptError,
    Sampling,
)
from services.inference.fleet import Fleet
from services.inference.observation import Observation
from services.inference.openai import ChatRequest, CompletionRequest, Refusal, Shape
from services.inference.router import FailedEndpointError, Router, StillLoadingError, UnknownEndpointError
from services.inference.samples import Samples
from services.inference.shadows import Shadows
from services.inference.tally import Tally
from services.inference.traffic import Asker
from sskai.contract import new_id

CLIENT_CLOSED_REQUEST = 499  # nginx's word for it; nobody is there to read it


@dataclass(frozen=True)
class Desk:
    """What answering needs."""

    router: Router
    fleet: Fleet
    samples: Samples
    load_wait_seconds: float
    default_output_tokens: int
    tally: Tally
    shadows: Shadows


@dataclass(frozen=True, slots=True)
class Begun:
    generation: Generation
    input_tokens: int


async def answer(desk: Desk, request: Request, asked: ChatRequest | CompletionRequest, tenant_id: str) -> Response:
    """The HTTP answer to a parsed request. Raises Refusal as long as nothing was sent."""
    chat = isinstance(asked, ChatRequest)
    inference_id = new_id("chatcmpl" if chat else "cmpl")
    seen = Observation(
        inference_id,
        desk.samples,
        operation="chat" if chat else "text_completion",
        tenant_id=tenant_id,
        model=asked.model,
        traceparent=request.headers.get("traceparent"),
        asker=Asker.of(request.headers),
        tally=desk.tally,
    )
    try:
        begun = await _begin(desk, asked, tenant_id, seen)
    except Refusal as refusal:
        seen.end(str(refusal.body["error"]["code"] or "refused"))
        raise
    except BaseException:
        seen.end("error")
        raise
    shape = Shape(inference_id, asked.model, int(time.time()), chat=chat)
    if asked.stream:
        stream = _stream(begun, seen, shape, include_usage=asked.include_usage)
        return StreamingResponse(stream, media_type="text/event-stream", headers={"cache-control": "no-cache"})
    return await _whole(request, begun, seen, shape)


async def _begin(desk: Desk, asked: ChatRequest | CompletionRequest, tenant_id: str, seen: Observation) -> Begun:
    try:
        return await _try_to_begin(desk, asked, tenant_id, seen)
    except NotLoadedError:
        pass  # unloaded between the two steps, to be loaded again: the second try waits for it
    try:
        return await _try_to_begin(desk, asked, tenant_id, seen)
    except NotLoadedError as error:
        raise _unavailable(asked.model) from error


async def _try_to_begin(desk: Desk, asked: ChatRequest | CompletionRequest, tenant_id: str, seen: Observation) -> Begun:
    endpoint = await _find(desk, tenant_id, asked.model, seen)
    engine = desk.fleet.engine
    try:
        tokens = await asyncio.to_thread(_encode, desk, endpoint, asked)
        sampling = _sampling(desk, asked, len(tokens), engine.context_tokens(endpoint.base_uri))
        generation = engine.generate(endpoint.base_uri, endpoint.artifact_uri or None, tokens, sampling)
    except PromptError as error:
        raise Refusal(400, str(error), param="messages") from error
    except domain.ContextError as error:
        param = "messages" if isinstance(asked, ChatRequest) else "prompt"
        raise Refusal(400, str(error), param=param, code="context_length_exceeded") from error
    except OverloadedError as error:
        retry = {"retry-after": str(error.retry_after_seconds)}
        raise Refusal(429, str(error), kind="rate_limit_error", code="queue_full", headers=retry) from error
    text = asked.last_user_text if isinstance(asked, ChatRequest) else asked.prompt
    seen.begin(endpoint, text, len(tokens), sampling)
    desk.shadows.copy(endpoint, seen.inference_id, tokens, sampling)
    return Begun(generation, len(tokens))


async def _find(desk: Desk, tenant_id: str, name: str, seen: Observation) -> Endpoint:
    try:
        return await desk.router.find(tenant_id, name, desk.load_wait_seconds, seen.asker, seen.inference_id)
    except UnknownEndpointError as error:
        raise unknown_model(name) from error
    except FailedEndpointError as error:
        raise Refusal(409, f"The endpoint {name!r} failed: {error}", param="model", code="endpoint_failed") from error
    except StillLoadingError as error:
        raise _unavailable(name) from error


def unknown_model(name: str) -> Refusal:
    message = f"The model {name!r} does not exist, or you do not have access to it. GET /v1/models lists yours."
    return Refusal(404, message, param="model", code="model_not_found")


def _unavailable(name: str) -> Refusal:
    message = f"The endpoint {name!r} is still being loaded; try again."
    return Refusal(503, message, kind="server_error", param="model", code="loading", headers={"retry-after": "2"})


def _encode(desk: Desk, endpoint: Endpoint, asked: ChatRequest | CompletionRequest) -> list[int]:
    engine = desk.fleet.engine
    if isinstance(asked, ChatRequest):
        tokens = engine.encode_chat(endpoint.base_uri, asked.conversation())
    else:
        tokens = engine.encode_text(endpoint.base_uri, asked.prompt)
    if not tokens:
        raise PromptError("the prompt is empty: there is nothing to go on from")
    return tokens


def _sampling(desk: Desk, asked: ChatRequest | CompletionRequest, input_tokens: int, context: int) -> Sampling:
    if isinstance(asked, ChatRequest):
        wanted, default = asked.asked_tokens, desk.default_output_tokens
    else:
        wanted, default = asked.max_tokens, openai.DEFAULT_COMPLETION_TOKENS
    return Sampling(
        max_tokens=domain.output_tokens(input_tokens, wanted, default, context),
        temperature=1.0 if asked.temperature is None else asked.temperature,
        top_p=1.0 if asked.top_p is None else asked.top_p,
        seed=asked.seed,
        stop=asked.stops,
    )


async def _whole(request: Request, begun: Begun, seen: Observation, shape: Shape) -> Response:
    drawing = asyncio.create_task(_draw(begun.generation, seen))
    leaving = asyncio.create_task(_disconnected(request))
    outcome = "error"
    try:
        await asyncio.wait({drawing, leaving}, return_when=asyncio.FIRST_COMPLETED)
        if not drawing.done():
            outcome = "disconnected"
            return Response(status_code=CLIENT_CLOSED_REQUEST)
        output_tokens, finish_reason = drawing.result()
        outcome = "answered"
        return JSONResponse(shape.whole(seen.text, finish_reason, openai.usage(begun.input_tokens, output_tokens)))
    except EngineError as error:
        raise Refusal(500, str(error), kind="server_error", code="engine_error") from error
    finally:
        begun.generation.cancel()
        drawing.cancel()
        leaving.cancel()
        seen.end(outcome)


async def _draw(generation: Generation, seen: Observation) -> tuple[int, str]:
    output_tokens, finish_reason = 0, ""
    async for piece in generation.pieces():
        seen.piece(piece)
        output_tokens, finish_reason = piece.output_tokens, piece.finish_reason or ""
    return output_tokens, finish_reason


async def _disconnected(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


async def _stream(begun: Begun, seen: Observation, shape: Shape, *, include_usage: bool) -> AsyncIterator[bytes]:
    outcome = "disconnected"
    try:
        if head := shape.first_chunk():
            yield head
        output_tokens = 0
        async with aclosing(begun.generation.pieces()) as pieces:
            async for piece in pieces:
                seen.piece(piece)
                output_tokens = piece.output_tokens
                if piece.text and piece.finish_reason:
                    yield shape.chunk(piece.text, None)
                    yield shape.chunk("", piece.finish_reason)
                else:
                    yield shape.chunk(piece.text, piece.finish_reason)
        outcome = "answered"
        if include_usage:
            yield shape.usage_chunk(openai.usage(begun.input_tokens, output_tokens))
        yield openai.DONE
    except EngineError as error:
        outcome = "engine_error"
        yield openai.event(Refusal(500, str(error), kind="server_error", code="engine_error").body)
    finally:
        # Also when the client went away: its place goes to the next one.
        begun.generation.cancel()
        seen.end(outcome)
