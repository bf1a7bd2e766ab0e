"""The engine that runs anywhere: transformers' models and diffusers' pipelines in this process, several LoRA adapters
on each base."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from collections.abc import Set as AbstractSet
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import structlog
import torch
from safetensors import SafetensorError
from transformers import AutoModelForCausalLM
from transformers.utils import logging as transformers_logging

from services.inference import flat, packed
from services.inference.caches import Block, Row, Shelves
from services.inference.classifier import Classifier
from services.inference.drawings import Canvas, Drawing
from services.inference.engine import (
    NO_PICTURES,
    NOTHING_SAID,
    Generation,
    NotLoadedError,
    Occupancy,
    PromptError,
    Said,
    Sampling,
    UnusableWeightsError,
)
from services.inference.grammar import Grammars
from services.inference.image_classifier import ImageClassifier
from services.inference.image_engine import Studio
from services.inference.lora import Adapter, AdapterBank
from services.inference.pictures import Pictures
from services.inference.pipelines import Pipeline
from services.inference.runner import Limits, Runner
from services.inference.tokenizing import Tokenizing

log = structlog.get_logger()


@dataclass(eq=False)
class Base:
    """A loaded foundation model with its adapters."""

    runner: Runner
    bank: AdapterBank
    tokens: Tokenizing
    grammars: Grammars
    context_tokens: int
    adapters: dict[str, Adapter] = field(default_factory=dict)


class TransformersEngine:
    """See `engine.Engine`. `device` "auto": a CUDA device where there is one. Weights are fp32 on a CPU, else bf16."""

    def __init__(
        self,
        *,
        limits: Limits,
        max_context_tokens: int,
        threads: int,
        device: str = "auto",
        max_waiting_pictures: int = 8,
    ) -> None:
        self._limits = limits
        self._max_waiting_pictures = max_waiting_pictures
        self._max_context_tokens = max_context_tokens
        self._device = ("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device
        self._bases: dict[str, Base] = {}
        self._classifiers: dict[str, Classifier | ImageClassifier] = {}
        self._studios: dict[str, Studio] = {}
        torch.set_num_threads(threads)
        transformers_logging.disable_progress_bar()

    def load_base(self, base: str, folder: Path) -> None:
        if base in self._bases or base in self._classifiers or base in self._studios:
            return
        with _as_unusable("the model cannot be loaded"):
            if (kind := _classifier_of(folder)) is not None:
                self._classifiers[base] = kind(folder, self._device, self._limits.waiting)
                return
            if Pipeline.is_one(folder):
                self._studios[base] = Studio(base, folder, self._device, self._max_waiting_pictures)
                return
            tokens, model = Tokenizing(folder), self._read(folder)
        bank = AdapterBank(model)
        _prove(model)
        config = model.config.get_text_config()
        ends = _end_tokens(model, tokens.tokenizer)
        grammars = Grammars(tokens.tokenizer, int(config.vocab_size), sorted(ends))
        runner = Runner(base, model, bank, tokens.decode, grammars, end_tokens=ends, limits=self._limits)
        context = min(int(getattr(config, "max_position_embeddings", math.inf)), self._max_context_tokens)
        self._bases[base] = Base(runner, bank, tokens, grammars, context)

    def load_classifier(self, name: str, folder: Path, adapter: Path) -> None:
        if name not in self._classifiers:
            with _as_unusable("the classifier cannot be loaded"):
                kind = _classifier_of(folder) or Classifier
                self._classifiers[name] = kind(folder, self._device, self._limits.waiting, adapter)

    def _read(self, folder: Path) -> Any:
        # Nothing in the folder may run, and nothing may be fetched from elsewhere.
        safe = {"local_files_only": True, "trust_remote_code": False}
        dtype = torch.float32 if self._device == "cpu" else torch.bfloat16
        model = AutoModelForCausalLM.from_pretrained(
            folder, dtype=dtype, use_safetensors=True, attn_implementation=flat.NAME, **safe
        )
        model = model.to(self._device).eval()
        packed.pack(model)
        return model

    def attach_adapter(self, base: str, adapter: str, folder: Path) -> None:
        if (studio := self._studios.get(base)) is not None:
            with _as_unusable("the adapter cannot be put on this pipeline"):
                studio.attach(adapter, folder)
            return
        loaded = self._loaded(base)
        if adapter not in loaded.adapters:
            loaded.adapters[adapter] = loaded.bank.read(folder)

    def retain(self, used: AbstractSet[tuple[str, str]]) -> None:
        bases = {base for base, _ in used}
        for name in [name for name in self._bases if name not in bases]:
            self._bases.pop(name).runner.stop(drain=True)
        for name in [name for name in self._studios if name not in bases]:
            self._studios.pop(name).stop(drain=True)
        for name, studio in self._studios.items():
            studio.keep({adapter for base, adapter in used if base == name})
        self._classifiers = {name: kept for name, kept in self._classifiers.items() if name in bases}
        for name, base in self._bases.items():
            # Answers under way hold their adapter themselves; its memory goes with the last of them.
            base.adapters = {adapter: kept for adapter, kept in base.adapters.items() if (name, adapter) in used}

    def encode_chat(self, base: str, messages: Sequence[dict[str, str]]) -> list[int]:
        return self._loaded(base).tokens.chat(messages)

    def encode_text(self, base: str, text: str) -> list[int]:
        return self._loaded(base).tokens.text(text)

    def context_tokens(self, base: str) -> int:
        return self._loaded(base).context_tokens

    def check_schema(self, base: str, schema: str) -> None:
        self._loaded(base).grammars.start(schema)

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
        return self._loaded(base).runner.submit(tokens, self._chosen(base, adapter), sampling, copies, said=said)

    def embed(self, base: str, adapter: str | None, texts: Sequence[Sequence[int]]) -> list[Generation]:
        return self._loaded(base).runner.embed(texts, self._chosen(base, adapter))

    def _chosen(self, base: str, adapter: str | None) -> Adapter | None:
        if adapter is None:
            return None
        chosen = self._loaded(base).adapters.get(adapter)
        if chosen is None:
            raise NotLoadedError(f"the adapter {adapter} is not loaded")
        return chosen

    def labels(self, base: str) -> tuple[str, ...]:
        classifier = self._classifiers.get(base)
        if classifier is None:
            if base not in self._studios:
                self._loaded(base)
            return ()
        return classifier.labels

    def classify(self, base: str, texts: Sequence[str]) -> list[list[float]]:
        classifier = self._classifier(base)
        if isinstance(classifier, ImageClassifier):
            raise PromptError("this model is a classifier of pictures")
        return classifier.classify(texts)

    def picture_shape(self, base: str) -> tuple[int, ...] | None:
        classifier = self._classifiers.get(base)
        if classifier is None:
            self._loaded(base)
        return classifier.shape if isinstance(classifier, ImageClassifier) else None

    def classify_pictures(self, base: str, pictures: Pictures) -> list[list[float]]:
        classifier = self._classifier(base)
        if isinstance(classifier, Classifier):
            raise PromptError("this model is a classifier of texts")
        return classifier.classify(pictures)

    def _classifier(self, base: str) -> Classifier | ImageClassifier:
        classifier = self._classifiers.get(base)
        if classifier is None:
            self._loaded(base)
            raise PromptError("this model is no classifier: use /v1/chat/completions")
        return classifier

    def canvas(self, base: str) -> Canvas | None:
        if base in self._studios:
            return self._studios[base].canvas
        if base not in self._classifiers:
            self._loaded(base)
        return None

    def prompt_tokens(self, base: str, prompt: str) -> int:
        return self._studio(base).count_tokens(prompt)

    def draw(self, base: str, adapter: str | None, drawing: Drawing, copies: int = 1) -> list[Generation]:
        return self._studio(base).draw(adapter, drawing, copies)

    def _studio(self, base: str) -> Studio:
        studio = self._studios.get(base)
        if studio is None:
            self._loaded(base)
            raise PromptError(NO_PICTURES)
        return studio

    def occupancy(self) -> Occupancy:
        counts = [base.runner.occupancy() for base in list(self._bases.values())]
        counts += [studio.occupancy() for studio in list(self._studios.values())]
        return Occupancy(sum(active for active, _ in counts), sum(waiting for _, waiting in counts))

    def close(self) -> None:
        bases, self._bases = self._bases, {}
        studios, self._studios = self._studios, {}
        running: list[Runner | Studio] = [*(base.runner for base in bases.values()), *studios.values()]
        for one in running:
            one.stop(drain=False)
        for one in running:
            one.join(limit_seconds=2)

    def _loaded(self, base: str) -> Base:
        if base in self._classifiers:
            raise PromptError("this model is a classifier: use /v2/models/NAME/infer")
        if base in self._studios:
            raise PromptError("this model draws pictures: use /v1/images/generations")
        try:
            return self._bases[base]
        except KeyError:
            raise NotLoadedError(f"the base model {base} is not loaded") from None


def _classifier_of(folder: Path) -> type[Classifier] | type[ImageClassifier] | None:
    """What a folder is served as, if its config names a classifier."""
    return next((kind for kind in (Classifier, ImageClassifier) if kind.is_one(folder)), None)


@contextmanager
def _as_unusable(what: str) -> Iterator[None]:
    try:
        yield
    except (OSError, ValueError, KeyError, RuntimeError, ImportError, SafetensorError, PromptError) as error:
        if isinstance(error, torch.OutOfMemoryError) or "allocate memory" in str(error):
            raise MemoryError(str(error)) from error
        raise UnusableWeightsError(f"{what}: {str(error)[:500]}") from error


def _prove(model: Any) -> None:
    """A prompt and a step beside another prompt: a model of another build (recurrent, say) fails here, not later."""
    try:
        with torch.inference_mode():
            forward, shelves = flat.Forward(model), Shelves()
            piece = flat.Piece([0, 0], 0, Block(1, 2))
            first = forward.step(shelves, [piece])
            shelves.put(Row(_First, 2), piece.block)
            second = forward.step(shelves, [flat.Piece([0, 0], 0, Block(1, 2))])
            finite = bool(torch.isfinite(first.logits).all() and torch.isfinite(second.logits).all())
    except (RuntimeError, TypeError, ValueError, AttributeError, IndexError, AssertionError) as error:
        raise UnusableWeightsError(f"this kind of model cannot be served in batches: {error!r}"[:500]) from error
    if second.layers != model.config.get_text_config().num_hidden_layers:
        raise UnusableWeightsError("this kind of model has layers that are not attention: it cannot be served")
    if not finite:
        raise UnusableWeightsError("the base model's answer is not made of finite numbers")


class _First:
    """The sequence that proves a model."""

    last_token = 0


def _end_tokens(model: Any, tokenizer: Any) -> frozenset[int]:
    ends = model.generation_config.eos_token_id
    ends = ends if isinstance(ends, list) else [ends]
    return frozenset(token for token in (*ends, tokenizer.eos_token_id) if token is not None)
