"""A model of the user's own, as code: what its files must hold, how samples become batches, what its losses mean.

The contract is docs/guides/own-model.md, and this is its one place. It is shown into sandboxes, so it needs nothing but
torch and the standard library: the optimizer's program counts with it (services/optimizer/usermodel.py), the trainer
trains with it (services/trainer/usercode.py), and as a program of its own, `python usermodel.py PLACE CODE [PACKAGES]`,
it tries one step on two samples and prints one JSON line: {}, or {"error": text for the user}.
"""

from __future__ import annotations

import importlib.util
import json
import os
import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import torch

SAMPLES = 2  # of a check; one alone is not enough for batch normalisation
LOSSES = ("cross_entropy", "mse", "l1", "bce_with_logits")
# Peak rates where nobody gave one: the defaults of torch's Adam and AdamW; SGD with momentum bears ten times that.
LEARNING_RATES = {"adamw": 1e-3, "adam": 1e-3, "sgd": 1e-2}
WEIGHTS = "weights.safetensors"
MAX_HEADER_BYTES = 16 * 1024 * 1024
MAX_ERROR_LENGTH = 600
SHOWN_FRAMES = 3


class UserError(Exception):
    """What the user has to mend; the text says where, what and how."""


@dataclass(frozen=True)
class UserModel:
    """What a folder holds, built and found to keep the contract but for shapes, which only a batch shows."""

    model: Any  # torch.nn.Module, as it was built: weights.safetensors is not read yet
    train: Any  # map-style, at least two samples
    held_out: Any  # map-style, at least one sample
    loss: str  # one of LOSSES
    optimizer: str  # one of LEARNING_RATES


def build(folder: Path) -> UserModel:
    """Import the folder's files and build what they describe; the folder must be on `sys.path`.

    Raises UserError, or whatever the user's code raises, which `explained` puts into words.
    """
    settings = read_settings(folder)
    model = the_model_class(load(folder, "model"))()
    train, held_out = the_datasets(load(folder, "data"))
    check_weights(folder, model)
    if not any(each.requires_grad for each in model.parameters()):
        raise UserError("model.py: no parameter has requires_grad, so there is nothing to train")
    target = stacked([the_sample(train, 0)[1]], "target")
    natural = "mse" if first_tensor(target).is_floating_point() else "cross_entropy"
    return UserModel(model, train, held_out, settings.get("loss") or natural, settings.get("optimizer") or "adamw")


def batch(samples: Sequence[tuple[Any, Any]]) -> tuple[Any, Any]:
    """(inputs, targets) of some samples, stacked along a new first dimension."""
    return stacked([each[0] for each in samples], "input"), stacked([each[1] for each in samples], "target")


def try_one_step(folder: Path) -> None:
    """Forward and backward of two samples. Raises as `build` does."""
    own = build(folder)
    inputs, targets = batch([the_sample(own.train, index) for index in range(SAMPLES)])
    own.model.train()
    the_loss(own.loss, called(own.model, inputs), targets, SAMPLES).backward()


def called(model: Any, inputs: Any) -> Any:
    """A dict is handed over by names, a tuple by places, anything else as it is."""
    if isinstance(inputs, Mapping):
        return model(**inputs)
    return model(*inputs) if isinstance(inputs, tuple) else model(inputs)


def the_loss(name: str, output: Any, target: Any, count: int, *, reduction: str = "mean") -> Any:
    """The loss of `count` samples, once the shapes are those that it means: torch would broadcast some mistakes in
    silence. `reduction` "sum": over all that `targets_of` counts. Raises UserError."""
    for what, value, place in (("forward() gives", output, "model.py"), ("the target is", target, "data.py")):
        if not isinstance(value, torch.Tensor):
            raise UserError(f"{place}: {what} a {type(value).__name__}, but {name} wants one tensor")
    shapes = f"forward() gives {list(output.shape)} for {count} samples, the targets are {list(target.shape)}"
    if output.shape[:1] != (count,):
        raise UserError(f"model.py: {shapes}: the first dimension must be that of the samples")
    classes = of_classes(name, target)
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
    loss = _function(name)(output, target.long() if classes else target, reduction=reduction)
    if torch.is_grad_enabled() and not loss.requires_grad:
        raise UserError("model.py: the loss depends on no parameter: forward() must not detach its result")
    return loss


def of_classes(name: str, target: Any) -> bool:
    """Whether a target names classes; else it holds numbers, or probabilities of classes."""
    return name == "cross_entropy" and not target.is_floating_point()


