"""The thread of one base: steps all its sequences together, whatever adapters they use, and lets in the next ones.

Each turn is one pass of the model over the next token of every running sequence and a limited number of tokens of new
prompts, so a long prompt delays the others by one piece, not by the whole of it.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import structlog
import torch

from services.inference import prefixes, sampling
from services.inference.answers import Answer
from services.inference.caches import Block, Row, Shelves
from services.inference.engine import EngineError, Generation, NotLoadedError, OverloadedError, Piece, Sampling
from services.inference.flat import Forward, Passed
from services.inference.flat import Piece as PromptPiece
from services.inference.grammar import Grammars
from services.inference.lora import Adapter, AdapterBank
from services.inference.prefixes import PrefixCache
from services.inference.text import Detokenizer, StopScanner

log = structlog.get_logger()

Told = list[tuple[Generation, Piece | EngineError | None]]


@dataclass(frozen=True, slots=True)
class Limits:
    """Of one base."""

    concurrent: int
    waiting: int
    prefill_chunk_tokens: int
    prefix_cache_bytes: int = 0


class Runner:
    """Steps one model. `submit`, `embed` and `stop` may be called from any thread."""

    def __init__(
        self,
        name: str,
        model: Any,
        bank: AdapterBank,
        decode: Callable[[Sequence[int]], str],
        grammars: Grammars,
        *,
        end_tokens: frozenset[int],
        limits: Limits,
    ) -> None:
        self._forward = Forward(model)
        self._bank = bank
        self._decode = decode
        self._grammars = grammars
        self._end_tokens = end_tokens
        self._limits = limits
        self._wake = threading.Condition()
        self._waiting: deque[Answer] = deque()
        self._closing: str | None = None  # "drain" | "now"
        self._prefilling: deque[Answer] = deque()
        self._shelves = Shelves()
        self._running = 0  # sequences on the shelves, which only this thread may look at
        self._prefixes = PrefixCache(limits.prefix_cache_bytes)
        self._thread = threading.Thread(target=self._run, name=f"engine {name}", daemon=True)
        self._thread.start()

    def submit(
        self, tokens: Sequence[int], adapter: Adapter | None, sampled: Sampling, copies: int = 1
    ) -> list[Generation]:
        """Put sequences with one prompt into the queue. Raises OverloadedError, NotLoadedError, GrammarError."""
        answers = []
        for copy in range(copies):
            seed = None if sampled.seed is None else sampled.seed + copy
            grammar = self._grammars.start(sampled.schema) if sampled.schema else None
            draw = sampling.Draw(replace(sampled, seed=seed), sampling.dice(seed), self._end_tokens, grammar)
            answers.append(self._answer(tokens, adapter, draw))
        return self._enqueue(answers)

    def embed(self, texts: Sequence[Sequence[int]], adapter: Adapter | None) -> list[Generation]:
        """Put texts into the queue whose vectors are wanted. Raises OverloadedError, NotLoadedError."""
        return self._enqueue([self._answer(tokens, adapter, None) for tokens in texts])

    def _answer(self, tokens: Sequence[int], adapter: Adapter | None, draw: sampling.Draw | None) -> Answer:
        stops = draw.sampling.stop if draw is not None else ()
        text = Detokenizer(self._decode)
        return Answer(Generation(), tokens, adapter, draw, self._decode, text, StopScanner(stops))

    def _enqueue(self, answers: list[Answer]) -> list[Generation]:
        with self._wake:
            if self._closing:
                raise NotLoadedError("this model is being unloaded")
            under_way = self._running + len(self._prefilling) + len(self._waiting)
            if under_way + len(answers) > self._limits.concurrent + self._limits.waiting:
                raise OverloadedError(under_way)
            self._waiting.extend(answers)
            self._wake.notify()
        return [answer.generation for answer in answers]

    def occupancy(self) -> tuple[int, int]:
        """Sequences under way, and waiting."""
        return self._running + len(self._prefilling), len(self._waiting)

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
            while not (self._waiting or self._prefilling or len(self._shelves) or self._closing):
                self._wake.wait()
            if self._closing == "now":
                return False
            while self._waiting and len(self._shelves) + len(self._prefilling) < self._limits.concurrent:
                answer = self._waiting.popleft()
                answer.queue_seconds = time.perf_counter() - answer.asked_at
                self._prefilling.append(answer)
            return bool(self._prefilling or len(self._shelves))

    def _turn(self) -> None:
        self._drop_cancelled()
        reading = self._to_read()
        self._shelves.make_room()
        running: list[Answer] = [row.owner for _, rows in self._shelves for row in rows]
        if not reading and not running:
            return
        pieces = [piece for _, piece in reading]
        self._bank.select(
            [answer.adapter for answer in running],
            [(answer.adapter, piece.size, piece.wants_logits) for answer, piece in reading],
        )
        passed = self._forward.step(self._shelves, pieces)
        drawing = running + [answer for answer, piece in reading if piece.wants_logits]
        told = self._draw(passed, drawing)
        self._go_on(running, reading, passed, told)
        for generation, piece in told:
            if piece is not None:
                generation.feed(piece)

    def _to_read(self) -> list[tuple[Answer, PromptPiece]]:
        """The pieces of prompts that are read in this turn. Prompts take turns, so that a short one does not stand
        behind all of a long one; one that begins like one that is being read waits for it, to go on from there."""
        room = self._limits.prefill_chunk_tokens
        chosen: list[tuple[Answer, PromptPiece]] = []
        for answer in list(self._prefilling):
            if room <= 0:
                break
            if answer.block is None and self._worth_waiting(answer):
                continue
            block = self._begun(answer)
            size = min(room, answer.left_to_read)
            room -= size
            tokens = answer.prompt[answer.prefilled : answer.prefilled + size]
            wants_logits = size == answer.left_to_read and answer.draw is not None
            chosen.append((answer, PromptPiece(tokens, answer.prefilled, block, wants_logits)))
            self._prefilling.remove(answer)
            self._prefilling.append(answer)
        return chosen

    def _worth_waiting(self, answer: Answer) -> bool:
        """Whether most of a prompt is the beginning of one that is being read now, and will be kept."""
        if answer.draw is None or not self._limits.prefix_cache_bytes:
            return False
        started = [one for one in self._prefilling if one.block is not None and one.draw is not None]
        alike = [one.prompt for one in started if one.adapter is answer.adapter]
        tokens = np.asarray(answer.prompt)
        return any(2 * prefixes.shared(np.asarray(prompt), tokens) > len(tokens) for prompt in alike)

    def _begun(self, answer: Answer) -> Block:
        """The prompt's block, at first with what was read for another request."""
        if answer.block is None:
            answer.block = Block(1, len(answer.prompt))
            # An embedding needs the last layer of all its tokens, which is not kept.
            found = self._prefixes.find(answer.adapter_number, answer.prompt) if answer.draw is not None else None
            if found is not None:
                block, length = found
                answer.block.write(0, block, 0, length)
                answer.prefilled = answer.cached_tokens = length
        return answer.block

    def _draw(self, passed: Passed, answers: Sequence[Answer]) -> Told:
        """Draw each one's next token. To be told when the ended ones have left: then their places are free for sure."""
        drawn = sampling.draw(passed.logits, [answer.draw for answer in answers if answer.draw is not None])
        return [
            (answer.generation, answer.take(token, len(answers))) for answer, token in zip(answers, drawn, strict=True)
        ]

    def _go_on(
        self, running: Sequence[Answer], reading: Sequence[tuple[Answer, PromptPiece]], passed: Passed, told: Told
    ) -> None:
        """After a step: the ended ones leave, prompts that were read to their end join."""
        with self._wake:  # in one step, or `submit` would miscount
            for answer in running:
                if answer.ended and answer.row is not None:
                    self._shelves.remove(answer.row)
            start = 0
            for answer, piece in reading:
                answer.prefilled += piece.size
                if answer.draw is None:
                    added = passed.hidden[start : start + piece.size].float().sum(0)
                    answer.hidden_sum = added if answer.hidden_sum is None else answer.hidden_sum + added
                    if not answer.left_to_read:
                        told.append((answer.generation, answer.vector()))
                start += piece.size
                if not answer.left_to_read:
                    self._prefilling.remove(answer)
                    self._join(answer, piece.block)
            self._running = len(self._shelves)

    def _join(self, answer: Answer, block: Block) -> None:
        answer.block = None
        if answer.draw is None:
            return
        self._prefixes.add(answer.adapter_number, answer.prompt, block)
        if not answer.ended:
            answer.row = Row(answer, len(answer.prompt))
            self._shelves.put(answer.row, block)

    def _drop_cancelled(self) -> None:
        with self._wake:
            self._waiting = deque(one for one in self._waiting if not one.generation.cancelled)
            self._prefilling = deque(one for one in self._prefilling if not one.generation.cancelled)
            for row in [row for _, rows in self._shelves for row in rows if row.owner.generation.cancelled]:
                self._shelves.remove(row)
            self._running = len(self._shelves)

    def _fail_all(self, reason: str) -> None:
        with self._wake:
            running: list[Answer] = [row.owner for _, rows in self._shelves for row in rows]
            sequences = [*running, *self._prefilling, *self._waiting]
            self._waiting.clear()
            self._prefilling.clear()
            self._shelves, self._running = Shelves(), 0
            self._prefixes = PrefixCache(self._limits.prefix_cache_bytes)
        for sequence in sequences:
            sequence.generation.feed(EngineError(reason))
