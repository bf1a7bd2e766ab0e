"""Transformers models as tasks: a causal language model, a classifier or preferences, by an adapter or as a whole."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from peft import LoraConfig, get_peft_model

from services.trainer import products
from services.trainer.classes import NamesClasses, classes
from services.trainer.datasets import IGNORED, LabelledRow, PreferenceRow, Row
from services.trainer.device import autocast
from services.trainer.domain import WHOLE, Recipe, TrainingFailedError
from services.trainer.randomness import seed_all
from services.trainer.sharding import is_sharded
from services.trainer.weights import AdapterWeights, FullWeights, Weights

# Those whose logits are their head on their last hidden states and nothing else, so that only what is learnt need be
# computed. Others scale, cap or divide their logits.
PLAIN_HEADS = frozenset({"llama", "mistral", "qwen2", "qwen3", "smollm3"})
# Of the logits' norm: bfloat16 rounds to 1/256, and a few tokens of another row are far more.
PARTS_TOLERANCE = 0.05


@dataclass(frozen=True, slots=True)
class Base:
    """A transformers folder in memory."""

    model: Any
    tokenizer: Any
    folder: Path
    device: torch.device
    pad_token: int

    @classmethod
    def without_tokenizer(cls, model: Any) -> Base:
        """A model that comes from no folder, on the CPU."""
        return cls(model, None, Path(), torch.device("cpu"), 0)


def load_base(
    folder: Path,
    device: torch.device,
    *,
    method: str = "lora",
    labels: Sequence[str] = (),
    seed: int = 0,
    place: bool = True,
) -> Base:
    """A transformers folder: safetensors only, no code of the model's own, nothing fetched.

    float32 on a CPU; on a GPU bfloat16 under an adapter (itself float32), and float32 for full fine-tuning, computed in
    bfloat16. `labels`: a classifier of these. `place` False: it stays in the machine's memory, where it is split.
    Raises TrainingFailedError("user-error").
    """
    from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer
    from transformers.utils import logging as transformers_logging

    transformers_logging.disable_progress_bar()
    local: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}
    given: dict[str, Any] = {"use_safetensors": True, "dtype": _type_of_weights(device, method), **local}
    if method == "qlora":
        given |= _four_bits(device)
    if labels:
        # A new head is drawn from the generators: the same one for the same seed.
        seed_all(seed)
        given |= {**classes(labels), "ignore_mismatched_sizes": True}
    kind = AutoModelForSequenceClassification if labels else AutoModelForCausalLM
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, **local)
        if method == "scratch":
            seed_all(seed)
            config = AutoConfig.from_pretrained(folder, **local, **(classes(labels) if labels else {}))
            model = kind.from_config(config, dtype=torch.float32)
        else:
            model = kind.from_pretrained(folder, **given)
    except (OSError, ValueError, KeyError) as error:
        raise TrainingFailedError("user-error", f"model: {folder.name} cannot be loaded: {error}") from error
    model.config.use_cache = False
    pad_token = int(tokenizer.eos_token_id if tokenizer.pad_token_id is None else tokenizer.pad_token_id)
    if labels and model.config.pad_token_id is None:
        model.config.pad_token_id = pad_token
    return Base(model if method == "qlora" or not place else model.to(device), tokenizer, folder, device, pad_token)


class LanguageModel:
    """Predicts the learnt tokens of rows."""

    def __init__(self, base: Base, recipe: Recipe, base_name: str, training: Sequence[Row], held_out: Sequence[Row]):
        self.training, self.held_out = training, held_out
        self.model, self.weights = learning(base, recipe, base_name, task_type="CAUSAL_LM")
        self._device = base.device
        self._pad_token = base.pad_token
        self._autocast = autocast(base.device, recipe.precision)
        self._plain_head = base.model.config.model_type in PLAIN_HEADS
        self._base = base.model

    def loss(self, samples: Sequence[Row]) -> torch.Tensor:
        """Summed cross entropy of every target, float32."""
        tokens, mask, positions, labels = padded(samples, self._pad_token)
        with self._autocast():
            logits, expected = self._predicted(tokens, mask, positions, labels)
        return torch.nn.functional.cross_entropy(logits.float(), expected, ignore_index=IGNORED, reduction="sum")

    def targets(self, samples: Sequence[Row]) -> int:
        return sum(row.targets for row in samples)

    def tokens(self, samples: Sequence[Row]) -> int:
        return sum(len(row.tokens) for row in samples)

    def names(self, samples: Sequence[Row]) -> str:
        return f"rows {', '.join(str(number) for row in samples for number in row.numbers)}"

    def _predicted(
        self, tokens: torch.Tensor, mask: torch.Tensor | None, positions: torch.Tensor | None, labels: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """(logits, expected tokens) of the targets, where the head allows it, else of all."""
        given = {"input_ids": tokens.to(self._device)}
        if mask is not None:
            given["attention_mask"] = mask.to(self._device)
        if positions is not None:
            given["position_ids"] = positions.to(self._device)
        expected = labels[:, 1:]
        # The parts of a model are brought together where its root is entered: nothing may be called past it.
        if not self._plain_head or is_sharded(self.model):
            logits = self.model(**given).logits[:, :-1]
            return logits.reshape(-1, logits.shape[-1]), expected.reshape(-1).to(self._device)
        hidden = self._base.model(**given).last_hidden_state[:, :-1]
        learnt = (expected != IGNORED).reshape(-1).nonzero().squeeze(1)
        chosen = hidden.reshape(-1, hidden.shape[-1]).index_select(0, learnt.to(self._device))
        return self._base.lm_head(chosen), expected.reshape(-1)[learnt].to(self._device)


class Classifier(NamesClasses[LabelledRow]):
    """Names the class of a text."""

    def __init__(
        self,
        base: Base,
        recipe: Recipe,
        base_name: str,
        training: Sequence[LabelledRow],
        held_out: Sequence[LabelledRow],
    ):
        self.training, self.held_out = training, held_out
        self.model, self.weights = learning(base, recipe, base_name, task_type="SEQ_CLS")
        self._device = base.device
        self._pad_token = base.pad_token
        self._autocast = autocast(base.device, recipe.precision)

    def scores(self, samples: Sequence[LabelledRow]) -> torch.Tensor:
        tokens, mask, _, _ = padded(samples, self._pad_token)
        with self._autocast():
            logits: torch.Tensor = self.model(
                input_ids=tokens.to(self._device), attention_mask=_on(mask, self._device)
            ).logits
        return logits

    def tokens(self, samples: Sequence[LabelledRow]) -> int:
        return sum(len(row.tokens) for row in samples)

    def names(self, samples: Sequence[LabelledRow]) -> str:
        return f"rows {', '.join(str(row.number) for row in samples)}"


class Preferences:
    """Prefers the chosen answer: Direct Preference Optimization (Rafailov et al. 2023, equation 7).

    trl's trainer owns its loop, and resuming exactly needs ours; `tests/trainer/test_preferences.py` holds this loss to
    trl's own.
    """

    def __init__(
        self,
        base: Base,
        recipe: Recipe,
        base_name: str,
        training: Sequence[PreferenceRow],
        held_out: Sequence[PreferenceRow],
    ):
        self.training, self.held_out = training, held_out
        # Under an adapter the reference is the model without it; else a copy, which nothing changes.
        self._reference = None if recipe.rank else _frozen_copy(base)
        self.model, self.weights = learning(base, recipe, base_name, task_type="CAUSAL_LM")
        self._device = base.device
        self._pad_token = base.pad_token
        self._autocast = autocast(base.device, recipe.precision)
        self._beta = recipe.dpo_beta

    def loss(self, samples: Sequence[PreferenceRow]) -> torch.Tensor:
        both = [row.chosen for row in samples] + [row.rejected for row in samples]
        policy = self._log_probabilities(self.model, both)
        with torch.no_grad():
            if self._reference is not None:
                reference = self._log_probabilities(self._reference, both)
            else:
                with self.model.disable_adapter():
                    reference = self._log_probabilities(self.model, both)
        gained = policy - reference
        count = len(samples)
        return -torch.nn.functional.logsigmoid(self._beta * (gained[:count] - gained[count:])).sum()

    def targets(self, samples: Sequence[PreferenceRow]) -> int:
        return len(samples)

    def tokens(self, samples: Sequence[PreferenceRow]) -> int:
        return sum(len(row.chosen.tokens) + len(row.rejected.tokens) for row in samples)

    def names(self, samples: Sequence[PreferenceRow]) -> str:
        return f"rows {', '.join(str(row.number) for row in samples)}"

    def _log_probabilities(self, model: Any, rows: Sequence[Row]) -> torch.Tensor:
        """float32 (rows,): of each row's learnt tokens together, nats."""
        tokens, mask, _, labels = padded(rows, self._pad_token)
        with self._autocast():
            logits = model(input_ids=tokens.to(self._device), attention_mask=_on(mask, self._device)).logits
        expected = labels[:, 1:].to(self._device)
        each = torch.nn.functional.cross_entropy(
            logits[:, :-1].float().transpose(1, 2), expected, ignore_index=IGNORED, reduction="none"
        )
        return -each.sum(dim=1)