def targets_of(name: str, target: Any) -> int:
    """How many terms the loss of a stacked target is the mean of: classes to name, or numbers to meet."""
    if name == "cross_entropy" and target.is_floating_point() and target.dim() > 1:
        return int(target.numel() // max(1, target.shape[1]))
    return int(target.numel())


def _function(name: str) -> Callable[..., Any]:
    functional = torch.nn.functional
    kinds: dict[str, Callable[..., Any]] = {
        "cross_entropy": functional.cross_entropy,
        "bce_with_logits": functional.binary_cross_entropy_with_logits,
        "mse": functional.mse_loss,
        "l1": functional.l1_loss,
    }
    return kinds[name]


def read_settings(folder: Path) -> dict[str, Any]:
    """train.json. Raises UserError."""
    path = folder / "train.json"
    settings = json.loads(path.read_text()) if path.exists() else {}
    for key, known in (("loss", LOSSES), ("optimizer", tuple(LEARNING_RATES))):
        value = settings.get(key)
        if value is not None and value not in known:
            raise UserError(f"train.json: {key} {value!r} is not known: use one of {', '.join(known)}")
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


def the_sample(dataset: Any, index: int, name: str = "train") -> tuple[Any, Any]:
    sample = dataset[index]
    if not isinstance(sample, tuple | list) or len(sample) != 2:
        raise UserError(f"data.py: {name}[{index}] is a {type(sample).__name__}, not the pair (input, target)")
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


def named_tensors(model: Any) -> dict[str, torch.Tensor]:
    """What weights.safetensors holds: `state_dict()`, of tied tensors under their first name alone."""
    named: dict[str, torch.Tensor] = {}
    seen = set()
    for name, tensor in model.state_dict().items():
        if not isinstance(tensor, torch.Tensor):
            raise UserError(f"model.py: state_dict() holds a {type(tensor).__name__} at {name!r}: keep tensors alone")
        if _place_of(tensor) not in seen:
            seen.add(_place_of(tensor))
            named[name] = tensor
    return named


def take(model: Any, given: Mapping[str, torch.Tensor]) -> None:
    """Put these values into the model's own tensors, which other parts may hold."""
    state = model.state_dict()
    with torch.no_grad():
        for name, tensor in given.items():
            state[name].copy_(tensor)


def check_weights(folder: Path, model: Any) -> None:
    """Whether the weights are the model's, by names and shapes: the values make no difference to a plan."""
    needed = named_tensors(model)
    path = folder / WEIGHTS
    if not path.exists():
        return
    with path.open("rb") as file:
        header = json.loads(file.read(min(int.from_bytes(file.read(8), "little"), MAX_HEADER_BYTES)))
    given = {name: list(entry["shape"]) for name, entry in header.items() if name != "__metadata__"}
    state = model.state_dict()
    wanted = {name: list(tensor.shape) for name, tensor in state.items()}
    # Of tied tensors one name is enough, whichever was kept.
    covered = {_place_of(state[name]) for name in given.keys() & state.keys()}
    missing = {name for name, tensor in needed.items() if _place_of(tensor) not in covered}
    for name in sorted(given.keys() | missing):
        if given.get(name) != wanted.get(name):
            raise UserError(
                f"weights.safetensors: tensor {name[:80]!r} is {given.get(name, 'missing')}, "
                f"but in model.py it is {wanted.get(name, 'missing')}"
            )


def _place_of(tensor: torch.Tensor) -> tuple[Any, ...]:
    """The same for two names of one tensor."""
    at = tensor.data_ptr() if tensor.numel() else id(tensor)
    return at, tuple(tensor.shape), tensor.stride(), tensor.dtype


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


def explained(error: BaseException, folder: Path, *, advised: bool = True) -> str:
    """What the user has to know of an exception: file and line of their own, the words, and what to do (`advised`: of
    a step of training)."""
    if isinstance(error, UserError):
        return str(error)
    if isinstance(error, SyntaxError) and error.filename:
        return f"{_relative(error.filename, folder)}, line {error.lineno}: {type(error).__name__}: {error.msg}"
    frames = [each for each in traceback.extract_tb(error.__traceback__) if _is_own(each.filename, folder)]
    own = [f"{_relative(each.filename, folder)}, line {each.lineno}" for each in frames[-SHOWN_FRAMES:]]
    where = f"{own[-1]}: " if own else ""
    through = f" (called from {'; '.join(own[:-1])})" if own[:-1] else ""
    words = " ".join(str(error).split())[:MAX_ERROR_LENGTH]
    return f"{where}{type(error).__name__}: {words}{through}{_advice(error) if advised else ''}"


def _advice(error: BaseException) -> str:
    if isinstance(error, ModuleNotFoundError):
        return (
            ". A plan imports torch, numpy, what else is installed where it is made, and the files of the zip; a pod "
            "installs requirements.txt as well"
        )
    if isinstance(error, PermissionError):
        return ". The model is checked without network, and only its own folder can be read: put the data into the zip"
    if isinstance(error, TypeError) and "positional argument" in str(error):
        return ". The model is built without arguments and called with the input of a sample"
    if isinstance(error, MemoryError) or "allocate memory" in str(error):
        return ". Two samples need more memory than a check may take: make the model or the sample smaller"
    if isinstance(error, RuntimeError) and "dtype" in str(error):
        return ". Give inputs of the type of the weights, for example float32"
    return ""


def _is_own(filename: str, folder: Path) -> bool:
    return Path(filename).is_relative_to(folder)


def _relative(filename: str, folder: Path) -> str:
    return str(Path(filename).relative_to(folder)) if _is_own(filename, folder) else Path(filename).name


def main() -> NoReturn:
    """Folders are named from PLACE on; PACKAGES, where there is one, holds what requirements.txt asks for."""
    place, code, *packages = sys.argv[1:]
    folder = Path(place) / code
    sys.path.insert(0, str(folder))
    sys.path.extend(str(Path(place) / each) for each in packages)

    def answer() -> dict[str, Any]:
        try:
            try_one_step(folder)
        except BaseException as error:  # SystemExit too: whatever the user's code raises is theirs to read
            return {"error": explained(error, folder)}
        return {}

    end_with(answer)


def end_with(answer: Callable[[], Mapping[str, Any]]) -> NoReturn:
    """Print what `answer` finds as one JSON line, and end, without the user's exit handlers and threads."""
    # The user's prints must not mix with the answer.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    torch.set_num_threads(1)
    torch.manual_seed(0)
    answers.write(json.dumps(answer()) + "\n")
    answers.flush()
    os._exit(0)


if __name__ == "__main__":
    main()
