"""LoRA on a causal language model: the model, one optimizer step, evaluation, and the exact state between two steps.

On a CPU everything is deterministic: same recipe, same rows, same number of threads, same kind of processor give the
same bits. A snapshot holds all that the next step depends on, so a resumed run's losses equal the uninterrupted run's.
"""

from __future__ import annotations

import json
import os
import random
import resource
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# Deterministic cuBLAS needs it before CUDA starts: https://docs.nvidia.com/cuda/cublas/#results-reproducibility
os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")

import numpy as np
import torch
from peft import LoraConfig, get_peft_model, get_peft_model_state_dict, set_peft_model_state_dict
from safetensors.torch import load_file, save_file

from services.trainer.datasets import IGNORED, Row
from services.trainer.domain import Recipe, TrainingFailedError

Tensors = dict[str, torch.Tensor]
# Entered around work that may be dropped at any point; raises when it has to be.
Stoppable = Callable[[], AbstractContextManager[None]]

ADAPTER = "adapter_model.safetensors"
ADAPTER_CONFIG = "adapter_config.json"
OPTIMIZER = "optimizer.safetensors"
RANDOM = "random.safetensors"
STATE = "state.json"
CURVE = "losses.jsonl"
PYTORCH_METADATA = {"format": "pt"}
BETAS = (0.9, 0.999)
EPSILON = 1e-8


def device_of_this_machine() -> torch.device:
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def make_deterministic(threads: int) -> None:
    """Sums are split by thread, so the number of threads is part of the result."""
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(True)
    torch.backends.cudnn.benchmark = False


def load_base(folder: Path, device: torch.device) -> tuple[Any, Any]:
    """(model, tokenizer) of a transformers folder: safetensors only, no code of the model's own, nothing fetched.

    float32 on a CPU, bfloat16 on a GPU (the adapter is float32 on both). Raises TrainingFailedError("user-error").
    """
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from transformers.utils import logging as transformers_logging

    transformers_logging.disable_progress_bar()
    local: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, **local)
        model = AutoModelForCausalLM.from_pretrained(
            folder, use_safetensors=True, dtype=torch.float32 if device.type == "cpu" else torch.bfloat16, **local
        )
    except (OSError, ValueError, KeyError) as error:
        raise TrainingFailedError("user-error", f"model: {folder.name} cannot be loaded: {error}") from error
    model.config.use_cache = False
    return model.to(device), tokenizer


@dataclass(frozen=True, slots=True)
class Step:
    """`loss`: mean over the targets, nats; `tokens`: all that were read."""

    loss: float
    tokens: int


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A copy, in memory, of everything between two steps. `state` is JSON; `curve` one line of JSON per step."""

    step: int
    adapter: Tensors
    adapter_config: bytes
    optimizer: Tensors
    random: Tensors
    state: Mapping[str, Any]
    curve: bytes

    def write(self, folder: Path) -> None:
        """Files of safetensors and JSON; the adapter's are PEFT's own, so that a checkpoint is a usable model."""
        folder.mkdir(parents=True, exist_ok=True)
        save_file(self.adapter, folder / ADAPTER, metadata=PYTORCH_METADATA)
        save_file(self.optimizer, folder / OPTIMIZER, metadata=PYTORCH_METADATA)
        save_file(self.random, folder / RANDOM, metadata=PYTORCH_METADATA)
        (folder / ADAPTER_CONFIG).write_bytes(self.adapter_config)
        (folder / STATE).write_text(json.dumps(self.state, indent=1))
        (folder / CURVE).write_bytes(self.curve)


def read_state(folder: Path) -> dict[str, Any]:
    """The JSON half of a snapshot's state."""
    state: dict[str, Any] = json.loads((folder / STATE).read_text())
    return state


