"""vLLM's OpenAI API as an engine: prompts and answers are token ids, text and stop strings are made here.

So an answer that another replica began goes on as it does in the embedded engine, with two differences: vLLM's dice
cannot be advanced, and its penalties and schemas know nothing of what another one said (docs/decisions/0017).
"""

from __future__ import annotations

import asyncio
import json
from collections import deque
from collections.abc import AsyncGenerator, Coroutine, Sequence
from contextlib import aclosing, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import httpx2
import structlog

from services.inference import sampling
from services.inference.answers import Answer
from services.inference.engine import (
    NOTHING_SAID,
    DrawsNothing,
    EngineError,
    EngineFailedError,
    Generation,
    NotLoadedError,
    Occupancy,
    OverloadedError,
    PromptError,
    Said,
    Sampling,
    UnusableWeightsError,
)
from services.inference.grammar import Grammars
from services.inference.pictures import Pictures
from services.inference.sampling import Draw, Drawn
from services.inference.text import Detokenizer, StopScanner
from services.inference.tokenizing import Tokenizing

log = structlog.get_logger()

DATA = b"data: "
DONE = b"[DONE]"
ID = "token_id:"  # how vLLM writes a token in its log-probabilities when asked for ids
# The first token of a long prompt behind a full queue takes longest; vLLM itself knows no limit.
SILENCE_SECONDS = 300.0
LOAD_SECONDS = 120.0


@dataclass(frozen=True, slots=True)
class Step:
    """What one chunk tells."""

    drawn: tuple[Drawn, ...]
    finish_reason: str | None = None
    cached_tokens: int = 0


