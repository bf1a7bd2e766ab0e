"""The linear layers of a model on a CPU by oneDNN, their weights laid out once as its kernels read them.

torch multiplies 32-bit floats by MKL, which takes its slow paths on processors of other makers: on an AMD EPYC oneDNN
multiplies the weights of a model of 135 M parameters by one token 1.7 times as quickly, by 32 tokens 2.3 times.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from sskai import processor

# Of the layouts that oneDNN chooses by the number of rows, the one for so many was the quickest for 1 to 256.
ROWS = 32


class PackedLinear(nn.Linear):  # type: ignore[misc]
    """`weight` is opaque: `plain_weight` gives it back as torch lays it out."""

    def __init__(self, layer: nn.Linear) -> None:
        nn.Module.__init__(self)
        self.in_features, self.out_features, self.bias = layer.in_features, layer.out_features, layer.bias
        # No parameter: nothing may move or convert it.
        object.__setattr__(self, "weight", torch.ops.mkldnn._reorder_linear_weight(layer.weight.detach(), ROWS))

    def forward(self, input: Tensor) -> Tensor:
        return torch.ops.mkldnn._linear_pointwise(input, self.weight, self.bias, "none", [], "")


def plain_weight(layer: nn.Linear) -> Tensor:
    """out x in."""
    return layer.weight.to_dense() if isinstance(layer, PackedLinear) else layer.weight


def pack(model: nn.Module) -> None:
    """Replace the model's linear layers where that is quicker; it can only be run from then on, not saved or moved."""
    if not worth_it(model):
        return
    for parent in list(model.modules()):
        for name, layer in list(parent.named_children()):
            if type(layer) is nn.Linear:
                setattr(parent, name, PackedLinear(layer))


def worth_it(model: nn.Module) -> bool:
    """Whether this is a model in 32-bit floats on a processor whose maker is not MKL's."""
    weights = [layer.weight for layer in model.modules() if type(layer) is nn.Linear]
    plain = all(weight.device.type == "cpu" and weight.dtype == torch.float32 for weight in weights)
    return plain and torch.backends.mkldnn.is_available() and not processor.made_by_intel()
