"""Low-rank adapters beside the linear layers of one base; each sequence of a step may use another one, or none.

y = W x + s B A x (Hu et al. 2021, arXiv:2106.09685), with s = alpha / r, or alpha / sqrt(r) for rsLoRA (Kalajdzievski
2023, arXiv:2312.03732); with DoRA (Liu et al. 2024, arXiv:2402.09353) y = g (W x + s B A x) + bias, where g is the
learnt length of each row of W + s B A over its length now. The files are PEFT's, and so are the numbers (a test
compares them). PEFT's own mixed batches put hooks on all layers anew at each step, which costs several times the step
of a small model; these hooks stay, and compute all adapters of the running sequences in two batched products.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional

from services.inference import domain
from services.inference.engine import UnusableWeightsError
from services.inference.packed import plain_weight

PREFIX = "base_model.model."  # PEFT's, before the layer's name in the base
DOWN, UP, MAGNITUDE = ".lora_A.weight", ".lora_B.weight", ".lora_magnitude_vector"
_numbers = itertools.count(1)


@dataclass(frozen=True, slots=True)
class Pair:
    """A (rank x in) and B (out x rank, scaled); `gain` (out): DoRA's g."""

    down: Tensor
    up: Tensor
    gain: Tensor | None = None

    @property
    def bytes(self) -> int:
        return sum(part.nbytes for part in (self.down, self.up, self.gain) if part is not None)


@dataclass(frozen=True, eq=False, slots=True)
class Adapter:
    """`layers`: by the layer's name. `number`: never used again, so what is kept of an adapter can be named by it."""

    layers: dict[str, Pair]
    number: int = field(default_factory=lambda: next(_numbers))

    @property
    def bytes(self) -> int:
        return sum(pair.bytes for pair in self.layers.values())


@dataclass(frozen=True, slots=True)
class _Stack:
    """One layer of several adapters, padded to the largest rank: adapters x in x rank, adapters x rank x out."""

    down: Tensor
    up: Tensor
    gain: Tensor | None  # adapters x out


@dataclass(frozen=True, slots=True)
class _Mixture:
    """Which of the first rows of a step use which of several adapters.

    `chosen`: adapters x most rows of one adapter, row numbers, padded with any; `rows`: those that count, and `at`
    where they stand among the chosen ones; `adapters`: the adapter's place, for each of the rows.
    """

    adapters: Sequence[Adapter]
    stacks: dict[str, _Stack]
    chosen: Tensor
    rows: Tensor
    at: Tensor
    which: Tensor


