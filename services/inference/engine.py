"""What inference asks of an engine, whatever computes the tokens: bases, adapters on them, and generations.

All methods may be called from any thread; those marked "blocks" take seconds and belong into a thread of their own.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncGenerator, Sequence
from collections.abc import Set as AbstractSet
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from services.inference.pictures import Pictures

from services.inference.drawings import Canvas, Drawing, Picture


class EngineError(Exception):
    """The engine could not answer; the text may be shown to the user."""


class EngineFailedError(EngineError):
    """The engine failed, not the request: another one may answer it, or the same one later."""


class NotLoadedError(EngineError):
    """This base or adapter is not loaded here (any more)."""


class OverloadedError(EngineError):
    """As many requests wait as may wait."""

    def __init__(self, waiting: int, retry_after_seconds: int = 1) -> None:
        super().__init__(f"{waiting} requests are under way or wait; try again in {retry_after_seconds} s")
        self.retry_after_seconds = retry_after_seconds


class UnusableWeightsError(EngineError):
    """The weights, or the files around them, cannot be served; the text says why."""


class PromptError(EngineError):
    """The model's own chat template or tokenizer refuses this conversation."""


class GrammarError(EngineError):
    """No text can be held to this JSON schema; the text says why."""


@dataclass(frozen=True, slots=True)
class Sampling:
    """How tokens are drawn. `temperature` 0: the likeliest one. `stop`: what ends the answer, and is left out of it.

    `schema`: JSON of a JSON schema that the answer must match. `top_logprobs`: how many of the likeliest tokens are
    told beside each drawn one; None: nothing is told of single tokens. The penalties are OpenAI's: subtracted from the
    logits of tokens that were said, per time and once. `min_tokens`: the end is not drawn before.
    """

    max_tokens: int
    temperature: float = 1.0
    top_p: float = 1.0
    seed: int | None = None
    stop: tuple[str, ...] = ()
    min_tokens: int = 0
    frequency_penalty: float = 0.0
    presence_penalty: float = 0.0
    logit_bias: tuple[tuple[int, float], ...] = ()
    top_logprobs: int | None = None
    schema: str = ""


@dataclass(frozen=True, slots=True)
class TokenLogprob:
    """A drawn token under the model's own distribution (temperature 1, before penalties), and the likeliest ones."""

    text: str
    logprob: float
    top: tuple[tuple[str, float], ...] = ()


@dataclass(frozen=True, slots=True)
class Work:
    """What an answer took. `batch_size`: sequences that were stepped with it, itself included, on average."""

    queue_seconds: float = 0.0
    cached_tokens: int = 0  # of the prompt, read for another request before
    batch_size: float = 0.0


@dataclass(frozen=True, slots=True)
class Said:
    """The beginning of an answer that another engine gave: this one goes on after it, as if it had said it itself."""

    tokens: tuple[int, ...] = ()
    logprob_sum: float = 0.0


NOTHING_SAID = Said()


@dataclass(frozen=True, slots=True)
class Piece:
    """A part of an answer. The last one carries the `finish_reason` ("stop" or "length") and the answer's figures.

    `logprobs`: of the tokens since the last piece, if they were asked for. `tokens`: those themselves, in every case.
    `vector`, `picture`: the only piece of an embedding, or of a drawing.
    """

    text: str
    output_tokens: int  # so far
    finish_reason: str | None = None
    mean_logprob: float = 0.0  # of all tokens, under the model's own distribution; natural logarithm
    logprobs: tuple[TokenLogprob, ...] = ()
    vector: tuple[float, ...] = ()
    work: Work = Work()
    tokens: tuple[int, ...] = ()
    picture: Picture | None = None


class Generation:
    """One answer on its way from the engine's thread to the event loop that asked for it."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._pieces: asyncio.Queue[Piece | EngineError] = asyncio.Queue()
        self._cancelled = threading.Event()

    @property
    def cancelled(self) -> bool:
        """Whether nobody listens any more: the engine gives the sequence's place to the next one."""
        return self._cancelled.is_set()

    def cancel(self) -> None:
        self._cancelled.set()

    def feed(self, piece: Piece | EngineError) -> None:
        """Called by the engine. An error ends the answer."""
        with suppress(RuntimeError):  # the event loop is gone, and its listener with it
            self._loop.call_soon_threadsafe(self._pieces.put_nowait, piece)

    async def pieces(self) -> AsyncGenerator[Piece, None]:
        """The pieces as they come; raises EngineError. Leaving early cancels the generation."""
        try:
            while True:
                piece = await self._pieces.get()
                if isinstance(piece, EngineError):
                    raise piece
                yield piece
                if piece.finish_reason is not None:
                    return
        finally:
            self.cancel()


