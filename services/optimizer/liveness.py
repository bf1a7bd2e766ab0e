"""Which bytes are alive at the worst moment of a training step, as a function of the micro-batch. Runs in the worker.

A step runs on fake tensors, which have shapes and no memory. Every storage's birth and death is noted, so that after
two runs with different micro-batches the bytes alive at each moment are known as a line in the micro-batch's size;
the worst moment of any micro-batch is the highest of these lines. A stack that repeats
itself after `period` layers is counted from a model of two and a model of three periods: their moments are matched, and
grow by the difference with every further one.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter
from torch.utils.flop_counter import (
    FlopCounterMode,
    sdpa_backward_flop_count,
    sdpa_flop_count,
)

Lines = list[list[float]]
Bytes = np.ndarray[Any, np.dtype[np.float64]]
Build = Callable[[int | None], Any]  # a training-ready model of so many layers (None: as configured), on fake tensors

# One sequence is a special case to some operators (a view instead of a copy), so lines are drawn through two others.
SAMPLED_BATCHES = (2, 3)
FEW = (2, 3)  # periods of layers of the models from which a stack is grown


def _attention_flops(query: Any, key: Any, value: Any, *_args: Any, **_kwargs: Any) -> int:
    return int(sdpa_flop_count(query, key, value))


def _attention_backward_flops(grad: Any, query: Any, key: Any, value: Any, *_args: Any, **_kwargs: Any) -> int:
    return int(sdpa_backward_flop_count(grad, query, key, value))


# The CPU's fused attention is not among torch's counted operators; its arithmetic is that of the others.
ATTENTION = {
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: _attention_flops,
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward: _attention_backward_flops,
}


@dataclass(frozen=True, slots=True)
class Timeline:
    """Bytes alive after each operator of one step, weights left out; `forward` operators come before the backward's."""

    with_gradients: Bytes
    without_gradients: Bytes
    forward: int


Pick = Callable[[Timeline], Bytes]


@dataclass(frozen=True, slots=True)
class Liveness:
    """`fresh`: lines [fixed bytes, bytes a sequence] of a step that starts without gradients; `accumulating`: of a
    later micro-batch, gradients left out. Bytes of weights are in neither."""

    fresh: Lines
    accumulating: Lines


