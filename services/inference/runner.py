"""The thread of one base: steps all its sequences together, whatever adapters they use, and lets in the next ones.

Each turn reads at most one piece of one new prompt and then gives every running sequence one token, so a long prompt
delays the others by one piece, not by the whole of it.
"""

from __future__ import annotations

import math
import threading
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import structlog
import torch
from torch import Tensor
from transformers import DynamicCache

from services.inference import sampling
from services.inference.engine import EngineError, Generation, NotLoadedError, OverloadedError, Piece, Sampling
from services.inference.lora import Adapter, AdapterBank
from services.inference.padded import PaddedBatch, prefill
from services.inference.text import Detokenizer, StopScanner

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Limits:
    """Of one base."""

    concurrent: int
    waiting: int
    prefill_chunk_tokens: int


@dataclass(slots=True, eq=False)
class Answer:
    """One answer under way."""

    generation: Generation
    prompt: Sequence[int]
    adapter: Adapter | None
    sampling: Sampling
    dice: torch.Generator
    text: Detokenizer
    stops: StopScanner
    cache: DynamicCache = field(default_factory=DynamicCache)
    prefilled: int = 0  # tokens of the prompt
    output_tokens: int = 0
    last_token: int = 0
    logprob_sum: float = 0.0
    ended: bool = False

    def take(self, token: int, logprob: float, *, is_end: bool) -> Piece | EngineError | None:
        """Take the next token; what is to be told of it, often nothing yet. Sets `ended` with the last one."""
        if not math.isfinite(logprob):
            self.ended = True
            return EngineError("the model produced numbers that are not finite")
        self.output_tokens += 1
        self.logprob_sum += logprob
        self.last_token = token
        shown = "" if is_end else self.stops.add(self.text.add(token))
        self.ended = is_end or self.stops.stopped or self.output_tokens >= self.sampling.max_tokens
        if not self.ended:
            return Piece(shown, self.output_tokens) if shown else None
        if not self.stops.stopped:
            shown += self.stops.add(self.text.flush())
            shown += self.stops.flush()
        reason = "stop" if is_end or self.stops.stopped else "length"
        return Piece(shown, self.output_tokens, reason, self.logprob_sum / self.output_tokens)


