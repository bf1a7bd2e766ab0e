"""One request's way: find the endpoint, read the prompt, draw the answer, whole or as a stream."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import TypeVar

from fastapi import Request
from fastapi.responses import JSONResponse, Response, StreamingResponse

from services.inference import domain, openai
from services.inference.domain import Endpoint
from services.inference.engine import (
    EngineError,
    EngineFailedError,
    Generation,
    GrammarError,
    NotLoadedError,
    OverloadedError,
    Piece,
    PromptError,
    Sampling,
    TokenLogprob,
)
from services.inference.fleet import Fleet, Target
from services.inference.observation import Observation
from services.inference.openai import ChatRequest, CompletionRequest, Refusal, Shape
from services.inference.router import FailedEndpointError, Router, StillLoadingError, UnknownEndpointError
from services.inference.samples import Samples
from services.inference.shadows import Shadows
from services.inference.tally import Tally
from services.inference.traffic import Asker
from sskai.contract import new_id

T = TypeVar("T")

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
    """`generations`: one per choice. `tells_tokens`: whether log-probabilities were asked for."""

    generations: list[Generation]
    input_tokens: int
    tells_tokens: bool

    def cancel(self) -> None:
        for generation in self.generations:
            generation.cancel()


@dataclass(slots=True)
class Choice:
    """One answer so far."""

    text: str = ""
    finish_reason: str = ""
    output_tokens: int = 0
    cached_tokens: int = 0
    told: list[TokenLogprob] = field(default_factory=list)

    def add(self, piece: Piece) -> None:
        self.text += piece.text
        self.told.extend(piece.logprobs)
        self.output_tokens, self.finish_reason = piece.output_tokens, piece.finish_reason or ""
        self.cached_tokens = piece.work.cached_tokens


def _usage(begun: Begun, choices: Sequence[Choice]) -> dict[str, object]:
    """The prompt counts once, and as cached what the first choice did not have to read."""
    output_tokens = sum(choice.output_tokens for choice in choices)
    return openai.usage(begun.input_tokens, output_tokens, choices[0].cached_tokens)


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
    async def once() -> Begun:
        return await _try_to_begin(desk, asked, tenant_id, seen)

    return await loaded(asked.model, once)


async def loaded(model: str, attempt: Callable[[], Awaitable[T]]) -> T:
    """Try twice: weights that were unloaded between two steps are loaded again, and the second try waits for it. The
    engine's refusals become OpenAI's."""
    try:
        try:
            return await attempt()
        except NotLoadedError:
            return await attempt()
    except NotLoadedError as error:
        raise _unavailable(model) from error
    except (OverloadedError, EngineFailedError) as error:
        raise failed(error) from error


def failed(error: EngineError) -> Refusal:
    """What an engine's error is to a user."""
    if isinstance(error, OverloadedError):
        retry = {"retry-after": str(error.retry_after_seconds)}
        return Refusal(429, str(error), kind="rate_limit_error", code="queue_full", headers=retry)
    return Refusal(500, str(error), kind="server_error", code="engine_error")


async def _try_to_begin(desk: Desk, asked: ChatRequest | CompletionRequest, tenant_id: str, seen: Observation) -> Begun:
    endpoint = await find(desk, tenant_id, asked.model, seen)
    where = "messages" if isinstance(asked, ChatRequest) else "prompt"
    try:
        target = desk.fleet.target(endpoint)
        engine = target.engine
        tokens = await asyncio.to_thread(_encode, target, asked)
        sampling = _sampling(desk, asked, len(tokens), engine.context_tokens(target.base))
        if sampling.schema:
            await asyncio.to_thread(engine.check_schema, target.base, sampling.schema)
        with seen.active():
            generations = engine.generate(target.base, target.adapter, tokens, sampling, asked.n or 1)
    except PromptError as error:
        raise Refusal(400, str(error), param=where) from error
    except GrammarError as error:
        message = f"No answer can be held to this schema: {error}"
        raise Refusal(400, message, param="response_format", code="invalid_json_schema") from error
    except domain.ContextError as error:
        raise Refusal(400, str(error), param=where, code="context_length_exceeded") from error
    text = asked.last_user_text if isinstance(asked, ChatRequest) else asked.prompt
    seen.begin(endpoint, text, len(tokens), sampling)
    desk.shadows.copy(endpoint, seen.inference_id, tokens, sampling)
    return Begun(generations, len(tokens), asked.told_logprobs is not None)


async def find(desk: Desk, tenant_id: str, name: str, seen: Observation | None) -> Endpoint:
    """`seen`: of a request that is drawn between versions. Raises Refusal."""
    asker, request_id = (seen.asker, seen.inference_id) if seen else (None, "")
    try:
        return await desk.router.find(tenant_id, name, desk.load_wait_seconds, asker, request_id)
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


