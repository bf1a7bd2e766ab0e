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
from typing import Protocol


class EngineError(Exception):
    """The engine could not answer; the text may be shown to the user."""


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


@dataclass(frozen=True, slots=True)
class Sampling:
    """How tokens are drawn. `temperature` 0: the likeliest one. `stop`: what ends the answer, and is left out of it."""

    max_tokens: int
    temperature: float = 1.0
    top_p: float = 1.0
    seed: int | None = None
    stop: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Piece:
    """A part of an answer. The last one carries the `finish_reason` ("stop" or "length") and the answer's figures."""

    text: str
    output_tokens: int  # so far
    finish_reason: str | None = None
    mean_logprob: float = 0.0  # of all tokens, under the model's own distribution; natural logarithm


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


class Engine(Protocol):
    """`base` and `adapter` are names that the caller chooses: here, the URIs that they came from."""

    def load_base(self, base: str, folder: Path) -> None:
        """Load a transformers folder and prove that it answers. Blocks. Raises UnusableWeightsError."""

    def attach_adapter(self, base: str, adapter: str, folder: Path) -> None:
        """Put a PEFT LoRA adapter beside a loaded base. Blocks. Raises UnusableWeightsError, NotLoadedError."""

    def retain(self, used: AbstractSet[tuple[str, str]]) -> None:
        """Keep only these (base, adapter or ""): the others accept nothing more, finish what is under way, and go."""

    def encode_chat(self, base: str, messages: Sequence[dict[str, str]]) -> list[int]:
        """A conversation as tokens, ready for the assistant's turn. Blocks. Raises PromptError, NotLoadedError."""

    def encode_text(self, base: str, text: str) -> list[int]:
        """A text as tokens. Blocks. Raises NotLoadedError."""

    def context_tokens(self, base: str) -> int:
        """Prompt and answer together may have so many tokens. Raises NotLoadedError."""

    def generate(self, base: str, adapter: str | None, tokens: Sequence[int], sampling: Sampling) -> Generation:
        """Begin an answer, in the running event loop. Raises NotLoadedError, OverloadedError."""

    def occupancy(self) -> Occupancy: ...

    def close(self) -> None:
        """Stop at once; answers under way end with an EngineError."""
