"""Text classifiers: one pass, no tokens to draw. Whole folders of transformers' sequence classification."""

from __future__ import annotations

import inspect
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from services.inference import heads
from services.inference.engine import PromptError
from services.inference.loading import architectures
from services.inference.turns import Turns

ENDING = "ForSequenceClassification"
BATCH = 16  # texts of one pass


class Classifier:
    """`adapter`: a PEFT folder that makes a classifier of the base, with its labels in `sskai.json`; it is merged.
    `waiting`: so many calls may wait for the one that computes. Raises what from_pretrained raises."""

    def __init__(self, folder: Path, device: str, waiting: int, adapter: Path | None = None) -> None:
        self._tokenizer: Any = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
        self._model, self.labels = heads.load(AutoModelForSequenceClassification, folder, adapter, device)
        self._arguments = set(inspect.signature(self._model.forward).parameters)
        config = self._model.config
        if self._tokenizer.pad_token_id is None:
            self._tokenizer.pad_token = self._tokenizer.eos_token
        # A causal model reads its answer off the last token that is no padding.
        config.pad_token_id = self._tokenizer.pad_token_id
        self._context = int(getattr(config.get_text_config(), "max_position_embeddings", 512))
        self._turns = Turns(waiting)
        if not all(math.isfinite(number) for row in self.classify(["a"]) for number in row):
            raise ValueError("the model's answer is not made of finite numbers")

    @staticmethod
    def is_one(folder: Path) -> bool:
        """By the architecture that its config names."""
        return any(name.endswith(ENDING) for name in architectures(folder))

    def classify(self, texts: Sequence[str]) -> list[list[float]]:
        """Each text's probability by label. Blocks. Raises PromptError, OverloadedError."""
        with self._turns.mine(), torch.inference_mode():
            starts = range(0, len(texts), BATCH)
            return [row for start in starts for row in self._batch(texts[start : start + BATCH])]

    def _batch(self, texts: Sequence[str]) -> list[list[float]]:
        encoded = self._tokenizer(list(texts), return_tensors="pt", padding=True).to(self._model.device)
        if encoded["input_ids"].shape[1] > self._context:
            raise PromptError(f"a text is longer than the model's {self._context} tokens: shorten it")
        given = {name: part for name, part in encoded.items() if name in self._arguments}
        rows: list[list[float]] = torch.softmax(self._model(**given).logits.float(), dim=-1).tolist()
        return rows