class AdapterBank:
    """The layers of one model, ready for adapters. `select` says which tokens of the next step use which one."""

    def __init__(self, model: nn.Module) -> None:
        self._layers = {name: layer for name, layer in model.named_modules() if isinstance(layer, nn.Linear)}
        head = model.get_output_embeddings() if hasattr(model, "get_output_embeddings") else None
        self._head = next((name for name, layer in self._layers.items() if layer is head), "")
        self._spans: list[tuple[int, int, Adapter]] = []
        # The output layer sees of each piece only the token that is drawn from.
        self._head_spans: list[tuple[int, int, Adapter]] = []
        self._mixture: _Mixture | None = None
        self._stacked: tuple[Sequence[Adapter], dict[str, _Stack]] = ((), {})
        for name, layer in self._layers.items():
            layer.register_forward_hook(self._hook(name))

    def select(self, rows: Sequence[Adapter | None], pieces: Sequence[tuple[Adapter | None, int, bool]] = ()) -> None:
        """The adapters of the next step's first tokens, one each, and of the pieces of prompts that follow them, with
        their lengths and whether they are drawn from. A detached adapter works for whoever still holds it."""
        self._spans, self._mixture = [], None
        used = {adapter.number: adapter for adapter in rows if adapter is not None}
        if len(used) == 1 and all(rows):
            self._spans.append((0, len(rows), next(iter(used.values()))))
        elif used:
            self._mixture = self._mixed(rows, [used[number] for number in sorted(used)])
        self._head_spans = list(self._spans)
        start = drawn = len(rows)
        for adapter, size, wants_logits in pieces:
            if adapter is not None:
                self._spans.append((start, start + size, adapter))
                if wants_logits:
                    self._head_spans.append((drawn, drawn + 1, adapter))
            start += size
            drawn += wants_logits

    def _mixed(self, rows: Sequence[Adapter | None], used: Sequence[Adapter]) -> _Mixture:
        adapters, stacks = self._stacked
        # Sequences come and go at every few steps: a stack that holds a few adapters too many is as good.
        if not set(used) <= set(adapters) or len(adapters) > 2 * len(used):
            adapters, stacks = used, self._stack(used)
            self._stacked = adapters, stacks
        users = {adapter: [row for row, other in enumerate(rows) if other is adapter] for adapter in adapters}
        most = max(map(len, users.values()))
        padded = [(users[adapter] + [0] * most)[:most] for adapter in adapters]
        counted = [(row, place * most + at) for place, one in enumerate(adapters) for at, row in enumerate(users[one])]
        device = next(iter(stacks.values())).down.device
        chosen, flat = torch.tensor(padded, device=device), torch.tensor(counted, device=device)
        return _Mixture(adapters, stacks, chosen, flat[:, 0], flat[:, 1], flat[:, 1] // most)

    def _stack(self, adapters: Sequence[Adapter]) -> dict[str, _Stack]:
        stacks = {}
        for name in {name for adapter in adapters for name in adapter.layers}:
            layer = self._layers[name]
            pairs = [adapter.layers.get(name) for adapter in adapters]
            rank = max(pair.down.shape[0] for pair in pairs if pair is not None)
            like = {"dtype": layer.weight.dtype, "device": layer.weight.device}
            down = torch.zeros(len(pairs), layer.in_features, rank, **like)
            up = torch.zeros(len(pairs), rank, layer.out_features, **like)
            gain = None
            if any(pair is not None and pair.gain is not None for pair in pairs):
                gain = torch.ones(len(pairs), layer.out_features, **like)
            for place, pair in enumerate(pairs):
                if pair is not None:
                    down[place, :, : pair.down.shape[0]] = pair.down.t()
                    up[place, : pair.up.shape[1]] = pair.up.t()
                    if gain is not None and pair.gain is not None:
                        gain[place] = pair.gain
            stacks[name] = _Stack(down, up, gain)
        return stacks

    def read(self, folder: Path) -> Adapter:
        """A PEFT folder as an adapter for this model. Raises UnusableWeightsError."""
        try:
            config = domain.AdapterConfig.parse(json.loads((folder / "adapter_config.json").read_bytes()))
            tensors = load_file(folder / "adapter_model.safetensors")
        except (OSError, ValueError, SafetensorError) as error:
            raise UnusableWeightsError(f"the adapter cannot be read: {error}") from error
        tensors = {key.removesuffix(".weight") if MAGNITUDE in key else key: part for key, part in tensors.items()}
        layers: dict[str, Pair] = {}
        for key in tensors:
            ends = (DOWN, UP, MAGNITUDE) if config.dora else (DOWN, UP)
            if not key.endswith(ends) or not key.startswith(PREFIX):
                raise UnusableWeightsError(f"the adapter has a tensor {key!r}: only LoRA on linear layers is served")
            name = key.removeprefix(PREFIX).removesuffix(DOWN).removesuffix(UP).removesuffix(MAGNITUDE)
            if name not in layers:
                layers[name] = self._pair(name, tensors, config)
        if not layers:
            raise UnusableWeightsError("the adapter has no tensors")
        return Adapter(layers)

    def _pair(self, name: str, tensors: dict[str, Tensor], config: domain.AdapterConfig) -> Pair:
        layer = self._layers.get(name)
        if ".experts." in name:  # each sees only the tokens that were sent to it
            raise UnusableWeightsError(f"{name}: adapters on the layers of experts are not served")
        if layer is None:
            raise UnusableWeightsError(f"the base has no linear layer {name!r}: the adapter belongs to another model")
        down, up = tensors.get(PREFIX + name + DOWN), tensors.get(PREFIX + name + UP)
        length = tensors.get(PREFIX + name + MAGNITUDE)
        if down is None or up is None or (config.dora and length is None):
            raise UnusableWeightsError(f"{name} has only one half of an adapter")
        rank = down.shape[0]
        fits = tuple(down.shape) == (rank, layer.in_features) and tuple(up.shape) == (layer.out_features, rank)
        if not fits or (length is not None and tuple(length.shape) != (layer.out_features,)):
            raise UnusableWeightsError(
                f"{name}: A {tuple(down.shape)} and B {tuple(up.shape)} do not fit a layer of "
                f"{layer.in_features} to {layer.out_features}: the adapter belongs to another model"
            )
        weight = layer.weight
        if not all(torch.isfinite(part).all() for part in (down, up, length) if part is not None):
            raise UnusableWeightsError(f"{name}: the adapter's numbers are not all finite")
        down, up = down.to(weight.device, torch.float32), up.to(weight.device, torch.float32) * config.scaling
        if length is None:
            return Pair(down.to(weight.dtype), up.to(weight.dtype))
        gain = length.to(weight.device, torch.float32) / (plain_weight(layer).float() + up @ down).norm(dim=1)
        if not torch.isfinite(gain).all():
            raise UnusableWeightsError(f"{name}: DoRA's lengths are those of rows of nothing")
        return Pair(down.to(weight.dtype), (gain[:, None] * up).to(weight.dtype), gain.to(weight.dtype))

    def _hook(self, name: str) -> Callable[[nn.Linear, tuple[Any, ...], Tensor], Tensor]:
        def add_adapters(layer: nn.Linear, inputs: tuple[Any, ...], output: Tensor) -> Tensor:
            spans = self._head_spans if name == self._head else self._spans
            if not spans and self._mixture is None:
                return output
            # What the layer has just computed belongs to nobody else yet, so it is changed where it lies.
            tokens, told = inputs[0].flatten(0, -2), output.flatten(0, -2)
            for start, end, adapter in spans:
                pair = adapter.layers.get(name)
                if pair is not None:
                    part = told[start:end]
                    if pair.gain is not None:
                        _stretch(part, pair.gain, layer.bias)
                    part.addmm_(functional.linear(tokens[start:end], pair.down), pair.up.t())
            if self._mixture is not None and name in self._mixture.stacks:
                _add_mixture(self._mixture, self._mixture.stacks[name], tokens, told, layer.bias)
            return output

        return add_adapters


def _add_mixture(mixed: _Mixture, stack: _Stack, tokens: Tensor, told: Tensor, bias: Tensor | None) -> None:
    added = torch.bmm(torch.bmm(tokens[mixed.chosen], stack.down), stack.up).flatten(0, 1)
    if stack.gain is not None:
        part = told[mixed.rows]
        _stretch(part, stack.gain[mixed.which], bias)
        told[mixed.rows] = part
    told.index_add_(0, mixed.rows, added[mixed.at])


def _stretch(part: Tensor, gain: Tensor, bias: Tensor | None) -> None:
    """W x + bias becomes g W x + bias."""
    part.mul_(gain)
    if bias is not None:
        part.add_(bias * (1 - gain))