def _encode(target: Target, asked: ChatRequest | CompletionRequest) -> list[int]:
    if isinstance(asked, ChatRequest):
        tokens = target.engine.encode_chat(target.base, asked.conversation())
    else:
        tokens = target.engine.encode_text(target.base, asked.prompt)
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
        min_tokens=asked.min_tokens or 0,
        frequency_penalty=asked.frequency_penalty or 0.0,
        presence_penalty=asked.presence_penalty or 0.0,
        logit_bias=tuple((int(token), bias) for token, bias in (asked.logit_bias or {}).items()),
        top_logprobs=asked.told_logprobs,
        schema=asked.schema_text,
    )


async def _whole(request: Request, begun: Begun, seen: Observation, shape: Shape) -> Response:
    drawing = asyncio.create_task(_draw_all(begun, seen))
    leaving = asyncio.create_task(disconnected(request))
    outcome = "error"
    try:
        await asyncio.wait({drawing, leaving}, return_when=asyncio.FIRST_COMPLETED)
        if not drawing.done():
            outcome = "disconnected"
            return Response(status_code=CLIENT_CLOSED_REQUEST)
        choices = drawing.result()
        outcome = "answered"
        told = [
            shape.choice(place, one.text, one.finish_reason, one.told if begun.tells_tokens else None)
            for place, one in enumerate(choices)
        ]
        return JSONResponse(shape.whole(told, _usage(begun, choices)))
    except EngineError as error:
        raise failed(error) from error
    finally:
        begun.cancel()
        drawing.cancel()
        leaving.cancel()
        seen.end(outcome)


async def _draw_all(begun: Begun, seen: Observation) -> list[Choice]:
    return await asyncio.gather(*(_draw(one, seen, place) for place, one in enumerate(begun.generations)))


async def _draw(generation: Generation, seen: Observation, place: int) -> Choice:
    choice = Choice()
    async for piece in generation.pieces():
        seen.piece(piece, place)
        choice.add(piece)
    return choice


async def disconnected(request: Request) -> None:
    """Returns when the client has gone away."""
    while (await request.receive())["type"] != "http.disconnect":
        pass


async def _stream(begun: Begun, seen: Observation, shape: Shape, *, include_usage: bool) -> AsyncIterator[bytes]:
    outcome = "disconnected"
    choices = [Choice() for _ in begun.generations]
    try:
        for place in range(len(choices)):
            if head := shape.first_chunk(place):
                yield head
        async with aclosing(merged(begun.generations)) as pieces:
            async for place, piece in pieces:
                seen.piece(piece, place)
                for chunk in _chunks(shape, place, piece, len(choices[place].text), tells_tokens=begun.tells_tokens):
                    yield chunk
                choices[place].add(piece)
        outcome = "answered"
        if include_usage:
            yield shape.usage_chunk(_usage(begun, choices))
        yield openai.DONE
    except EngineError as error:
        outcome = "engine_error"
        yield openai.event(failed(error).body)
    finally:
        # Also when the client went away: its place goes to the next one.
        begun.cancel()
        seen.end(outcome)


def _chunks(shape: Shape, place: int, piece: Piece, offset: int, *, tells_tokens: bool) -> list[bytes]:
    """The last text of an answer and its end are chunks of their own, as OpenAI sends them."""
    told = piece.logprobs if tells_tokens else None
    if not piece.finish_reason or not (piece.text or told):
        return [shape.chunk(place, piece.text, piece.finish_reason, told or None, offset)]
    text = shape.chunk(place, piece.text, None, told, offset)
    return [text, shape.chunk(place, "", piece.finish_reason, None)]


async def merged(generations: Sequence[Generation]) -> AsyncGenerator[tuple[int, Piece], None]:
    """The pieces of several answers as they come, each with its answer's place; raises the first EngineError."""
    waiting: asyncio.Queue[tuple[int, Piece | EngineError]] = asyncio.Queue()

    async def pump(place: int, generation: Generation) -> None:
        try:
            async for piece in generation.pieces():
                waiting.put_nowait((place, piece))
        except EngineError as error:
            waiting.put_nowait((place, error))

    pumps = [asyncio.create_task(pump(place, one)) for place, one in enumerate(generations)]
    try:
        left = len(generations)
        while left:
            place, piece = await waiting.get()
            if isinstance(piece, EngineError):
                raise piece
            yield place, piece
            left -= piece.finish_reason is not None
    finally:
        for task in pumps:
            task.cancel()
