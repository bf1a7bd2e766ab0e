"""`/v1/images/generations`: find the endpoint, read the prompt, draw the pictures; stop when the client goes away."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Sequence
from dataclasses import dataclass

from fastapi import Request
from fastapi.responses import JSONResponse, Response

from services.inference import images
from services.inference.answering import CLIENT_CLOSED_REQUEST, Desk, disconnected, failed, find, loaded
from services.inference.drawings import Drawing
from services.inference.engine import EngineError, Generation, Piece
from services.inference.images import ImageRequest
from services.inference.observation import Observation
from services.inference.openai import Refusal
from services.inference.traffic import Asker
from sskai.contract import new_id


@dataclass(frozen=True, slots=True)
class _Begun:
    """`generations`: one per picture."""

    drawing: Drawing
    input_tokens: int
    generations: Sequence[Generation]


async def generate(desk: Desk, request: Request, asked: ImageRequest, tenant_id: str) -> Response:
    """The pictures. Raises Refusal."""
    seen = Observation(
        new_id("image"),
        desk.samples,
        operation="image_generation",
        tenant_id=tenant_id,
        model=asked.model,
        traceparent=request.headers.get("traceparent"),
        asker=Asker.of(request.headers),
        tally=desk.tally,
    )
    outcome = "error"
    try:
        begun = await loaded(asked.model, lambda: _begin(desk, asked, tenant_id, seen))
        pieces = await _drawn(request, begun)
        if pieces is None:
            outcome = "disconnected"
            return Response(status_code=CLIENT_CLOSED_REQUEST)
        seen.drew(begun.drawing, pieces)
        body = await asyncio.to_thread(_body, asked, begun, pieces)
        outcome = "answered"
        return JSONResponse(body)
    except Refusal as refusal:
        outcome = str(refusal.body["error"]["code"] or "refused")
        raise
    except EngineError as error:
        outcome = "engine_error"
        raise failed(error) from error
    finally:
        seen.end(outcome)


async def _begin(desk: Desk, asked: ImageRequest, tenant_id: str, seen: Observation) -> _Begun:
    asked.check()
    endpoint = await find(desk, tenant_id, asked.model, seen)
    target = desk.fleet.target(endpoint)
    engine, base = target.engine, target.base
    canvas = engine.canvas(base)
    if canvas is None:
        message = f"The model {asked.model!r} draws no pictures: use /v1/chat/completions."
        raise Refusal(400, message, param="model", code="not_a_pipeline")
    drawing = asked.drawing(canvas, secrets.randbelow(images.SEEDS))
    input_tokens = 0
    for field, text in (("prompt", drawing.prompt), ("negative_prompt", drawing.negative_prompt)):
        tokens = await asyncio.to_thread(engine.prompt_tokens, base, text)
        images.check_tokens(field, tokens, canvas)
        input_tokens += tokens if text else 0
    generations = engine.draw(base, target.adapter, drawing, asked.copies)
    seen.begin(endpoint, asked.prompt, input_tokens)
    return _Begun(drawing, input_tokens, generations)


async def _drawn(request: Request, begun: _Begun) -> list[Piece] | None:
    """Each picture; None: the client went away, and what was not drawn yet is not drawn. Raises EngineError."""
    drawing = asyncio.create_task(_all(begun.generations))
    leaving = asyncio.create_task(disconnected(request))
    try:
        await asyncio.wait((drawing, leaving), return_when=asyncio.FIRST_COMPLETED)
        return drawing.result() if drawing.done() else None
    finally:
        for generation in begun.generations:
            generation.cancel()
        drawing.cancel()
        leaving.cancel()


async def _all(generations: Sequence[Generation]) -> list[Piece]:
    """One after the other, as they are drawn. Raises EngineError."""
    return [piece for generation in generations async for piece in generation.pieces()]


def _body(asked: ImageRequest, begun: _Begun, pieces: Sequence[Piece]) -> dict[str, object]:
    pictures = [piece.picture for piece in pieces if piece.picture is not None]
    files = [picture.encoded(asked.file_format, asked.file_quality) for picture in pictures]
    return images.answer(asked, begun.drawing, files, created=int(time.time()), input_tokens=begun.input_tokens)
