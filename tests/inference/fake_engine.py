"""An engine without a model: it knows what is loaded, and can be told to refuse."""

from __future__ import annotations

from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from pathlib import Path

from services.inference.engine import (
    NOTHING_SAID,
    DrawsNothing,
    Generation,
    GrammarError,
    NotLoadedError,
    Occupancy,
    Piece,
    PromptError,
    Said,
    Sampling,
    UnusableWeightsError,
    Work,
)


class FakeEngine(DrawsNothing):
    """Says the last word of the prompt, as many times as there are tokens to give."""

    def __init__(self) -> None:
        self.loaded: set[tuple[str, str]] = set()
        self.refuses: set[str] = set()
        self.closed = False

    def load_base(self, base: str, folder: Path) -> None:
        assert folder.is_dir()
        if base in self.refuses:
            raise UnusableWeightsError(f"{base} is not for me")
        self.loaded.add((base, ""))

    def attach_adapter(self, base: str, adapter: str, folder: Path) -> None:
        assert (base, "") in self.loaded
        assert (folder / "adapter_config.json").exists()
        self.loaded.add((base, adapter))

    def retain(self, used: AbstractSet[tuple[str, str]]) -> None:
        bases = {base for base, _ in used}
        self.loaded = {
            (base, adapter)
            for base, adapter in self.loaded
            if (base, adapter) in used or (base in bases and not adapter)
        }

    def encode_chat(self, base: str, messages: Sequence[dict[str, str]]) -> list[int]:
        return self.encode_text(base, " ".join(message["content"] for message in messages))

    def encode_text(self, base: str, text: str) -> list[int]:
        return [len(word) for word in text.split()]

    def context_tokens(self, base: str) -> int:
        return 100

    def load_classifier(self, name: str, folder: Path, adapter: Path) -> None:
        assert (adapter / "adapter_config.json").exists()
        self.load_base(name, folder)

    def check_schema(self, base: str, schema: str) -> None:
        raise GrammarError("this engine says what it says")

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
        if (base, adapter or "") not in self.loaded:
            raise NotLoadedError(base)
        text = f"{tokens[-1]} " * sampling.max_tokens
        work = Work(queue_seconds=0.25, cached_tokens=len(tokens) - 1, batch_size=3.0)
        generations = [Generation() for _ in range(copies)]
        for generation in generations:
            generation.feed(Piece(text, sampling.max_tokens, "length", -1.0, work=work))
        return generations

    def embed(self, base: str, adapter: str | None, texts: Sequence[Sequence[int]]) -> list[Generation]:
        if (base, adapter or "") not in self.loaded:
            raise NotLoadedError(base)
        generations = [Generation() for _ in texts]
        for generation, tokens in zip(generations, texts, strict=True):
            generation.feed(Piece("", 0, "stop", vector=(3.0 * len(tokens), 4.0 * len(tokens))))
        return generations

    def labels(self, base: str) -> tuple[str, ...]:
        return ()

    def classify(self, base: str, texts: Sequence[str]) -> list[list[float]]:
        raise PromptError("this engine is no classifier")

    def picture_shape(self, base: str) -> None:
        return None

    def classify_pictures(self, base: str, pictures: object) -> list[list[float]]:
        raise PromptError("this engine is no classifier")

    def occupancy(self) -> Occupancy:
        return Occupancy(0, 0)

    def close(self) -> None:
        self.closed = True
