"""`/v1/embeddings`, and what it shares with other answers that come in one piece."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Sequence
from typing import TypeVar

from fastapi import Request
from fastapi.responses import JSONResponse, Response

from services.inference import openai
from services.inference.answering import CLIENT_CLOSED_REQUEST, Desk, disconnected, failed, find, loaded
from services.inference.engine import EngineError, Generation, Piece, PromptError
from services.inference.observation import Observation
from services.inference.openai import EmbeddingRequest, Refusal
from services.inference.traffic import Asker
from sskai.contract import new_id

T = TypeVar("T")


async def embed(desk: Desk, request: Request, asked: EmbeddingRequest, tenant_id: str) -> Response:
    """The mean of the model's last layer over each text's tokens, of length 1. Raises Refusal."""
    seen = observed(desk, request, "embeddings", asked.model, tenant_id)

    async def once() -> tuple[list[list[float]], int]:
        endpoint = await find(desk, tenant_id, asked.model, seen)
        target = desk.fleet.target(endpoint)
        engine = target.engine
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

    found = await while_listening(request, seen, loaded(asked.model, once))
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


def observed(
    desk: Desk, request: Request, operation: str, model: str, tenant_id: str, *, kind: str = "infer"
) -> Observation:
    """`kind`: what its id begins with."""
    return Observation(
        new_id(kind),
        desk.samples,
        operation=operation,
        tenant_id=tenant_id,
        model=model,
        traceparent=request.headers.get("traceparent"),
        asker=Asker.of(request.headers),
        tally=desk.tally,
    )


async def while_listening(request: Request, seen: Observation, work: Awaitable[T], *, param: str = "input") -> T | None:
    """What the work gives; None: the client went away, and the work was cancelled. `param`: the field that a model may
    refuse. Raises Refusal."""
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
        raise Refusal(400, str(error), param=param) from error
    except EngineError as error:
        outcome = "engine_error"
        raise failed(error) from error
    finally:
        working.cancel()
        leaving.cancel()
        seen.end(outcome)