class Runner:
    """Steps one model. `submit` and `stop` may be called from any thread."""

    def __init__(
        self,
        name: str,
        model: Any,
        bank: AdapterBank,
        decode: Callable[[Sequence[int]], str],
        *,
        end_tokens: frozenset[int],
        limits: Limits,
    ) -> None:
        self._model = model
        self._bank = bank
        self._decode = decode
        self._end_tokens = end_tokens
        self._limits = limits
        self._wake = threading.Condition()
        self._waiting: deque[Answer] = deque()
        self._closing: str | None = None  # "drain" | "now"
        self._prefilling: deque[Answer] = deque()
        self._running: list[Answer] = []
        self._batch = PaddedBatch()
        self._thread = threading.Thread(target=self._run, name=f"engine {name}", daemon=True)
        self._thread.start()

    def submit(
        self, generation: Generation, tokens: Sequence[int], adapter: Adapter | None, sampled: Sampling
    ) -> Generation:
        """Put a sequence into the queue. Raises OverloadedError, NotLoadedError."""
        sequence = Answer(
            generation,
            tokens,
            adapter,
            sampled,
            sampling.dice(sampled.seed),
            Detokenizer(self._decode),
            StopScanner(sampled.stop),
        )
        with self._wake:
            if self._closing:
                raise NotLoadedError("this model is being unloaded")
            under_way = len(self._running) + len(self._prefilling) + len(self._waiting)
            if under_way >= self._limits.concurrent + self._limits.waiting:
                raise OverloadedError(under_way)
            self._waiting.append(sequence)
            self._wake.notify()
        return generation

    def occupancy(self) -> tuple[int, int]:
        """Sequences under way, and waiting."""
        return len(self._running) + len(self._prefilling), len(self._waiting)

    def stop(self, *, drain: bool) -> None:
        """End the thread: when everything under way is done (`drain`), or after this step. Returns at once."""
        with self._wake:
            self._closing = "drain" if drain else "now"
            self._wake.notify()

    def join(self, limit_seconds: float) -> None:
        self._thread.join(limit_seconds)

    def _run(self) -> None:
        with torch.inference_mode():
            while self._next():
                try:
                    self._turn()
                except Exception as error:
                    log.exception("a step failed; its sequences end")
                    self._fail_all(f"the engine failed: {type(error).__name__}")
        self._fail_all("the service is stopping; try again")

    def _next(self) -> bool:
        """Wait for work and let it in; False: the thread's end."""
        with self._wake:
            while not (self._waiting or self._prefilling or self._running or self._closing):
                self._wake.wait()
            if self._closing == "now":
                return False
            while self._waiting and len(self._running) + len(self._prefilling) < self._limits.concurrent:
                self._prefilling.append(self._waiting.popleft())
            return bool(self._prefilling or self._running)

    def _turn(self) -> None:
        self._drop_cancelled()
        if self._prefilling:
            self._read_prompt(self._prefilling[0])
        if self._running:
            self._bank.select([answer.adapter for answer in self._running])
            logits = self._batch.step(self._model, [answer.last_token for answer in self._running])
            told = self._draw(logits, self._running)
            self._keep([not answer.ended for answer in self._running])
            _tell(told)

    def _read_prompt(self, answer: Answer) -> None:
        """One piece of a prompt; after the last one the sequence joins the batch."""
        start = answer.prefilled
        piece = answer.prompt[start : start + self._limits.prefill_chunk_tokens]
        self._bank.select([answer.adapter])
        logits = prefill(self._model, answer.cache, piece, start)
        answer.prefilled += len(piece)
        # Prompts take turns, so that a short one does not stand behind all of a long one.
        self._prefilling.rotate(-1)
        if answer.prefilled < len(answer.prompt):
            return
        told = self._draw(logits, [answer])
        if not answer.ended:
            self._batch.add(answer.cache, answer.prefilled)
        with self._wake:  # in one step, or `submit` would miscount
            self._prefilling.remove(answer)
            if not answer.ended:
                self._running.append(answer)
        _tell(told)

    def _draw(self, logits: Tensor, answers: Sequence[Answer]) -> list[tuple[Generation, Piece | EngineError | None]]:
        """Draw each one's next token. To be told when the ended ones have left: then their places are free for sure."""
        drawn = sampling.draw(logits, [(answer.sampling, answer.dice) for answer in answers])
        return [
            (answer.generation, answer.take(token, logprob, is_end=token in self._end_tokens))
            for answer, (token, logprob) in zip(answers, drawn, strict=True)
        ]

    def _drop_cancelled(self) -> None:
        with self._wake:
            self._waiting = deque(one for one in self._waiting if not one.generation.cancelled)
        self._prefilling = deque(one for one in self._prefilling if not one.generation.cancelled)
        self._keep([not answer.generation.cancelled for answer in self._running])

    def _keep(self, going_on: Sequence[bool]) -> None:
        if not all(going_on):
            self._batch.keep([row for row, stays in enumerate(going_on) if stays])
            self._running = [one for one, stays in zip(self._running, going_on, strict=True) if stays]

    def _fail_all(self, reason: str) -> None:
        with self._wake:
            sequences = [*self._running, *self._prefilling, *self._waiting]
            self._waiting.clear()
            self._prefilling.clear()
        self._running = []
        self._batch = PaddedBatch()
        for sequence in sequences:
            sequence.generation.feed(EngineError(reason))


def _tell(told: Sequence[tuple[Generation, Piece | EngineError | None]]) -> None:
    for generation, piece in told:
        if piece is not None:
            generation.feed(piece)
