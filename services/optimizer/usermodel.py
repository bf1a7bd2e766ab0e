"""What a user's own model asks of a machine, counted inside the sandbox: `python usermodel.py FOLDER`.

It imports the user's model.py and data.py, runs one training step on two samples on the CPU, and prints one JSON line:
the counts, or {"error": text for the user}. It knows nothing of the service, which believes none of it unchecked: this
file, torch and the user's folder are all that can be seen from inside. The contract is docs/guides/own-model.md.
"""

from __future__ import annotations

import importlib.util
import json
import os
import sys
import traceback
import weakref
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

SAMPLES = 2  # one alone is not enough for batch normalisation
LOSSES = ("cross_entropy", "mse", "l1", "bce_with_logits")
MAX_HEADER_BYTES = 16 * 1024 * 1024
MAX_ERROR_LENGTH = 600
SHOWN_FRAMES = 3


class UserError(Exception):
    """What the user has to mend; the text says where, what and how."""


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
    settings = read_settings(folder)
    model_module = load(folder, "model")
    model = the_model_class(model_module)()
    data_module = load(folder, "data")
    train, held_out = the_datasets(data_module)
    check_weights(folder, model)
    samples = [the_sample(train, index) for index in range(SAMPLES)]
    inputs, targets = stacked([each[0] for each in samples], "input"), stacked([each[1] for each in samples], "target")
    loss_name = settings.get("loss") or ("mse" if first_tensor(targets).is_floating_point() else "cross_entropy")
    parameters = list(model.parameters())
    if not any(each.requires_grad for each in parameters):
        raise UserError("model.py: no parameter has requires_grad, so there is nothing to train")
    model.train()
    counts = one_step(model, inputs, targets, loss_name)
    types = Counter(str(each.dtype).removeprefix("torch.") for each in parameters)
    return {
        "parameters": sum(each.numel() for each in parameters),
        "trainable_parameters": sum(each.numel() for each in parameters if each.requires_grad),
        "buffers_bytes": sum(each.numel() * each.element_size() for each in model.buffers()),
        **counts,
        "samples": len(train),
        "held_out_samples": len(held_out),
        "sample_bytes": size_of([*tensors_of(inputs), *tensors_of(targets)]) // SAMPLES,
        "dtype": types.most_common(1)[0][0],
    }


def one_step(model: Any, inputs: Any, targets: Any, loss_name: str) -> dict[str, int]:
    """FLOPs of both directions, what the forward pass keeps for the backward pass, and the peak of the whole step."""
    own = [*model.parameters(), *model.buffers()]
    not_counted = {tensor.untyped_storage()._cdata for tensor in own}
    saved: dict[int, Any] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage._cdata not in not_counted:
            saved[storage._cdata] = storage  # held, so that no other storage takes its address
        return tensor

    peak = PeakBytes([*own, *tensors_of(inputs), *tensors_of(targets)])
    with peak, FlopCounterMode(display=False) as counter:
        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            output = called(model, inputs)
            loss = the_loss(loss_name, output, targets)
        forward = counter.get_total_flops()
        kept_bytes = sum(storage.nbytes() for storage in saved.values())
        saved.clear()
        if not loss.requires_grad:
            raise UserError("model.py: the loss depends on no parameter: forward() must not detach its result")
        loss.backward()
        both = counter.get_total_flops()
    return {
        "flops_forward_per_sample": forward // SAMPLES,
        "flops_backward_per_sample": (both - forward) // SAMPLES,
        "activation_bytes_per_sample": kept_bytes // SAMPLES,
        "peak_bytes_two_samples": peak.peak,
    }


def called(model: Any, inputs: Any) -> Any:
    """A dict is handed over by names, a tuple by places, anything else as it is."""
    if isinstance(inputs, Mapping):
        return model(**inputs)
    return model(*inputs) if isinstance(inputs, tuple) else model(inputs)