class VllmEngine(DrawsNothing):
    """See `engine.AnsweringEngine`. `base` is the served name; `capacity` answers may be under way or wait."""

    def __init__(self, url: str, base: str, folder: Path, context_tokens: int, capacity: int) -> None:
        self._url = url
        self._base = base
        self._context_tokens = context_tokens
        self._capacity = capacity
        self._tokens = Tokenizing(folder)
        config = _json_of(folder / "config.json")
        self._ends = end_tokens(
            config, _json_of(folder / "generation_config.json"), self._tokens.tokenizer.eos_token_id
        )
        vocabulary = int(config.get("text_config", config)["vocab_size"])
        self._grammars = Grammars(self._tokens.tokenizer, vocabulary, sorted(self._ends))
        self._adapters: set[str] = set()
        self._asking = httpx2.Client(base_url=url, timeout=LOAD_SECONDS)
        self._streaming: httpx2.AsyncClient | None = None
        self._answers: set[_Streamed] = set()

    def attach_adapter(self, adapter: str, folder: Path) -> None:
        """Blocks. Raises UnusableWeightsError."""
        if adapter not in self._adapters:
            self._tell("/v1/load_lora_adapter", {"lora_name": adapter, "lora_path": str(folder)})
            self._adapters.add(adapter)

    def detach_adapter(self, adapter: str) -> None:
        """Answers under way may fail. Blocks. Raises UnusableWeightsError."""
        if adapter in self._adapters:
            self._adapters.discard(adapter)
            self._tell("/v1/unload_lora_adapter", {"lora_name": adapter})

    def _tell(self, path: str, body: dict[str, str]) -> None:
        try:
            answer = self._asking.post(path, json=body)
        except httpx2.HTTPError as error:
            raise UnusableWeightsError(f"vLLM did not answer {path}: {error!r}") from error
        if not answer.is_success:
            raise UnusableWeightsError(f"vLLM refuses the adapter {body['lora_name']}: {_message(answer.content)}")

    def encode_chat(self, base: str, messages: Sequence[dict[str, str]]) -> list[int]:
        self._knows(base)
        return self._tokens.chat(messages)

    def encode_text(self, base: str, text: str) -> list[int]:
        self._knows(base)
        return self._tokens.text(text)

    def context_tokens(self, base: str) -> int:
        self._knows(base)
        return self._context_tokens

    def check_schema(self, base: str, schema: str) -> None:
        self._knows(base)
        self._grammars.start(schema)

    def labels(self, base: str) -> tuple[str, ...]:
        self._knows(base)
        return ()

    def classify(self, base: str, texts: Sequence[str]) -> list[list[float]]:  # noqa: ARG002
        self._knows(base)
        raise PromptError("this model is no classifier: use /v1/chat/completions")

    def picture_shape(self, base: str) -> None:
        self._knows(base)

    def classify_pictures(self, base: str, pictures: Pictures) -> list[list[float]]:  # noqa: ARG002
        self._knows(base)
        raise PromptError("this model is no classifier: use /v1/chat/completions")

    def embed(
        self,
        base: str,
        adapter: str | None,  # noqa: ARG002
        texts: Sequence[Sequence[int]],  # noqa: ARG002
    ) -> list[Generation]:
        self._knows(base)
        raise PromptError("replicas with vLLM give no embeddings: serve this model with the embedded engine")

    def _knows(self, base: str) -> None:
        if base != self._base:
            raise NotLoadedError(f"the base model {base} is not loaded")

    def occupancy(self) -> Occupancy:
        return Occupancy(len(self._answers), 0)

    def close(self) -> None:
        for answer in list(self._answers):
            answer.cancel()
        self._asking.close()

    def generate(
        self,
        base: str,
        adapter: str | None,
        tokens: Sequence[int],
        sampling: Sampling,
        copies: int = 1,
        *,
        said: Said = NOTHING_SAID,
    ) -> list[Generation]:
        self._knows(base)
        if adapter is not None and adapter not in self._adapters:
            raise NotLoadedError(f"the adapter {adapter} is not loaded")
        if len(self._answers) + copies > self._capacity:
            raise OverloadedError(len(self._answers))
        begun = []
        for copy in range(copies):
            how = sampling if sampling.seed is None else replace(sampling, seed=sampling.seed + copy)
            generation = _Streamed()
            answer = self._new_answer(generation, tokens, how)
            generation.begin(self._stream(answer, adapter or self._base, how, said), self._answers)
            begun.append(generation)
        return list(begun)

    def _new_answer(self, generation: Generation, tokens: Sequence[int], how: Sampling) -> Answer:
        decode = self._tokens.decode
        draw = Draw(how, sampling.dice(how.seed), self._ends)
        return Answer(generation, tokens, None, draw, decode, Detokenizer(decode), StopScanner(how.stop))

    async def _stream(self, answer: Answer, model: str, how: Sampling, said: Said) -> None:
        generation, prompt = answer.generation, list(answer.prompt)
        # What vLLM would judge by the answer so far is said again from its beginning, and must be the same.
        judged = how.schema or how.frequency_penalty or how.presence_penalty
        before, again = ((), deque(said.tokens)) if judged else (said.tokens, deque())
        answer.repeat(said)
        body = request_body(model, [*prompt, *before], how, len(before), sorted(self._ends))
        try:
            async with aclosing(self._steps(body)) as steps:
                async for step in steps:
                    answer.cached_tokens = min(step.cached_tokens, len(prompt)) or answer.cached_tokens
                    for drawn in _new(step.drawn, again):
                        piece = answer.take(drawn, self.occupancy().active)
                        if piece is not None:
                            generation.feed(piece)
                        if answer.ended:
                            return
                    if step.finish_reason is not None:
                        generation.feed(answer.end(step.finish_reason))
                        return
            raise EngineFailedError("vLLM's answer broke off")
        except httpx2.HTTPError as error:
            generation.feed(EngineFailedError(f"vLLM does not answer: {error!r}"[:500]))
        except EngineError as error:
            generation.feed(error)

    async def _steps(self, body: dict[str, Any]) -> AsyncGenerator[Step, None]:
        if self._streaming is None:  # made in the event loop that uses it
            limits = httpx2.Limits(max_connections=None, max_keepalive_connections=64)
            timeout = httpx2.Timeout(SILENCE_SECONDS, connect=5, pool=None)
            self._streaming = httpx2.AsyncClient(base_url=self._url, timeout=timeout, limits=limits)
        async with self._streaming.stream("POST", "/v1/completions", json=body) as response:
            if not response.is_success:
                raise _refusal(response.status_code, await response.aread())
            async for line in response.aiter_lines():
                data = line.encode().removeprefix(DATA)
                if data == DONE:
                    return
                if data:
                    yield step_of(data, body["logprobs"])