def padded(
    rows: Sequence[Row | LabelledRow], pad_token_id: int
) -> tuple[torch.Tensor, torch.Tensor | None, torch.Tensor | None, torch.Tensor]:
    """(tokens, mask, positions, labels), int64 (rows, longest).

    Rows of which any is packed (several of the dataset's in one) have positions and no mask: each part begins at 0, and
    transformers keeps parts from seeing one another by that.
    """
    width = max(len(row.tokens) for row in rows)
    tokens = np.full((len(rows), width), pad_token_id, dtype=np.int64)
    labels = np.full((len(rows), width), IGNORED, dtype=np.int64)
    mask = np.zeros((len(rows), width), dtype=np.int64)
    positions = np.zeros((len(rows), width), dtype=np.int64)
    packed = any(isinstance(row, Row) and row.positions is not None for row in rows)
    for index, row in enumerate(rows):
        length = len(row.tokens)
        tokens[index, :length] = row.tokens
        mask[index, :length] = 1
        if isinstance(row, Row):
            labels[index, :length] = row.labels()
            if packed:
                positions[index, :length] = np.arange(length) if row.positions is None else row.positions
                positions[index, length:] = np.arange(width - length)
    return (
        torch.from_numpy(tokens),
        None if packed else torch.from_numpy(mask),
        torch.from_numpy(positions) if packed else None,
        torch.from_numpy(labels),
    )