def the_loss(name: str, output: Any, target: Any) -> Any:
    """The loss, once the shapes are those that it means: torch would broadcast some mistakes in silence."""
    for what, value, place in (("forward() gives", output, "model.py"), ("the target is", target, "data.py")):
        if not isinstance(value, torch.Tensor):
            raise UserError(f"{place}: {what} a {type(value).__name__}, but {name} wants one tensor")
    shapes = f"forward() gives {list(output.shape)} for {SAMPLES} samples, the targets are {list(target.shape)}"
    if output.shape[:1] != (SAMPLES,):
        raise UserError(f"model.py: {shapes}: the first dimension must be that of the samples")
    classes = name == "cross_entropy" and not target.is_floating_point()
    wanted = (*output.shape[:1], *output.shape[2:]) if classes else tuple(output.shape)
    if classes and output.dim() < 2:
        raise UserError(f"model.py: {shapes}: cross_entropy wants a score for every class, [samples, classes, ...]")
    if tuple(target.shape) != wanted:
        raise UserError(f"data.py: {shapes}: {name} wants targets of {list(wanted)}")
    if classes and not 0 <= int(target.min()) <= int(target.max()) < output.shape[1]:
        raise UserError(
            f"data.py: a target is class {int(target.max())} or {int(target.min())}, but forward() gives scores "
            f"for 0 to {output.shape[1] - 1}"
        )
    if not classes and not target.is_floating_point():
        raise UserError(f"data.py: the targets are {target.dtype}, but {name} wants floating-point numbers")
    functional = torch.nn.functional
    if name == "cross_entropy":
        return functional.cross_entropy(output, target.long() if classes else target)
    if name == "bce_with_logits":
        return functional.binary_cross_entropy_with_logits(output, target)
    return functional.mse_loss(output, target) if name == "mse" else functional.l1_loss(output, target)


def read_settings(folder: Path) -> dict[str, Any]:
    path = folder / "train.json"
    settings = json.loads(path.read_text()) if path.exists() else {}
    loss = settings.get("loss")
    if loss is not None and loss not in LOSSES:
        raise UserError(f"train.json: loss {loss!r} is not known: use one of {', '.join(LOSSES)}")
    return dict(settings)


def load(folder: Path, name: str) -> Any:
    """A file of the user's as a module of that name, so that data.py may import model."""
    spec = importlib.util.spec_from_file_location(name, folder / f"{name}.py")
    if spec is None or spec.loader is None:
        raise UserError(f"{name}.py: cannot be imported")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def the_model_class(module: Any) -> Any:
    own = [
        value
        for value in vars(module).values()
        if isinstance(value, type) and issubclass(value, torch.nn.Module) and value.__module__ == "model"
    ]
    named = [each for each in own if each.__name__ == "Model"]
    if len(own) == 1 or named:
        return (named or own)[0]
    if not own:
        raise UserError("model.py: holds no subclass of torch.nn.Module: write one that is built without arguments")
    names = ", ".join(sorted(each.__name__ for each in own))
    raise UserError(f"model.py: holds several models ({names}): name the one to train Model")


def the_datasets(module: Any) -> tuple[Any, Any]:
    if not callable(getattr(module, "datasets", None)):
        raise UserError("data.py: holds no function datasets(): write one that returns (train, held_out)")
    pair = module.datasets()
    if not isinstance(pair, tuple | list) or len(pair) != 2:
        raise UserError(f"data.py: datasets() returns a {type(pair).__name__}, not the pair (train, held_out)")
    for name, dataset, least in (("train", pair[0], SAMPLES), ("held_out", pair[1], 1)):
        if not hasattr(dataset, "__len__") or not hasattr(dataset, "__getitem__"):
            raise UserError(
                f"data.py: {name} is a {type(dataset).__name__} without __len__ and __getitem__: "
                "give a map-style dataset"
            )
        if len(dataset) < least:
            raise UserError(f"data.py: {name} has {len(dataset)} samples; at least {least} are needed")
    return pair[0], pair[1]


def the_sample(dataset: Any, index: int) -> tuple[Any, Any]:
    sample = dataset[index]
    if not isinstance(sample, tuple | list) or len(sample) != 2:
        raise UserError(f"data.py: train[{index}] is a {type(sample).__name__}, not the pair (input, target)")
    return sample[0], sample[1]


def stacked(values: list[Any], place: str) -> Any:
    """Several samples as one batch: a new first dimension on every tensor. `place` is how to get there, for errors."""
    first = values[0]
    if isinstance(first, torch.Tensor):
        shapes = sorted({str(list(each.shape)) for each in values})
        if len(shapes) > 1:
            raise UserError(f"data.py: {place} has the shapes {' and '.join(shapes)}: samples must have one shape")
        return torch.stack(values)
    if type(first).__module__ == "numpy":
        return stacked([torch.as_tensor(each) for each in values], place)
    if isinstance(first, bool | int | float):
        return torch.tensor(values)
    if isinstance(first, Mapping):
        return {key: stacked([each[key] for each in values], f"{place}[{key!r}]") for key in first}
    if isinstance(first, tuple | list):
        return tuple(stacked(list(each), f"{place}[{n}]") for n, each in enumerate(zip(*values, strict=True)))
    raise UserError(
        f"data.py: {place} is a {type(first).__name__}: give tensors, numpy arrays, numbers, or dicts or tuples of them"
    )