class _Births(TorchDispatchMode):  # type: ignore[misc]  # torch is not typed here
    """Notes when storages come and go. Those that stood before (weights) are not counted."""

    def __init__(self, standing: set[int]) -> None:
        super().__init__()
        self.alive = 0
        self.history: list[int] = []
        self.born: dict[int, tuple[int, int]] = {}  # storage: (operator, bytes)
        self._standing = standing

    def __torch_dispatch__(self, func: Any, _types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        for tensor in tree_iter(out):
            if isinstance(tensor, torch.Tensor):
                storage = tensor.untyped_storage()
                key = storage._cdata
                if key not in self.born and key not in self._standing:
                    self.born[key] = (len(self.history), storage.nbytes())
                    self.alive += storage.nbytes()
                    weakref.finalize(storage, self._died, key)
        self.history.append(self.alive)
        return out

    def _died(self, key: int) -> None:
        self.alive -= self.born.pop(key)[1]


def timeline(model: Any, batch: int, length: int) -> Timeline:
    """One step of `batch` sequences, with the loss as the trainer computes it. Under a FakeTensorMode."""
    tokens, mask = _inputs(batch, length)
    return observed([*model.parameters(), *model.buffers()], lambda: _loss(model, tokens, mask))


def observed(standing: list[Any], loss: Callable[[], Any]) -> Timeline:
    """One step whose forward pass is `loss()`, on a model of these tensors."""
    births = _Births({tensor.untyped_storage()._cdata for tensor in standing})
    with births:
        told = loss()
        forward = len(births.history)
        told.backward()
    with_gradients = np.asarray(births.history, dtype=np.float64)
    gradients = np.zeros_like(with_gradients)
    for weight in standing:
        if weight.grad is not None:
            began, size = births.born.get(weight.grad.untyped_storage()._cdata, (None, 0))
            if began is not None:
                gradients[began:] += size
            weight.grad = None
    return Timeline(with_gradients, with_gradients - gradients, forward)


def flops(build: Build, layers: int, length: int, *, period: int) -> float:
    """Floating-point operations of one sequence, forward and backward (and what is computed again in between).

    A run of its own: the counter's hooks keep tensors alive that a step would have let go.
    """
    few = [number * period for number in FEW]
    if period and layers > max(few):
        less, more = (_flops(build(number), length) for number in few)
        return less + (layers - few[0]) / period * (more - less)
    return _flops(build(None), length)


def _flops(model: Any, length: int) -> float:
    counter = FlopCounterMode(display=False, custom_mapping=ATTENTION)
    with counter:
        _loss(model, *_inputs(SAMPLED_BATCHES[0], length)).backward()
    return float(counter.get_total_flops()) / SAMPLED_BATCHES[0]


def _inputs(batch: int, length: int) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.zeros((batch, length), dtype=torch.long), torch.ones((batch, length), dtype=torch.long)


def _loss(model: Any, tokens: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """As the trainer computes it: summed cross entropy on float32 logits, of tokens or (two dimensions) of classes."""
    logits = model(input_ids=tokens, attention_mask=mask, use_cache=False).logits
    if logits.dim() == 2:
        return torch.nn.functional.cross_entropy(logits.float(), tokens[:, 0], reduction="sum")
    return torch.nn.functional.cross_entropy(
        logits[:, :-1].float().reshape(-1, logits.shape[-1]), tokens[:, 1:].reshape(-1), reduction="sum"
    )


def measure(build: Build, layers: int, length: int, *, period: int) -> Liveness:
    """The worst moments of a step of `layers` layers on sequences of `length` tokens.

    `period`: after how many layers the stack repeats itself; 0: it does not, and is counted whole.
    """
    few = [number * period for number in FEW]
    if period and layers > max(few):
        less, more = ([timeline(model, batch, length) for batch in SAMPLED_BATCHES] for model in map(build, few))
        return _liveness(lambda pick: _grown(pick, less, more, (layers - few[0]) / period))
    whole = build(None)
    runs = [timeline(whole, batch, length) for batch in SAMPLED_BATCHES]
    return _liveness(lambda pick: [pick(run) for run in runs])


def _grown(pick: Pick, less: list[Timeline], more: list[Timeline], further: float) -> list[Bytes]:
    """Each moment of the smaller model's step, grown by so many further periods of layers.

    Halves of the forward and of the backward are matched from their beginning and from their end: what lies k layers
    from either end of the stack grows by the same bytes with every layer in between.
    """
    grown = []
    for small, large in zip(less, more, strict=True):
        parts = []
        for small_part, large_part in zip(
            np.split(pick(small), [small.forward]), np.split(pick(large), [large.forward]), strict=True
        ):
            middle = len(small_part) // 2
            matched = np.concatenate([large_part[:middle], large_part[len(large_part) - len(small_part) + middle :]])
            parts.append(small_part + further * (matched - small_part))
        grown.append(np.concatenate(parts))
    return grown


def _liveness(bytes_of: Callable[[Pick], list[Bytes]]) -> Liveness:
    return Liveness(
        fresh=_highest(_per_sequence(*bytes_of(lambda run: run.with_gradients))),
        accumulating=_highest(_per_sequence(*bytes_of(lambda run: run.without_gradients))),
    )


def _per_sequence(smaller: Bytes, larger: Bytes) -> Bytes:
    """Rows (fixed, per sequence) from the bytes of the two sampled batches; of unlike many operators, their peaks."""
    if len(smaller) != len(larger):
        smaller, larger = smaller.max(keepdims=True), larger.max(keepdims=True)
    each = np.maximum((larger - smaller) / (SAMPLED_BATCHES[1] - SAMPLED_BATCHES[0]), 0.0)
    return np.stack([np.maximum(smaller - SAMPLED_BATCHES[0] * each, 0.0), each], axis=1)


def _highest(rows: np.ndarray[Any, Any]) -> Lines:
    """The rows that are the highest line for some micro-batch of one or more, steepest last."""
    kept: Lines = []
    for fixed, each in sorted(set(map(tuple, rows.tolist())), key=lambda row: (row[1], row[0])):
        if kept and kept[-1][1] == each:
            kept.pop()
        # A flatter line that is not higher even at one sequence never counts.
        while kept and kept[-1][0] + kept[-1][1] <= fixed + each:
            kept.pop()
        kept.append([fixed, each])
    return kept