class FineTuning:
    """A base model with an adapter that learns. `step` counts what is done."""

    def __init__(self, base: Any, base_name: str, recipe: Recipe, device: torch.device, pad_token: int) -> None:
        self.recipe = recipe
        self.step = 0
        self._device = device
        self._pad_token = pad_token
        _seed(recipe.seed)
        config = LoraConfig(
            r=recipe.rank,
            lora_alpha=recipe.alpha,
            lora_dropout=recipe.dropout,
            target_modules=list(recipe.target_modules) or "all-linear",
            bias="none",
            task_type="CAUSAL_LM",
        )
        self._model: Any = get_peft_model(base, config)
        self._model.peft_config["default"].base_model_name_or_path = base_name
        if recipe.gradient_checkpointing:
            # Not the reentrant kind, which needs an input with a gradient: a frozen base has none.
            self._model.activation_checkpointing_enable({"use_reentrant": False})
        self._trainable = {name: it for name, it in self._model.named_parameters() if it.requires_grad}
        self._optimizer = torch.optim.AdamW(
            self._trainable.values(), lr=0.0, betas=BETAS, eps=EPSILON, weight_decay=recipe.weight_decay
        )
        self._random = _random_state(device)

    def learn(self, rows: Sequence[Row], learning_rate: float, stoppable: Stoppable) -> Step:
        """One optimizer step on `rows`, a micro-batch at a time, each inside `stoppable()`, which may raise: then
        nothing but gradients has changed. Raises TrainingFailedError("nan-loss")."""
        self._model.train()
        self._optimizer.zero_grad(set_to_none=True)
        targets = sum(row.targets for row in rows)
        loss = 0.0
        for micro in self._micro_batches(rows):
            with stoppable():
                micro_loss = self._loss(micro) / targets
                value = micro_loss.item()
                if not np.isfinite(value):
                    raise _not_finite(f"step {self.step + 1}: the loss is {value}", micro, self.recipe)
                micro_loss.backward()
            loss += value
        norm = torch.nn.utils.clip_grad_norm_(self._trainable.values(), self.recipe.max_gradient_norm)
        if not torch.isfinite(norm):
            raise _not_finite(f"step {self.step + 1}: the gradient's norm is {norm.item()}", rows, self.recipe)
        for group in self._optimizer.param_groups:
            group["lr"] = learning_rate
        self._optimizer.step()
        self.step += 1
        self._random = _random_state(self._device)
        return Step(loss, sum(len(row.tokens) for row in rows))

    def evaluate(self, rows: Sequence[Row], stoppable: Stoppable) -> float:
        """Mean loss over the targets of all rows, nats; draws nothing from any generator."""
        self._model.eval()
        total = 0.0
        for micro in self._micro_batches(rows):
            with stoppable(), torch.no_grad():
                total += self._loss(micro).item()
        return total / sum(row.targets for row in rows)

    def snapshot(self, state: Mapping[str, Any], curve: bytes) -> Snapshot:
        """Copy what the next step depends on. Between two steps only, or after `learn` was stopped."""
        optimizer: Tensors = {}
        for name, parameter in self._trainable.items():
            for key, value in self._optimizer.state.get(parameter, {}).items():
                optimizer[f"{name}.{key}"] = value.detach().to("cpu", copy=True)
        return Snapshot(
            step=self.step,
            adapter=self.adapter(),
            adapter_config=self.adapter_config(),
            optimizer=optimizer,
            random=dict(self._random.tensors),
            state={**state, "step": self.step, "recipe": self.recipe.to_json(), "random": self._random.json},
            curve=curve,
        )

    def restore(self, folder: Path) -> None:
        """The opposite of `snapshot` and `write`."""
        state = read_state(folder)
        set_peft_model_state_dict(self._model, load_file(folder / ADAPTER, device=str(self._device)))
        saved = load_file(folder / OPTIMIZER)
        for name, parameter in self._trainable.items():
            moments = {
                key: saved[f"{name}.{key}"] for key in ("step", "exp_avg", "exp_avg_sq") if f"{name}.{key}" in saved
            }
            # AdamW counts its steps in a tensor that stays on the CPU.
            self._optimizer.state[parameter] = {
                key: value if key == "step" else value.to(self._device) for key, value in moments.items()
            }
        self.step = int(state["step"])
        self._random = _RandomState(load_file(folder / RANDOM), state["random"])
        self._random.restore(self._device)

    def peak_memory_bytes(self) -> int:
        """The most that was held at once: of the GPU's memory on a GPU, else resident on this machine."""
        if self._device.type == "cuda":
            return int(torch.cuda.max_memory_allocated(self._device))
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024  # Linux tells it in KiB

    def write_adapter(self, folder: Path) -> None:
        """The adapter alone, as PEFT's two files."""
        folder.mkdir(parents=True, exist_ok=True)
        save_file(self.adapter(), folder / ADAPTER, metadata=PYTORCH_METADATA)
        (folder / ADAPTER_CONFIG).write_bytes(self.adapter_config())

    def adapter(self) -> Tensors:
        """A copy of the adapter's weights under PEFT's names, float32."""
        weights = get_peft_model_state_dict(self._model, save_embedding_layers=False)
        return {
            name: value.detach().to("cpu", torch.float32, copy=True).contiguous() for name, value in weights.items()
        }

    def adapter_config(self) -> bytes:
        """PEFT's `adapter_config.json`."""
        config = {**self._model.peft_config["default"].to_dict(), "inference_mode": True}
        return json.dumps(config, indent=2, sort_keys=True, default=_plain).encode()

    def _micro_batches(self, rows: Sequence[Row]) -> Iterable[Sequence[Row]]:
        size = self.recipe.micro_batch_size
        return (rows[start : start + size] for start in range(0, len(rows), size))

    def _loss(self, rows: Sequence[Row]) -> torch.Tensor:
        """Summed cross entropy of every target, float32."""
        width = max(len(row.tokens) for row in rows)
        tokens = np.full((len(rows), width), self._pad_token, dtype=np.int64)
        labels = np.full((len(rows), width), IGNORED, dtype=np.int64)
        mask = np.zeros((len(rows), width), dtype=np.int64)
        for index, row in enumerate(rows):
            tokens[index, : len(row.tokens)] = row.tokens
            labels[index, : len(row.tokens)] = row.labels()
            mask[index, : len(row.tokens)] = 1
        logits = self._model(
            input_ids=torch.from_numpy(tokens).to(self._device),
            attention_mask=torch.from_numpy(mask).to(self._device),
        ).logits
        expected = torch.from_numpy(labels).to(self._device)[:, 1:]
        return torch.nn.functional.cross_entropy(
            logits[:, :-1].float().reshape(-1, logits.shape[-1]),
            expected.reshape(-1),
            ignore_index=IGNORED,
            reduction="sum",
        )


