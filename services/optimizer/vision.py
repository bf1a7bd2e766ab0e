"""What an image classifier asks of a machine: one step on two pictures, counted without a single weight.

A picture is planned as a sequence of one token. The stack of layers is not grown from a few, as that of language models
is: a picture's size is fixed, and so one step is all there is to count.
"""

from __future__ import annotations

from typing import Any

PICTURES = 2  # one alone is not enough for batch normalisation
HEAD = "classifier"  # learnt as a whole, whatever the method
MAX_SIDE = 4096  # pixels
MAX_CHANNELS = 16
HALF = 0.5  # of float32's bytes in bfloat16


def shape_of(config: Any) -> tuple[int, int, int]:
    """(channels, height, width) of a picture as the model takes it. Raises ValueError."""
    size = getattr(config, "image_size", None) or 224  # what transformers' convolutional networks are published for
    height, width = size if isinstance(size, list | tuple) else (size, size)
    channels = getattr(config, "num_channels", None) or 3
    if not all(isinstance(each, int) for each in (channels, height, width)):
        raise ValueError(f"image_size {size!r} and num_channels {channels!r} must be whole numbers")
    if not (0 < channels <= MAX_CHANNELS and 0 < height <= MAX_SIDE and 0 < width <= MAX_SIDE):
        raise ValueError(
            f"pictures of {channels} x {height} x {width}; at most {MAX_CHANNELS} x {MAX_SIDE} x {MAX_SIDE}"
        )
    return channels, height, width


def adapted(model: Any) -> list[str]:
    """What an adapter lies on, as the trainer has it: the linear layers but for the head; the convolutions of a network
    that has none."""
    import torch

    for kind in (torch.nn.Linear, torch.nn.Conv2d):
        found = [name for name, each in model.named_modules() if isinstance(each, kind) and not name.startswith(HEAD)]
        if found:
            return found
    return []


def count(model: Any) -> dict[str, Any]:
    """The fields of `memory.ModelProfile` of a model on fake tensors. Under a FakeTensorMode."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    weights, buffers = list(model.parameters()), list(model.buffers())
    trainable = sum(each.numel() for each in weights if each.requires_grad)
    inputs = torch.empty(PICTURES, *shape_of(model.config))
    labels = torch.zeros(PICTURES, dtype=torch.int64)
    not_counted = {tensor.untyped_storage()._cdata for tensor in (*weights, *buffers)}
    saved: dict[int, Any] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage._cdata not in not_counted:
            saved[storage._cdata] = storage  # held, so that no other storage takes its address
        return tensor

    with FlopCounterMode(display=False) as counter:
        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            logits = model.train()(pixel_values=inputs).logits
            loss = torch.nn.functional.cross_entropy(logits, labels)
        activations = sum(storage.nbytes() for storage in saved.values()) / PICTURES
        saved.clear()
        loss.backward()
    flops = counter.get_total_flops() / PICTURES
    parameters = sum(each.numel() for each in weights)
    buffer_bytes = sum(each.numel() * each.element_size() for each in buffers)

    def precision(element_bytes: int, share: float) -> dict[str, Any]:
        gradients = trainable * element_bytes
        peaks = {"fresh": [[float(gradients), activations * share]], "accumulating": [[0.0, activations * share]]}
        return {
            "weight_bytes": parameters * element_bytes + buffer_bytes,
            "gradient_bytes": gradients,
            "plain": peaks,
            "checkpointed": peaks,
        }

    return {
        "parameters": parameters,
        "trainable_parameters": trainable,
        "largest_trainable_parameters": max((each.numel() for each in weights if each.requires_grad), default=0),
        "layers": 1,
        "linear_parameters": 0,
        "largest_linear_parameters": 0,
        "flops_per_token": flops,
        "recomputing_flops_per_token": flops,
        "float32": precision(4, 1.0),
        "bfloat16": precision(2, HALF),
    }
