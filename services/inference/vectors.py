"""Answers that are numbers: `/v1/embeddings`, and text classifiers by the Open Inference Protocol."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Sequence
from typing import Any, TypeVar

from fastapi import Request
from fastapi.responses import JSONResponse, Response

from services.inference import openai, v2
from services.inference.answering import CLIENT_CLOSED_REQUEST, Desk, disconnected, find, loaded
from services.inference.domain import Endpoint
from services.inference.engine import EngineError, Generation, Piece, PromptError
from services.inference.observation import Observation
from services.inference.openai import EmbeddingRequest, Refusal
from services.inference.traffic import Asker
from sskai.contract import new_id

T = TypeVar("T")


async def embed(desk: Desk, request: Request, asked: EmbeddingRequest, tenant_id: str) -> Response:
    """The mean of the model's last layer over each text's tokens, of length 1. Raises Refusal."""
    seen = _observed(desk, request, "embeddings", asked.model, tenant_id)

    async def once() -> tuple[list[list[float]], int]:
        endpoint = await find(desk, tenant_id, asked.model, seen)
        engine, target = desk.fleet.engine, desk.fleet.target(endpoint)
        texts = await asyncio.to_thread(lambda: [engine.encode_text(target.base, text) for text in asked.texts])
        context = engine.context_tokens(target.base)
        for place, tokens in enumerate(texts):
            if not 0 < len(tokens) <= context:
                message = f"input.{place} has {len(tokens)} tokens: a text must have 1 to {context}"
                raise Refusal(400, message, param="input", code="context_length_exceeded" if tokens else None)
        input_tokens = sum(map(len, texts))
        seen.begin(endpoint, "", input_tokens)
        generations = engine.embed(target.base, target.adapter, texts)
        try:
            pieces = await asyncio.gather(*map(_only, generations))
        finally:
            for generation in generations:
                generation.cancel()
        seen.piece(pieces[0])
        return [_cut(piece.vector, asked.dimensions) for piece in pieces], input_tokens

    found = await _while_listening(request, seen, loaded(asked.model, once))
    if found is None:
        return Response(status_code=CLIENT_CLOSED_REQUEST)
    rows, input_tokens = found
    base64 = asked.encoding_format == "base64"
    return JSONResponse(openai.embeddings(asked.model, rows, input_tokens, base64=base64))


async def _only(generation: Generation) -> Piece:
    return [piece async for piece in generation.pieces()][-1]


def _cut(vector: Sequence[float], dimensions: int | None) -> list[float]:
    """Its first dimensions, of length 1. Raises Refusal when there are not so many."""
    if dimensions is not None and dimensions > len(vector):
        raise Refusal(400, f"dimensions: this model's vectors have {len(vector)}", param="dimensions")
    kept = vector[:dimensions]
    length = math.hypot(*kept)
    if not 0 < length < math.inf:
        raise Refusal(500, "the model's vector has no direction", kind="server_error", code="engine_error")
    return [number / length for number in kept]


async def classify(desk: Desk, request: Request, name: str, asked: v2.InferRequest, tenant_id: str) -> Response:
    """Labels and probabilities. Raises Refusal."""
    texts = asked.texts
    seen = _observed(desk, request, "classify", name, tenant_id)

    async def once() -> dict[str, Any]:
        endpoint, labels = await _classifier(desk, name, tenant_id, seen)
        seen.begin(endpoint, "", 0)
        base = desk.fleet.target(endpoint).base
        rows = await asyncio.to_thread(desk.fleet.engine.classify, base, texts)
        return v2.answer(asked, v2.Model(name, endpoint.version, labels), rows, new_id("infer"))

    answer = await _while_listening(request, seen, loaded(name, once))
    return Response(status_code=CLIENT_CLOSED_REQUEST) if answer is None else JSONResponse(answer)


async def described(desk: Desk, name: str, tenant_id: str) -> dict[str, Any]:
    """The model's metadata; loads the endpoint if it sleeps. Raises Refusal."""

    async def once() -> dict[str, Any]:
        endpoint, labels = await _classifier(desk, name, tenant_id, None)
        return v2.described(v2.Model(name, endpoint.version, labels))

    return await loaded(name, once)


async def _classifier(
    desk: Desk, name: str, tenant_id: str, seen: Observation | None
) -> tuple[Endpoint, tuple[str, ...]]:
    endpoint = await find(desk, tenant_id, name, seen)
    labels = desk.fleet.engine.labels(desk.fleet.target(endpoint).base)
    if not labels:
        message = f"The model {name!r} is no classifier: use /v1/chat/completions."
        raise Refusal(400, message, param="model", code="not_a_classifier")
    return endpoint, labels


def _observed(desk: Desk, request: Request, operation: str, model: str, tenant_id: str) -> Observation:
    return Observation(
        new_id("infer"),
        desk.samples,
        operation=operation,
        tenant_id=tenant_id,
        model=model,
        traceparent=request.headers.get("traceparent"),
        asker=Asker.of(request.headers),
        tally=desk.tally,
    )


async def _while_listening(request: Request, seen: Observation, work: Awaitable[T]) -> T | None:
    """What the work gives; None: the client went away, and the work was cancelled. Raises Refusal."""
    working, leaving = asyncio.ensure_future(work), asyncio.create_task(disconnected(request))
    outcome = "error"
    try:
        await asyncio.wait({working, leaving}, return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            outcome = "disconnected"
            return None
        found = working.result()
        outcome = "answered"
        return found
    except Refusal as refusal:
        outcome = str(refusal.body["error"]["code"] or "refused")
        raise
    except PromptError as error:
        outcome = "refused"
        raise Refusal(400, str(error), param="input") from error
    except EngineError as error:
        outcome = "engine_error"
        raise Refusal(500, str(error), kind="server_error", code="engine_error") from error
    finally:
        working.cancel()
        leaving.cancel()
        seen.end(outcome)