class _Streamed(Generation):
    """Whoever leaves closes vLLM's connection, which ends the sequence there."""

    def __init__(self) -> None:
        super().__init__()
        self._task: asyncio.Task[None] | None = None

    def begin(self, work: Coroutine[Any, Any, None], under_way: set[_Streamed]) -> None:
        self._task = asyncio.create_task(work)
        under_way.add(self)
        self._task.add_done_callback(lambda _task: under_way.discard(self))

    def cancel(self) -> None:
        super().cancel()
        if self._task is not None and not self._task.done():
            with suppress(RuntimeError):  # the event loop is gone, and the task with it
                self._loop.call_soon_threadsafe(self._task.cancel)


def _new(drawn: Sequence[Drawn], again: deque[int]) -> list[Drawn]:
    """What was not told before. Raises EngineError when what was told is not said again."""
    new = []
    for one in drawn:
        if not again:
            new.append(one)
        elif one.token != again.popleft():
            raise EngineError("the answer's replica failed, and another one says it otherwise")
    return new


def request_body(model: str, prompt: list[int], how: Sampling, said: int, ends: list[int]) -> dict[str, Any]:
    """Of vLLM's `/v1/completions`; the last `said` tokens of the prompt belong to the answer."""
    body: dict[str, Any] = {
        "model": model,
        "prompt": prompt,
        "max_tokens": how.max_tokens - said,
        "min_tokens": max(0, how.min_tokens - said),
        "temperature": how.temperature if how.temperature >= sampling.LEAST_TEMPERATURE else 0.0,
        "top_p": how.top_p,
        "frequency_penalty": how.frequency_penalty,
        "presence_penalty": how.presence_penalty,
        "logprobs": how.top_logprobs or 0,
        "stop_token_ids": ends,
        "stream": True,
        "stream_options": {"include_usage": True, "continuous_usage_stats": False},
        "return_token_ids": True,
        "return_tokens_as_token_ids": True,
    }
    if how.seed is not None:
        # Other dice than those at the beginning, or the same throws would come again.
        body["seed"] = (how.seed + said) % 2**63
    if how.logit_bias:
        body["logit_bias"] = {str(token): bias for token, bias in how.logit_bias}
    if how.schema:
        body["structured_outputs"] = {"json": json.loads(how.schema)}
    return body


def step_of(data: bytes, top: int) -> Step:
    """One chunk of the stream. Raises EngineFailedError for what is none."""
    try:
        chunk = json.loads(data)
        if "error" in chunk:
            raise EngineFailedError(f"vLLM failed: {_message(data)}")
        usage = (chunk.get("usage") or {}).get("prompt_tokens_details") or {}
        cached = int(usage.get("cached_tokens") or 0)
        if not chunk["choices"]:
            return Step((), cached_tokens=cached)
        (choice,) = chunk["choices"]
        tokens, told = choice["token_ids"], choice["logprobs"]
        drawn = tuple(
            Drawn(int(token), float(logprob), _likeliest(others, top))
            for token, logprob, others in zip(tokens, told["token_logprobs"], told["top_logprobs"], strict=True)
        )
        return Step(drawn, choice.get("finish_reason"), cached)
    except (ValueError, KeyError, TypeError) as error:
        raise EngineFailedError(f"vLLM speaks otherwise than its documentation: {error!r}"[:500]) from error


def _likeliest(others: dict[str, float] | None, top: int) -> tuple[tuple[int, float], ...]:
    """vLLM adds the drawn token to as many as were asked for."""
    found = sorted(
        ((float(logprob), int(name.removeprefix(ID))) for name, logprob in (others or {}).items()), reverse=True
    )
    return tuple((token, logprob) for logprob, token in found[:top])


def _refusal(status: int, body: bytes) -> EngineError:
    if status == httpx2.codes.BAD_REQUEST:
        return PromptError(_message(body))
    if status == httpx2.codes.NOT_FOUND:
        return NotLoadedError(_message(body))
    return EngineFailedError(f"vLLM answered {status}: {_message(body)}")


def _message(body: bytes) -> str:
    try:
        return str(json.loads(body)["error"]["message"])[:500]
    except (ValueError, KeyError, TypeError):
        return body[:500].decode(errors="replace")


def end_tokens(config: dict[str, Any], generation: dict[str, Any], tokenizer_end: int | None) -> frozenset[int]:
    """As transformers finds them: the generation config's, else the model's, and the tokenizer's own."""
    ends = generation.get("eos_token_id", config.get("eos_token_id"))
    ends = ends if isinstance(ends, list) else [ends]
    return frozenset(int(token) for token in (*ends, tokenizer_end) if token is not None)


def _json_of(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text()) if path.exists() else {}
