"""A replica's engine over HTTP, for the service alone: every route wants the replica's token."""

from __future__ import annotations

import asyncio
import hmac
import json
import time
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response, StreamingResponse
from opentelemetry.trace import Span, SpanKind, Status, StatusCode
from starlette.types import Receive, Scope, Send

from services.inference.engine import AnsweringEngine, EngineError, Generation, Piece, PromptError
from services.inference.loading import Names
from services.inference.replica import wire
from services.inference.replica.wire import BEAT, BEAT_SECONDS, DrainingError
from sskai import telemetry

MAX_BODY_BYTES = 32 * 1024 * 1024  # a prompt of a million tokens
RATE_SECONDS = 10.0


class Desk:
    """One endpoint's engine, who is at it, and whether more may come."""

    def __init__(
        self, engine: AnsweringEngine, names: Names, capacity: int, about: Mapping[str, str] | None = None
    ) -> None:
        self.engine = engine
        self.about = about or {}  # attributes of its spans
        self.names = names
        self.capacity = capacity  # answers under way and waiting that are taken at a time
        self.draining = False
        self._under_way = 0
        self._idle = asyncio.Event()
        self._idle.set()
        self._told: deque[tuple[float, int]] = deque()

    @contextmanager
    def seat(self) -> Iterator[None]:
        """Count somebody as long as the answer takes. Raises DrainingError."""
        if self.draining:
            raise DrainingError("this replica is being drained")
        self._under_way += 1
        self._idle.clear()
        try:
            yield
        finally:
            self._under_way -= 1
            if not self._under_way:
                self._idle.set()

    async def wait_until_idle(self, limit_seconds: float) -> bool:
        """Whether everybody had their answer in time."""
        try:
            await asyncio.wait_for(self._idle.wait(), limit_seconds)
        except TimeoutError:
            return False
        return True

    def count(self, tokens: int) -> None:
        self._told.append((time.monotonic(), tokens))
        self._forget_old()

    def tokens_per_second(self) -> float:
        """Over the last seconds."""
        self._forget_old()
        return sum(tokens for _, tokens in self._told) / RATE_SECONDS

    def _forget_old(self) -> None:
        while self._told and self._told[0][0] < time.monotonic() - RATE_SECONDS:
            self._told.popleft()


def build(desk: Desk, token: str) -> FastAPI:
    """The application. `token` must not be empty."""
    app = FastAPI(title="SSKAI replica", openapi_url=None)

    async def asked(request: Request) -> dict[str, Any]:
        given = request.headers.get("authorization", "")
        if not hmac.compare_digest(given.encode(), f"Bearer {token}".encode()):
            raise _UnknownError
        body = await _body(request)
        try:
            value = json.loads(body) if body else {}
        except ValueError as error:
            raise PromptError("the body is not JSON") from error
        if not isinstance(value, dict):
            raise PromptError("the body is not a JSON object")
        return value

    _routes(app, desk, asked)

    @app.get("/healthz")
    async def healthz() -> dict[str, str]:
        return {"status": "ok"}

    @app.get("/readyz")
    async def readyz() -> Response:
        return JSONResponse({"draining": desk.draining}, status_code=503 if desk.draining else 200)

    @app.exception_handler(_UnknownError)
    async def unknown(_request: Request, _error: _UnknownError) -> JSONResponse:
        return JSONResponse({"error": {"kind": "token", "detail": "the replica's token is missing or wrong"}}, 401)

    @app.exception_handler(EngineError)
    async def refused(_request: Request, error: EngineError) -> JSONResponse:
        return JSONResponse(wire.error_body(error), wire.status_of(error))

    for mistake in (KeyError, TypeError, ValueError):
        app.add_exception_handler(mistake, _misspoken)
    return app