@dataclass(frozen=True, slots=True)
class Occupancy:
    """Sequences under way and waiting, of all bases."""

    active: int
    waiting: int


class AnsweringEngine(Protocol):
    """`base` and `adapter` are names that whoever loads them chooses."""

    def encode_chat(self, base: str, messages: Sequence[dict[str, str]]) -> list[int]:
        """A conversation as tokens, ready for the assistant's turn. Blocks. Raises PromptError, NotLoadedError."""

    def encode_text(self, base: str, text: str) -> list[int]:
        """A text as tokens. Blocks. Raises NotLoadedError."""

    def context_tokens(self, base: str) -> int:
        """Prompt and answer together may have so many tokens. Raises NotLoadedError."""

    def check_schema(self, base: str, schema: str) -> None:
        """Raises GrammarError unless answers can be held to this JSON schema (as JSON). Blocks. Raises
        NotLoadedError."""

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
        """Begin so many answers to one prompt, all or none, in the running event loop; their seeds count upwards.

        `said`: all pieces told before, of which none is told again; what follows is what would have followed there.
        Raises NotLoadedError, OverloadedError."""

    def embed(self, base: str, adapter: str | None, texts: Sequence[Sequence[int]]) -> list[Generation]:
        """Begin one embedding for each text: one piece with the mean of the last layer over the text's tokens. All or
        none. Raises NotLoadedError, OverloadedError."""

    def labels(self, base: str) -> tuple[str, ...]:
        """What a classifier tells apart; () if the base is none. Raises NotLoadedError."""

    def classify(self, base: str, texts: Sequence[str]) -> list[list[float]]:
        """Each text's probability by label. Blocks. Raises NotLoadedError, PromptError, OverloadedError."""

    def picture_shape(self, base: str) -> tuple[int, ...] | None:
        """What an image classifier makes of a picture: (channels, height, width); None: the base is none. Raises
        NotLoadedError."""

    def classify_pictures(self, base: str, pictures: Pictures) -> list[list[float]]:
        """Each picture's probability by label. Blocks. Raises NotLoadedError, PromptError, OverloadedError."""

    def canvas(self, base: str) -> Canvas | None:
        """What a text-to-image pipeline can draw; None if the base is none. Raises NotLoadedError."""

    def prompt_tokens(self, base: str, prompt: str) -> int:
        """How many a pipeline reads of a text. Blocks. Raises NotLoadedError, PromptError."""

    def draw(self, base: str, adapter: str | None, drawing: Drawing, copies: int = 1) -> list[Generation]:
        """Begin so many pictures, all or none, each of one piece; their seeds count upwards. `drawing` must keep to the
        canvas. Raises NotLoadedError, OverloadedError, PromptError."""

    def occupancy(self) -> Occupancy: ...

    def close(self) -> None:
        """Stop at once; answers under way end with an EngineError."""


class DrawsNothing:
    """What an engine without pipelines has of `AnsweringEngine`."""

    def canvas(self, base: str) -> Canvas | None:
        del base
        return None

    def prompt_tokens(self, base: str, prompt: str) -> int:
        del base, prompt
        raise PromptError(NO_PICTURES)

    def draw(self, base: str, adapter: str | None, drawing: Drawing, copies: int = 1) -> list[Generation]:
        del base, adapter, drawing, copies
        raise PromptError(NO_PICTURES)


NO_PICTURES = "this model draws no pictures: use /v1/chat/completions"


class Engine(AnsweringEngine, Protocol):
    """One that loads: here, the names are the URIs that the weights came from."""

    def load_base(self, base: str, folder: Path) -> None:
        """Load a transformers folder, a causal model or a classifier of texts or pictures, or a diffusers pipeline, and
        prove that it answers. Blocks. Raises UnusableWeightsError."""

    def load_classifier(self, name: str, folder: Path, adapter: Path) -> None:
        """Load a base with a PEFT adapter that makes a classifier of it, merged. Blocks. Raises
        UnusableWeightsError."""

    def attach_adapter(self, base: str, adapter: str, folder: Path) -> None:
        """Put a LoRA adapter, PEFT's or diffusers', beside a loaded base. Blocks. Raises UnusableWeightsError,
        NotLoadedError."""

    def retain(self, used: AbstractSet[tuple[str, str]]) -> None:
        """Keep only these (base, adapter or ""): the others accept nothing more, finish what is under way, and go."""
