"""One answer, or one embedding, on its way through the engine: what was read of its prompt and said so far."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from torch import Tensor

from services.inference.caches import Block, Row
from services.inference.engine import EngineError, Generation, Piece, TokenLogprob, Work
from services.inference.lora import Adapter
from services.inference.sampling import Draw, Drawn
from services.inference.text import Detokenizer, StopScanner


@dataclass(slots=True, eq=False)
class Answer:
    """`draw` None: the prompt's vector is wanted, and nothing is drawn."""

    generation: Generation
    prompt: Sequence[int]
    adapter: Adapter | None
    draw: Draw | None
    decode: Callable[[Sequence[int]], str]
    text: Detokenizer
    stops: StopScanner
    asked_at: float = field(default_factory=time.perf_counter)
    queue_seconds: float = 0.0
    cached_tokens: int = 0
    block: Block | None = None  # of the prompt, while it is read
    prefilled: int = 0  # tokens of the prompt
    row: Row | None = None  # while it is running
    hidden_sum: Tensor | None = None
    output_tokens: int = 0
    last_token: int = 0
    logprob_sum: float = 0.0
    untold: list[TokenLogprob] = field(default_factory=list)
    companions: int = 0  # itself included, summed over its steps
    ended: bool = False

    @property
    def adapter_number(self) -> int:
        return self.adapter.number if self.adapter is not None else 0

    @property
    def left_to_read(self) -> int:
        return len(self.prompt) - self.prefilled

    def take(self, drawn: Drawn | EngineError, batch_size: int) -> Piece | EngineError | None:
        """Take the next token; what is to be told of it, often nothing yet. Sets `ended` with the last one."""
        if isinstance(drawn, EngineError):
            self.ended = True
            return drawn
        assert self.draw is not None
        self.output_tokens += 1
        self.companions += batch_size
        self.logprob_sum += drawn.logprob
        self.last_token = drawn.token
        how = self.draw.sampling
        if how.top_logprobs is not None:
            top = tuple((self.decode([token]), logprob) for token, logprob in drawn.top)
            self.untold.append(TokenLogprob(self.decode([drawn.token]), drawn.logprob, top))
        whole = self.draw.take(drawn.token)
        is_end = drawn.token in self.draw.end_tokens
        shown = "" if is_end else self.stops.add(self.text.add(drawn.token))
        self.ended = whole or self.stops.stopped or self.output_tokens >= how.max_tokens
        if not self.ended:
            return self._piece(shown) if shown else None
        if not self.stops.stopped:
            shown += self.stops.add(self.text.flush())
            shown += self.stops.flush()
        return self._piece(shown, "stop" if whole or self.stops.stopped else "length")

    def _piece(self, shown: str, reason: str | None = None) -> Piece:
        told, self.untold = tuple(self.untold), []
        mean = self.logprob_sum / self.output_tokens
        work = self._work(self.companions / self.output_tokens) if reason else Work()
        return Piece(shown, self.output_tokens, reason, mean, told, work=work)

    def vector(self) -> Piece:
        """The mean over the prompt's tokens; the answer of an embedding."""
        assert self.hidden_sum is not None
        self.ended = True
        mean = (self.hidden_sum / len(self.prompt)).tolist()
        return Piece("", 0, "stop", vector=tuple(mean), work=self._work(1.0))

    def _work(self, batch_size: float) -> Work:
        return Work(self.queue_seconds, self.cached_tokens, batch_size)
