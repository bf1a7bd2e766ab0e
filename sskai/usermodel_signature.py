"""What a user's own model takes and gives, learnt by trying it: names, datatypes and shapes of its tensors.

The trainer writes it into a version's `sskai.json`; whoever serves the version reads it there, so that no data is
needed any more. As `usermodel.py` it is shown into sandboxes and needs nothing but torch and the standard library.

    {"takes": "input",
     "inputs": [{"name": "input", "datatype": "FP32", "shape": [-1, 10]}],
     "outputs": [{"name": "output", "datatype": "FP32", "shape": [-1]}]}

Datatypes are those of the Open Inference Protocol. -1 is a size that may differ: the first one, of the samples, and
each that the model also takes one smaller than in training. `takes` is how `forward` wants the named tensors: a name, a
list of such (by places) or an object (by names).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from sskai import usermodel
from sskai.usermodel import UserError, UserModel

KEY = "signature"  # in sskai.json
OUTPUT = "output"
SAMPLES = 2  # of a try: so that the first dimension of what is given is known from others
MAX_TENSORS = 16
MAX_DIMENSIONS = 8
DATATYPES = {
    torch.bool: "BOOL",
    torch.uint8: "UINT8",
    torch.int8: "INT8",
    torch.int16: "INT16",
    torch.int32: "INT32",
    torch.int64: "INT64",
    torch.float16: "FP16",
    torch.bfloat16: "BF16",
    torch.float32: "FP32",
    torch.float64: "FP64",
}
TYPES = {datatype: kind for kind, datatype in DATATYPES.items()}
Shape = tuple[int, ...]


def learn(own: UserModel) -> dict[str, Any]:
    """Try the model in evaluation on two samples, on the device that it is on. Raises UserError, or what it raises."""
    sample = usermodel.the_sample(own.train, 0)[0]
    inputs = usermodel.stacked([sample] * SAMPLES, "input")
    device = next((each.device for each in own.model.parameters()), torch.device("cpu"))
    named: dict[str, torch.Tensor] = {}
    takes = _named(inputs, "", named, device)
    if len(named) > MAX_TENSORS:
        raise UserError(f"data.py: an input is {len(named)} tensors; up to {MAX_TENSORS} are told")
    training = own.model.training
    own.model.eval()
    try:
        with torch.no_grad():
            return _tried(own.model, takes, named)
    finally:
        own.model.train(training)


def rebuilt(takes: Any, named: Mapping[str, torch.Tensor]) -> Any:
    """The input as `forward` wants it."""
    if isinstance(takes, str):
        return named[takes]
    if isinstance(takes, Mapping):
        return {key: rebuilt(each, named) for key, each in takes.items()}
    return tuple(rebuilt(each, named) for each in takes)


def told(output: Any) -> torch.Tensor:
    """What `forward` gave, as it is told: on the CPU, half precision as float32, which everybody can read."""
    if not isinstance(output, torch.Tensor):
        raise UserError(f"model.py: forward() gives a {type(output).__name__}: one tensor is wanted")
    if output.dtype in (torch.float16, torch.bfloat16):
        output = output.float()
    return output.detach().to("cpu").contiguous()


def _named(value: Any, name: str, found: dict[str, torch.Tensor], device: torch.device) -> Any:
    """Gather the tensors of an input by name; how it is put together from them."""
    if isinstance(value, Mapping):
        if not all(isinstance(key, str) for key in value):
            raise UserError("data.py: the names of an input are texts")
        return {key: _named(each, f"{name}.{key}" if name else key, found, device) for key, each in value.items()}
    if isinstance(value, tuple):
        return [_named(each, f"{name or 'input'}.{at}", found, device) for at, each in enumerate(value)]
    name = name or "input"
    if name in found:
        raise UserError(f"data.py: two tensors of an input are both told as {name!r}")
    found[name] = value.to(device)
    _datatype(value, f"data.py: the input {name}")
    return name


def _tried(model: Any, takes: Any, named: Mapping[str, torch.Tensor]) -> dict[str, Any]:
    given = _forward(model, takes, named)
    if given.shape[:1] != (SAMPLES,):
        raise UserError(f"model.py: forward() gives {list(given.shape)} for {SAMPLES} samples")
    shapes: dict[str, Shape] = {}
    gives: Shape = (-1, *given.shape[1:])
    for name, tensor in named.items():
        sizes = [-1, *tensor.shape[1:]]
        for place in range(1, tensor.dim()):
            smaller = _shape_if_smaller(model, takes, named, name, place)
            if smaller is not None and len(smaller) == given.dim():
                sizes[place] = -1
                gives = tuple(-1 if one != other else one for one, other in zip(gives, (-1, *smaller[1:]), strict=True))
        shapes[name] = tuple(sizes)
    return {
        "takes": takes,
        "inputs": [_tensor(name, _datatype(named[name], name), shape) for name, shape in shapes.items()],
        "outputs": [_tensor(OUTPUT, _datatype(given, "model.py: the output"), gives)],
    }


def _shape_if_smaller(
    model: Any, takes: Any, named: Mapping[str, torch.Tensor], name: str, place: int
) -> Sequence[int] | None:
    """What the model gives if one of an input's sizes is one smaller; None: it does not take that."""
    size = named[name].shape[place]
    if size < 2:
        return None
    try:
        return tuple(_forward(model, takes, {**named, name: named[name].narrow(place, 0, size - 1)}).shape)
    except Exception:  # the user's code may raise anything
        return None


def _forward(model: Any, takes: Any, named: Mapping[str, torch.Tensor]) -> torch.Tensor:
    return told(usermodel.called(model, rebuilt(takes, named)))


def _datatype(tensor: torch.Tensor, what: str) -> str:
    if tensor.dtype not in DATATYPES:
        raise UserError(f"{what} is {tensor.dtype}: the Open Inference Protocol has no name for that")
    if tensor.dim() > MAX_DIMENSIONS:
        raise UserError(f"{what} has {tensor.dim()} dimensions; up to {MAX_DIMENSIONS} are told")
    return DATATYPES[tensor.dtype]


def _tensor(name: str, datatype: str, shape: Shape) -> dict[str, Any]:
    return {"name": name, "datatype": datatype, "shape": list(shape)}