def require_parts_apart(base: Base) -> None:
    """Whether the model tells rows in one sequence apart by their positions, as almost all of transformers' do.

    Raises TrainingFailedError("user-error").
    """
    parts = ([1, 2, 3, 4], [3, 4, 2])
    positions = torch.tensor([[index for part in parts for index in range(len(part))]], device=base.device)
    base.model.eval()
    with torch.no_grad():
        together = base.model(
            input_ids=torch.tensor([[token for part in parts for token in part]], device=base.device),
            position_ids=positions,
        ).logits[0]
        alone = torch.cat([base.model(input_ids=torch.tensor([part], device=base.device)).logits[0] for part in parts])
        # What leaks from one part into the other changes all of its logits; rounding changes their last digits.
        leaked = (together - alone).norm() / alone.norm()
    if not leaked < PARTS_TOLERANCE:
        raise TrainingFailedError(
            "user-error",
            f"hyperparameters.packing: a model of type {base.model.config.model_type} does not keep rows in one "
            "sequence apart: write packing: false",
        )


def learning(base: Base, recipe: Recipe, base_name: str, **adapter: Any) -> tuple[Any, Weights]:
    """The model with what of it learns, and how that is kept. `adapter`: more for peft's configuration.

    Raises TrainingFailedError("user-error").
    """
    seed_all(recipe.seed)
    if recipe.rank:
        model = _adapted(base, recipe, base_name, adapter)
        weights: Weights = AdapterWeights(model, base.device)
    else:
        model = base.model
        stored = torch.float32 if base.device.type == "cpu" else torch.bfloat16
        weights = FullWeights(model, base.folder, stored)
    if recipe.gradient_checkpointing:
        # Not the reentrant kind, which needs an input with a gradient: a frozen base has none.
        try:
            model.activation_checkpointing_enable({"use_reentrant": False})
        except ValueError as error:
            raise TrainingFailedError("user-error", f"hyperparameters.gradient_checkpointing: {error}") from error
    products.quicken(model)
    return model, weights


def _adapted(base: Base, recipe: Recipe, base_name: str, more: dict[str, Any]) -> Any:
    model = base.model
    if recipe.method == "qlora":
        from peft import prepare_model_for_kbit_training

        model = prepare_model_for_kbit_training(model, use_gradient_checkpointing=False)
    given = {
        "r": recipe.rank,
        "lora_alpha": recipe.alpha,
        "lora_dropout": recipe.dropout,
        "use_dora": recipe.dora,
        "use_rslora": recipe.rslora,
        "target_modules": list(recipe.target_modules) or "all-linear",
        "bias": "none",
    }
    config = LoraConfig(**(given | more))
    adapted: Any = get_peft_model(model, config)
    adapted.peft_config["default"].base_model_name_or_path = base_name
    return adapted


def _frozen_copy(base: Base) -> Any:
    import copy

    return copy.deepcopy(base.model).requires_grad_(requires_grad=False).eval().to(base.device)


def _type_of_weights(device: torch.device, method: str) -> torch.dtype:
    if device.type == "cpu" or method in WHOLE:
        return torch.float32
    return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float16


def _four_bits(device: torch.device) -> dict[str, Any]:
    if device.type != "cuda":
        raise TrainingFailedError(
            "user-error",
            "model.method: qlora keeps its base in 4 bits, which bitsandbytes does on GPUs alone: ask for one "
            "(resources.accelerators), or write method: lora",
        )
    from transformers import BitsAndBytesConfig

    return {
        "quantization_config": BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type="nf4",
            bnb_4bit_use_double_quant=True,
            bnb_4bit_compute_dtype=torch.bfloat16,
        ),
        "device_map": {"": torch.cuda.current_device()},
    }


def _on(tensor: torch.Tensor | None, device: torch.device) -> torch.Tensor | None:
    return None if tensor is None else tensor.to(device)


def versions() -> dict[str, str]:
    """What a checkpoint was written by: exactness is promised for the same ones."""
    import peft
    import transformers

    return {"torch": torch.__version__, "transformers": transformers.__version__, "peft": peft.__version__}