def check_weights(folder: Path, model: Any) -> None:
    """Whether the weights are the model's, by names and shapes: the values make no difference to a plan."""
    path = folder / "weights.safetensors"
    if not path.exists():
        return
    with path.open("rb") as file:
        header = json.loads(file.read(min(int.from_bytes(file.read(8), "little"), MAX_HEADER_BYTES)))
    given = {name: list(entry["shape"]) for name, entry in header.items() if name != "__metadata__"}
    wanted = {name: list(tensor.shape) for name, tensor in model.state_dict().items()}
    for name in sorted(given.keys() | wanted.keys()):
        if given.get(name) != wanted.get(name):
            raise UserError(
                f"weights.safetensors: tensor {name[:80]!r} is {given.get(name, 'missing')}, "
                f"but in model.py it is {wanted.get(name, 'missing')}"
            )


def tensors_of(value: Any) -> list[torch.Tensor]:
    if isinstance(value, torch.Tensor):
        return [value]
    if isinstance(value, Mapping):
        return [tensor for each in value.values() for tensor in tensors_of(each)]
    if isinstance(value, tuple | list):
        return [tensor for each in value for tensor in tensors_of(each)]
    return []


def first_tensor(value: Any) -> torch.Tensor:
    found = tensors_of(value)
    if not found:
        raise UserError("data.py: the target holds no tensor or number")
    return found[0]


def size_of(tensors: list[torch.Tensor]) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


def answer(folder: Path) -> dict[str, Any]:
    """The counts, or {"error": text for the user}."""
    try:
        return profile(folder)
    except BaseException as error:  # SystemExit too: whatever the user's code raises is theirs to read
        return {"error": explained(error, folder)}


def explained(error: BaseException, folder: Path) -> str:
    """What the user has to know of an exception: file and line of their own, the words, and what to do."""
    if isinstance(error, UserError):
        return str(error)
    if isinstance(error, SyntaxError) and error.filename:
        return f"{_relative(error.filename, folder)}, line {error.lineno}: {type(error).__name__}: {error.msg}"
    frames = [each for each in traceback.extract_tb(error.__traceback__) if _is_own(each.filename, folder)]
    own = [f"{_relative(each.filename, folder)}, line {each.lineno}" for each in frames[-SHOWN_FRAMES:]]
    where = f"{own[-1]}: " if own else ""
    through = f" (called from {'; '.join(own[:-1])})" if own[:-1] else ""
    words = " ".join(str(error).split())[:MAX_ERROR_LENGTH]
    return f"{where}{type(error).__name__}: {words}{through}{_advice(error)}"


def _advice(error: BaseException) -> str:
    if isinstance(error, ModuleNotFoundError):
        return ". Only torch, numpy and the files of the zip can be imported while a plan is made"
    if isinstance(error, PermissionError):
        return ". The model is traced without network, and only its own folder can be read: put the data into the zip"
    if isinstance(error, TypeError) and "positional argument" in str(error):
        return ". The model is built without arguments and called with the input of a sample"
    if isinstance(error, MemoryError) or "allocate memory" in str(error):
        return ". Two samples need more memory than a plan may take: make the model or the sample smaller"
    if isinstance(error, RuntimeError) and "dtype" in str(error):
        return ". Give inputs of the type of the weights, for example float32"
    return ""


def _is_own(filename: str, folder: Path) -> bool:
    return Path(filename).is_relative_to(folder)


def _relative(filename: str, folder: Path) -> str:
    return str(Path(filename).relative_to(folder)) if _is_own(filename, folder) else Path(filename).name


def main() -> NoReturn:
    # The user's prints must not mix with the answer.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    folder = Path(sys.argv[1])
    sys.path.insert(0, str(folder))
    torch.set_num_threads(1)
    torch.manual_seed(0)
    answers.write(json.dumps(answer(folder)) + "\n")
    answers.flush()
    # Without the user's exit handlers and threads.
    os._exit(0)


if __name__ == "__main__":
    main()