def _routes(app: FastAPI, desk: Desk, asked: Callable[[Request], Awaitable[dict[str, Any]]]) -> None:
    engine, base = desk.engine, desk.names.base

    @app.get("/engine/model")
    async def model(request: Request) -> dict[str, Any]:
        await asked(request)
        labels = engine.labels(base)
        context = 0 if labels else engine.context_tokens(base)
        return {"context_tokens": context, "labels": labels, "capacity": desk.capacity}

    @app.post("/engine/encode")
    async def encode(request: Request) -> dict[str, Any]:
        value = await asked(request)
        with desk.seat():
            if "messages" in value:
                tokens = await asyncio.to_thread(engine.encode_chat, base, value["messages"])
            else:
                tokens = await asyncio.to_thread(engine.encode_text, base, str(value["text"]))
        return {"tokens": tokens}

    @app.post("/engine/schema")
    async def schema(request: Request) -> dict[str, Any]:
        value = await asked(request)
        with desk.seat():
            await asyncio.to_thread(engine.check_schema, base, str(value["schema"]))
        return {}

    @app.post("/engine/generate")
    async def generate(request: Request) -> Response:
        value = await asked(request)
        sampling, said = wire.sampling_of(value["sampling"]), wire.said_of(value["said"])
        if len(said.tokens) >= sampling.max_tokens:
            raise PromptError("nothing is left to be said")
        if desk.draining:
            raise DrainingError("this replica is being drained")
        tokens = list(map(int, value["tokens"]))
        (generation,) = engine.generate(base, desk.names.adapter, tokens, sampling, said=said)
        span = telemetry.tracer().start_span(
            "generate",
            context=telemetry.context_from(request.headers.get("traceparent")),
            kind=SpanKind.SERVER,
            attributes={**desk.about, "gen_ai.usage.input_tokens": len(tokens), "sskai.said_tokens": len(said.tokens)},
        )
        return _Stream(desk, generation, span)

    @app.post("/engine/embed")
    async def embed(request: Request) -> dict[str, Any]:
        value = await asked(request)
        with desk.seat():
            texts = [list(map(int, text)) for text in value["texts"]]
            pieces = await _each_whole(engine.embed(base, desk.names.adapter, texts))
        return {"vectors": [piece.vector for piece in pieces]}

    @app.post("/engine/classify")
    async def classify(request: Request) -> dict[str, Any]:
        value = await asked(request)
        with desk.seat():
            return {"rows": await asyncio.to_thread(engine.classify, base, list(map(str, value["texts"])))}


class _UnknownError(Exception):
    """Whoever asks is not the service."""


async def _misspoken(_request: Request, error: Exception) -> JSONResponse:
    return JSONResponse(wire.error_body(EngineError(f"the request is not understood: {error!r}"[:500])), 400)


async def _body(request: Request) -> bytes:
    chunks, size = [], 0
    async for chunk in request.stream():
        size += len(chunk)
        if size > MAX_BODY_BYTES:
            raise PromptError(f"the body is over {MAX_BODY_BYTES} bytes")
        chunks.append(chunk)
    return b"".join(chunks)


async def _each_whole(generations: Sequence[Generation]) -> list[Piece]:
    async def whole(generation: Generation) -> Piece:
        return [piece async for piece in generation.pieces()][-1]

    try:
        return list(await asyncio.gather(*map(whole, generations)))
    finally:
        for generation in generations:
            generation.cancel()


class _Stream(StreamingResponse):
    """Pieces as they come, and beats in between. Whoever closes the connection gives back the sequence's place."""

    def __init__(self, desk: Desk, generation: Generation, span: Span) -> None:
        super().__init__(self._lines(), media_type="application/x-ndjson")
        self._desk = desk
        self._generation = generation
        self._span = span
        self._tokens = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            with self._desk.seat():
                await super().__call__(scope, receive, send)
        finally:
            self._generation.cancel()
            self._span.set_attribute("gen_ai.usage.output_tokens", self._tokens)
            self._span.end()

    async def _lines(self) -> AsyncIterator[bytes]:
        pieces = self._generation.pieces()
        coming = asyncio.ensure_future(anext(pieces))
        try:
            while True:
                await asyncio.wait({coming}, timeout=BEAT_SECONDS)
                if not coming.done():
                    yield BEAT
                    continue
                try:
                    piece = coming.result()
                except EngineError as error:
                    self._span.set_status(Status(StatusCode.ERROR, str(error)))
                    yield wire.line_of(error)
                    return
                self._desk.count(len(piece.tokens))
                if not self._tokens:
                    self._span.add_event("first token")
                self._tokens += len(piece.tokens)
                yield wire.line_of(piece)
                if piece.finish_reason is not None:
                    return
                coming = asyncio.ensure_future(anext(pieces))
        finally:
            coming.cancel()
