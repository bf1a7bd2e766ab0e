"""The matrix products of linear layers on a CPU: by oneDNN where torch's own choice, MKL, is the slower one.

torch multiplies 32-bit floats by MKL, which takes its slow paths on processors of other makers than its own: on an AMD
EPYC oneDNN takes half the time for a layer's output and for both of its gradients. The choice depends on the processor
alone, never on a measurement: an attempt that goes on elsewhere on such a machine computes the same bits.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from sskai import processor


class OneDnnLinear(nn.Linear):  # type: ignore[misc]
    """torch's layer with its parameters and its numbers, up to the rounding of sums in another order."""

    def forward(self, input: Tensor) -> Tensor:
        whole = input.dtype == self.weight.dtype == torch.float32 and not torch.is_autocast_enabled("cpu")
        if not whole or input.dim() < 2 or not input.numel():
            return super().forward(input)
        return _Linear.apply(input, self.weight, self.bias)


class _Linear(torch.autograd.Function):  # type: ignore[misc]
    """y = x W^T + b over the last dimension of x."""

    @staticmethod
    def forward(ctx: Any, given: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(given, weight)
        return _product(given, weight, bias)

    @staticmethod
    @once_differentiable  # type: ignore[untyped-decorator]
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        given, weight = ctx.saved_tensors
        of_given, of_weight, of_bias = ctx.needs_input_grad
        rows = gradient.flatten(0, -2)
        return (
            _product(gradient, weight.t(), None) if of_given else None,
            _product(rows.t(), given.flatten(0, -2).t(), None) if of_weight else None,
            rows.sum(0) if of_bias else None,
        )


def _product(rows: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    return torch.ops.mkldnn._linear_pointwise(rows, weight, bias, "none", [], "")


def quicken(model: nn.Module) -> None:
    """Let the model's linear layers compute so, if that is quicker here. Parameters and their names stay."""
    if not torch.backends.mkldnn.is_available() or processor.made_by_intel():
        return
    for layer in model.modules():
        if type(layer) is nn.Linear and layer.weight.device.type == "cpu":
            layer.__class__ = OneDnnLinear
