"""The engine that runs anywhere: transformers' models in this process, several LoRA adapters on each base."""

from __future__ import annotations

import math
import threading
from collections.abc import Iterator, Sequence
from collections.abc import Set as AbstractSet
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import structlog
import torch
from jinja2 import TemplateError
from safetensors import SafetensorError
from transformers import AutoModelForCausalLM, AutoTokenizer
from transformers.utils import logging as transformers_logging

from services.inference import flat, packed
from services.inference.caches import Block, Row, Shelves
from services.inference.classifier import Classifier
from services.inference.engine import (
    Generation,
    NotLoadedError,
    Occupancy,
    PromptError,
    Sampling,
    UnusableWeightsError,
)
from services.inference.grammar import Grammars
from services.inference.lora import Adapter, AdapterBank
from services.inference.runner import Limits, Runner

log = structlog.get_logger()


@dataclass(eq=False)
class Base:
    """A loaded foundation model with its adapters. `tokenizing`: fast tokenizers refuse two threads at once."""

    runner: Runner
    bank: AdapterBank
    tokenizer: Any
    grammars: Grammars
    tokenizing: threading.Lock
    context_tokens: int
    adapters: dict[str, Adapter] = field(default_factory=dict)


class TransformersEngine:
    """See `engine.Engine`. `device` "auto": a CUDA device where there is one. Weights are fp32 on a CPU, else bf16."""

    def __init__(self, *, limits: Limits, max_context_tokens: int, threads: int, device: str = "auto") -> None:
        self._limits = limits
        self._max_context_tokens = max_context_tokens
        self._device = ("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device
        self._bases: dict[str, Base] = {}
        self._classifiers: dict[str, Classifier] = {}
        torch.set_num_threads(threads)
        transformers_logging.disable_progress_bar()

    def load_base(self, base: str, folder: Path) -> None:
        if base in self._bases or base in self._classifiers:
            return
        with _as_unusable("the model cannot be loaded"):
            if Classifier.is_one(folder):
                self._classifiers[base] = Classifier(folder, self._device, self._limits.waiting)
                return
            tokenizer, model = self._read(folder)
        bank = AdapterBank(model)
        _prove(model)
        config = model.config.get_text_config()
        tokenizing = threading.Lock()

        def decode(tokens: Sequence[int]) -> str:
            with tokenizing:
                text: str = tokenizer.decode(tokens, skip_special_tokens=True, clean_up_tokenization_spaces=False)
            return text

        ends = _end_tokens(model, tokenizer)
        grammars = Grammars(tokenizer, int(config.vocab_size), sorted(ends))
        runner = Runner(base, model, bank, decode, grammars, end_tokens=ends, limits=self._limits)
        context = min(int(getattr(config, "max_position_embeddings", math.inf)), self._max_context_tokens)
        self._bases[base] = Base(runner, bank, tokenizer, grammars, tokenizing, context)

    def load_classifier(self, name: str, folder: Path, adapter: Path) -> None:
        if name not in self._classifiers:
            with _as_unusable("the classifier cannot be loaded"):
                self._classifiers[name] = Classifier(folder, self._device, self._limits.waiting, adapter)

    def _read(self, folder: Path) -> tuple[Any, Any]:
        # Nothing in the folder may run, and nothing may be fetched from elsewhere.
        safe = {"local_files_only": True, "trust_remote_code": False}
        dtype = torch.float32 if self._device == "cpu" else torch.bfloat16
        tokenizer = AutoTokenizer.from_pretrained(folder, **safe)
        model = AutoModelForCausalLM.from_pretrained(
            folder, dtype=dtype, use_safetensors=True, attn_implementation=flat.NAME, **safe
        )
        model = model.to(self._device).eval()
        packed.pack(model)
        return tokenizer, model

    def attach_adapter(self, base: str, adapter: str, folder: Path) -> None:
        loaded = self._loaded(base)
        if adapter not in loaded.adapters:
            loaded.adapters[adapter] = loaded.bank.read(folder)

    def retain(self, used: AbstractSet[tuple[str, str]]) -> None:
        bases = {base for base, _ in used}
        for name in [name for name in self._bases if name not in bases]:
            self._bases.pop(name).runner.stop(drain=True)
        self._classifiers = {name: kept for name, kept in self._classifiers.items() if name in bases}
        for name, base in self._bases.items():
            # Answers under way hold their adapter themselves; its memory goes with the last of them.
            base.adapters = {adapter: kept for adapter, kept in base.adapters.items() if (name, adapter) in used}

    def encode_chat(self, base: str, messages: Sequence[dict[str, str]]) -> list[int]:
        loaded = self._loaded(base)
        if not loaded.tokenizer.chat_template:
            raise PromptError("this model has no chat template: use /v1/completions")
        try:
            with loaded.tokenizing:
                text = loaded.tokenizer.apply_chat_template(list(messages), tokenize=False, add_generation_prompt=True)
                tokens: list[int] = loaded.tokenizer(text, add_special_tokens=False)["input_ids"]
        except (TemplateError, ValueError, TypeError) as error:
            raise PromptError(f"the model's chat template refuses these messages: {error}") from error
        return tokens

    def encode_text(self, base: str, text: str) -> list[int]:
        loaded = self._loaded(base)
        with loaded.tokenizing:
            tokens: list[int] = loaded.tokenizer(text)["input_ids"]
        return tokens

    def context_tokens(self, base: str) -> int:
        return self._loaded(base).context_tokens

    def check_schema(self, base: str, schema: str) -> None:
        self._loaded(base).grammars.start(schema)

    def generate(
        self, base: str, adapter: str | None, tokens: Sequence[int], sampling: Sampling, copies: int = 1
    ) -> list[Generation]:
        return self._loaded(base).runner.submit(tokens, self._chosen(base, adapter), sampling, copies)

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
            self._loaded(base)
            return ()
        return classifier.labels

    def classify(self, base: str, texts: Sequence[str]) -> list[list[float]]:
        classifier = self._classifiers.get(base)
        if classifier is None:
            self._loaded(base)
            raise PromptError("this model is no classifier: use /v1/chat/completions")
        return classifier.classify(texts)

    def occupancy(self) -> Occupancy:
        counts = [base.runner.occupancy() for base in list(self._bases.values())]
        return Occupancy(sum(active for active, _ in counts), sum(waiting for _, waiting in counts))

    def close(self) -> None:
        bases, self._bases = self._bases, {}
        for base in bases.values():
            base.runner.stop(drain=False)
        for base in bases.values():
            base.runner.join(limit_seconds=2)

    def _loaded(self, base: str) -> Base:
        if base in self._classifiers:
            raise PromptError("this model is a classifier: use /v2/models/NAME/infer")
        try:
            return self._bases[base]
        except KeyError:
            raise NotLoadedError(f"the base model {base} is not loaded") from None


@contextmanager
def _as_unusable(what: str) -> Iterator[None]:
    try:
        yield
    except (OSError, ValueError, KeyError, RuntimeError, ImportError, SafetensorError) as error:
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
