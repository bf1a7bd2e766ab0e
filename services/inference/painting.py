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
from services.inference.answering import CLIENT_CLOSED_REQUEST, Desk, find, loaded
from services.inference.drawings import Drawing
from services.inference.engine import Generation, Piece
from services.inference.images import ImageRequest
from services.inference.observation import Observation
from services.inference.openai import Refusal
from services.inference.vectors import observed, while_listening


@dataclass(frozen=True, slots=True)
class _Begun:
    """`generations`: one per picture."""

    drawing: Drawing
    input_tokens: int
    generations: Sequence[Generation]


async def generate(desk: Desk, request: Request, asked: ImageRequest, tenant_id: str) -> Response:
    """The pictures. Raises Refusal."""
    seen = observed(desk, request, "image_generation", asked.model, tenant_id, kind="image")

    async def once() -> dict[str, object]:
        begun = await _begin(desk, asked, tenant_id, seen)
        try:
            pieces = [piece for generation in begun.generations async for piece in generation.pieces()]
        finally:
            # Also when the client went away: what was not drawn yet is not drawn.
            for generation in begun.generations:
                generation.cancel()
        seen.drew(begun.drawing, pieces)
        return await asyncio.to_thread(_body, asked, begun, pieces)

    body = await while_listening(request, seen, loaded(asked.model, once), param="prompt")
    return Response(status_code=CLIENT_CLOSED_REQUEST) if body is None else JSONResponse(body)


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


def _body(asked: ImageRequest, begun: _Begun, pieces: Sequence[Piece]) -> dict[str, object]:
    pictures = [piece.picture for piece in pieces if piece.picture is not None]
    files = [picture.encoded(asked.file_format, asked.file_quality) for picture in pictures]
    return images.answer(asked, begun.drawing, files, created=int(time.time()), input_tokens=begun.input_tokens)
