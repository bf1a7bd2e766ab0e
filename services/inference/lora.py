"""Low-rank adapters beside the linear layers of one base; each row of a batch may use another one, or none.

y = W x + s B A x (Hu et al. 2021, arXiv:2106.09685), with s = alpha / r, or alpha / sqrt(r) for rsLoRA (Kalajdzievski
2023, arXiv:2312.03732). The files are PEFT's, and so are the numbers (a test compares them). PEFT's own mixed batches
put hooks on all layers anew at each step, which costs several times the step of a small model; these hooks stay.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional

from services.inference import domain
from services.inference.engine import UnusableWeightsError

PREFIX = "base_model.model."  # PEFT's, before the layer's name in the base
DOWN, UP = ".lora_A.weight", ".lora_B.weight"


@dataclass(frozen=True, eq=False, slots=True)
class Adapter:
    """`layers`: by the layer's name, A (rank x in) and B (out x rank, scaled)."""

    layers: dict[str, tuple[Tensor, Tensor]]

    @property
    def bytes(self) -> int:
        return sum(tensor.nbytes for pair in self.layers.values() for tensor in pair)


class AdapterBank:
    """The layers of one model, ready for adapters. `select` says which row of the next batches uses which one."""

    def __init__(self, model: nn.Module) -> None:
        self._layers = {name: layer for name, layer in model.named_modules() if isinstance(layer, nn.Linear)}
        # Which adapters the rows use; rows None: all of them.
        self._selected: list[tuple[Adapter, Tensor | None]] = []
        for name, layer in self._layers.items():
            layer.register_forward_hook(self._hook(name))

    def select(self, rows: Sequence[Adapter | None]) -> None:
        """The adapters of the next batches' rows, in order. A detached adapter works for whoever still holds it."""
        adapters = {id(adapter): adapter for adapter in rows if adapter is not None}
        self._selected = []
        for adapter in adapters.values():
            using = [row for row, other in enumerate(rows) if other is adapter]
            device = next(iter(adapter.layers.values()))[0].device
            everyone = len(using) == len(rows)
            self._selected.append((adapter, None if everyone else torch.tensor(using, device=device)))

    def read(self, folder: Path) -> Adapter:
        """A PEFT folder as an adapter for this model. Raises UnusableWeightsError."""
        try:
            config = domain.AdapterConfig.parse(json.loads((folder / "adapter_config.json").read_bytes()))
            tensors = load_file(folder / "adapter_model.safetensors")
        except (OSError, ValueError, SafetensorError) as error:
            raise UnusableWeightsError(f"the adapter cannot be read: {error}") from error
        layers: dict[str, tuple[Tensor, Tensor]] = {}
        for key in tensors:
            if not key.endswith((DOWN, UP)) or not key.startswith(PREFIX):
                raise UnusableWeightsError(f"the adapter has a tensor {key!r}: only LoRA on linear layers is served")
            name = key.removeprefix(PREFIX).removesuffix(DOWN).removesuffix(UP)
            layers[name] = self._pair(name, tensors, config.scaling)
        if not layers:
            raise UnusableWeightsError("the adapter has no tensors")
        return Adapter(layers)

    def _pair(self, name: str, tensors: dict[str, Tensor], scaling: float) -> tuple[Tensor, Tensor]:
        layer = self._layers.get(name)
        if layer is None:
            raise UnusableWeightsError(f"the base has no linear layer {name!r}: the adapter belongs to another model")
        down, up = tensors.get(PREFIX + name + DOWN), tensors.get(PREFIX + name + UP)
        if down is None or up is None:
            raise UnusableWeightsError(f"{name} has only one half of an adapter")
        rank = down.shape[0]
        if tuple(down.shape) != (rank, layer.in_features) or tuple(up.shape) != (layer.out_features, rank):
            raise UnusableWeightsError(
                f"{name}: A {tuple(down.shape)} and B {tuple(up.shape)} do not fit a layer of "
                f"{layer.in_features} to {layer.out_features}: the adapter belongs to another model"
            )
        weight = layer.weight
        if not (torch.isfinite(down).all() and torch.isfinite(up).all()):
            raise UnusableWeightsError(f"{name}: the adapter's numbers are not all finite")
        return down.to(weight.device, weight.dtype), (up * scaling).to(weight.device, weight.dtype)

    def _hook(self, name: str) -> Callable[[nn.Module, tuple[Any, ...], Tensor], Tensor]:
        def add_adapters(_layer: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> Tensor:
            for adapter, rows in self._selected:
                pair = adapter.layers.get(name)
                if pair is None:
                    continue
                down, up = pair
                if rows is None:
                    output = output + functional.linear(functional.linear(inputs[0], down), up)
                else:
                    chosen = inputs[0].index_select(0, rows)
                    output = output.index_add(0, rows, functional.linear(functional.linear(chosen, down), up))
            return output

        return add_adapters