@dataclass(frozen=True, slots=True)
class _RandomState:
    """Every generator that a step may draw from: torch's as tensors, Python's and numpy's as JSON."""

    tensors: Tensors
    json: Mapping[str, Any]

    def restore(self, device: torch.device) -> None:
        torch.set_rng_state(self.tensors["torch"])
        if device.type == "cuda" and "cuda" in self.tensors:
            torch.cuda.set_rng_state(self.tensors["cuda"])
        version, words, gauss = self.json["python"]
        random.setstate((version, tuple(words), gauss))
        generator, words, *position = self.json["numpy"]
        np.random.set_state((generator, np.asarray(words, dtype=np.uint32), *position))


def _random_state(device: torch.device) -> _RandomState:
    tensors = {"torch": torch.get_rng_state()}
    if device.type == "cuda":
        tensors["cuda"] = torch.cuda.get_rng_state()
    generator, words, *position = np.random.get_state()
    return _RandomState(
        tensors, {"python": random.getstate(), "numpy": [generator, np.asarray(words).tolist(), *position]}
    )


def _seed(seed: int) -> None:
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)


def _not_finite(what: str, rows: Sequence[Row], recipe: Recipe) -> TrainingFailedError:
    numbers = ", ".join(str(row.number) for row in rows)
    return TrainingFailedError(
        "nan-loss",
        f"{what} on rows {numbers}; look at these rows, or lower the learning rate ({recipe.learning_rate:g})",
    )


def _plain(value: Any) -> Any:
    return sorted(value) if isinstance(value, set | frozenset) else str(value)


def is_out_of_memory(error: BaseException) -> bool:
    """CUDA has a class for it; the CPU's allocator has only its text."""
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or "can't allocate memory" in str(error)


def versions() -> dict[str, str]:
    """What a checkpoint was written by: exactness is promised for the same ones."""
    import peft
    import transformers

    return {"torch": torch.__version__, "transformers": transformers.__version__, "peft": peft.__version__}
