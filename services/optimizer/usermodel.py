"""What a user's own model asks of a machine, counted inside the sandbox: `PROGRAM FOLDER`.

It runs one training step of the user's model on two samples on the CPU, and prints one JSON line: the counts, or
{"error": text for the user}. It knows nothing of the service, which believes none of it unchecked: this file, the
contract's (sskai/usermodel.py), torch and the user's folder are all that can be seen from inside.
"""

from __future__ import annotations

import sys
import weakref
from collections import Counter
from pathlib import Path
from typing import Any, NoReturn

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

from sskai import usermodel
from sskai.usermodel import SAMPLES, UserModel, tensors_of


class PeakBytes(TorchDispatchMode):  # type: ignore[misc]  # torch's types are not followed
    """The most bytes that tensors held at a time, those that were there at the start included."""

    def __init__(self, tensors: Any) -> None:
        super().__init__()
        self._sizes: dict[weakref.ref[Any], int] = {}
        self._known: weakref.WeakSet[Any] = weakref.WeakSet()
        self.now = self.peak = 0
        for tensor in tensors:
            self._add(tensor)

    def _add(self, tensor: torch.Tensor) -> None:
        storage = tensor.untyped_storage()
        if storage not in self._known:
            self._known.add(storage)
            self._sizes[weakref.ref(storage, self._free)] = storage.nbytes()
            self.now += storage.nbytes()
            self.peak = max(self.peak, self.now)

    def _free(self, reference: weakref.ref[Any]) -> None:
        self.now -= self._sizes.pop(reference, 0)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for tensor in tensors_of(result):
            self._add(tensor)
        return result


def profile(folder: Path) -> dict[str, Any]:
    """Count one step of two samples. Raises UserError, or whatever the user's code raises."""
    own = usermodel.build(folder)
    inputs, targets = usermodel.batch([usermodel.the_sample(own.train, index) for index in range(SAMPLES)])
    own.model.train()
    counts = one_step(own, inputs, targets)
    parameters = list(own.model.parameters())
    types = Counter(str(each.dtype).removeprefix("torch.") for each in parameters)
    return {
        "parameters": sum(each.numel() for each in parameters),
        "trainable_parameters": sum(each.numel() for each in parameters if each.requires_grad),
        "buffers_bytes": size_of(list(own.model.buffers())),
        **counts,
        "samples": len(own.train),
        "held_out_samples": len(own.held_out),
        "sample_bytes": size_of([*tensors_of(inputs), *tensors_of(targets)]) // SAMPLES,
        "dtype": types.most_common(1)[0][0],
        "learning_rate": usermodel.LEARNING_RATES[own.optimizer],
    }


def one_step(own: UserModel, inputs: Any, targets: Any) -> dict[str, int]:
    """FLOPs of both directions, what the forward pass keeps for the backward pass, and the peak of the whole step."""
    held = [*own.model.parameters(), *own.model.buffers()]
    not_counted = {tensor.untyped_storage()._cdata for tensor in held}
    saved: dict[int, Any] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage._cdata not in not_counted:
            saved[storage._cdata] = storage  # held, so that no other storage takes its address
        return tensor

    peak = PeakBytes([*held, *tensors_of(inputs), *tensors_of(targets)])
    with peak, FlopCounterMode(display=False) as counter:
        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            output = usermodel.called(own.model, inputs)
            loss = usermodel.the_loss(own.loss, output, targets, SAMPLES)
        forward = counter.get_total_flops()
        kept_bytes = sum(storage.nbytes() for storage in saved.values())
        saved.clear()
        loss.backward()
        both = counter.get_total_flops()
    return {
        "flops_forward_per_sample": forward // SAMPLES,
        "flops_backward_per_sample": (both - forward) // SAMPLES,
        "activation_bytes_per_sample": kept_bytes // SAMPLES,
        "peak_bytes_two_samples": peak.peak,
    }


def size_of(tensors: list[torch.Tensor]) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


def answer(folder: Path) -> dict[str, Any]:
    """The counts, or {"error": text for the user}."""
    try:
        return profile(folder)
    except BaseException as error:  # SystemExit too: whatever the user's code raises is theirs to read
        return {"error": usermodel.explained(error, folder)}


def main() -> NoReturn:
    folder = Path(sys.argv[1])
    sys.path.insert(0, str(folder))
    usermodel.end_with(lambda: answer(folder))


if __name__ == "__main__":
    main()
