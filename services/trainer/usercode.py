"""A user's own model as a task: their files, read by the contract of sskai/usermodel.py, learn in this process."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import structlog
import torch
from safetensors.torch import load_file, save_file

from services.trainer import domain
from services.trainer.comparison import EVALUATION, TRAINED_ROWS, NotComparableError
from services.trainer.device import autocast, precision
from services.trainer.domain import FencedError, Plan, Recipe, TrainingFailedError
from services.trainer.interruption import NoticeError
from services.trainer.manifests import MANIFEST, SAFE_SUFFIXES, SOURCE_SUFFIX
from services.trainer.randomness import Tensors, seed_all, separate
from services.trainer.results import DECLARATION, OWN_MODEL
from services.trainer.training import CURVE, STATE, is_out_of_memory
from services.trainer.usersource import Source
from sskai import usermodel, usermodel_signature
from sskai.events import v1 as events
from sskai.usermodel import WEIGHTS, UserModel

if TYPE_CHECKING:
    from services.trainer.weights import Weights

log = structlog.get_logger()

MAX_TEXT_BYTES = 1024 * 1024  # of a file that every checkpoint carries
# Names that a checkpoint or a result has for files of its own.
TAKEN = {DECLARATION, MANIFEST, STATE, CURVE, EVALUATION, TRAINED_ROWS, "README.md", "training_curve.jsonl"}
RATE_REASON = (
    "torch's own default of Adam and AdamW, or ten times that for SGD with momentum, which train.json asks for"
)
BATCH_REASON = "small enough for hundreds of updates on a small dataset, as far as there are samples"


@dataclass(frozen=True, slots=True)
class Sample:
    """One of the user's, and where it stands in its dataset."""

    index: int
    input: Any
    target: Any


class Samples(Sequence[Sample]):
    """Some of a map-style dataset of the user's, read when they are asked for."""

    def __init__(self, dataset: Any, name: str, code: Path, chosen: Sequence[int]) -> None:
        self._dataset, self._name, self._code, self._chosen = dataset, name, code, chosen

    def __len__(self) -> int:
        return len(self._chosen)

    def __getitem__(self, at: Any) -> Any:
        index = self._chosen[at]
        with explained(self._code):
            return Sample(index, *usermodel.the_sample(self._dataset, index, self._name))


class OwnModel:
    """What the user's model makes of the user's samples; see `training.Task`."""

    def __init__(self, own: UserModel, recipe: Recipe, device: torch.device, code: Path, code_uri: str) -> None:
        self.model = own.model
        self.weights: Weights = OwnWeights(own, code, code_uri)
        self.training: Sequence[Any] = Samples(own.train, "train", code, range(len(own.train)))
        held_out = domain.shuffled(len(own.held_out), recipe.seed, "evaluation")[: recipe.evaluation_rows]
        self.held_out: Sequence[Any] = Samples(own.held_out, "held_out", code, sorted(held_out))
        self._own = own
        self._device = device
        self._code = code
        self._autocast = autocast(device, recipe.precision)

    def loss(self, samples: Sequence[Sample]) -> torch.Tensor:
        with explained(self._code):
            return self._loss(*self._output(samples), len(samples))

    def graded(self, samples: Sequence[Sample]) -> tuple[torch.Tensor, int | None]:
        with explained(self._code):
            output, targets = self._output(samples)
            loss = self._loss(output, targets, len(samples))
            classes = usermodel.of_classes(self._own.loss, targets)
            return loss, int((output.argmax(1) == targets).sum()) if classes else None

    def _output(self, samples: Sequence[Sample]) -> tuple[Any, Any]:
        """(what the model gives, targets)."""
        inputs, targets = usermodel.batch([(each.input, each.target) for each in samples])
        inputs, targets = _moved(inputs, self._device), _moved(targets, self._device)
        with self._autocast():
            output = usermodel.called(self.model, inputs)
        if isinstance(output, torch.Tensor) and output.dtype in (torch.bfloat16, torch.float16):
            output = output.float()
        return output, targets

    def _loss(self, output: Any, targets: Any, count: int) -> torch.Tensor:
        """Raises UserError for what the contract does not mean."""
        loss: torch.Tensor = usermodel.the_loss(self._own.loss, output, targets, count, reduction="sum")
        return loss.float()

    def targets(self, samples: Sequence[Sample]) -> int:
        with explained(self._code):
            stacked = usermodel.stacked([each.target for each in samples], "target")
            return usermodel.targets_of(self._own.loss, usermodel.first_tensor(stacked))

    def tokens(self, samples: Sequence[Sample]) -> int:
        """A sample is planned as a sequence of one token."""
        return len(samples)

    def names(self, samples: Sequence[Sample]) -> str:
        return f"samples {', '.join(str(each.index) for each in samples)} of train"


class OwnWeights:
    """`weights.safetensors` as the contract names it, and the sources beside it: a zip of them is a model again."""

    def __init__(self, own: UserModel, code: Path, code_uri: str) -> None:
        self._model = own.model
        self._texts, left_out = _sources(code)
        about = {
            "kind": OWN_MODEL,
            "method": "scratch",
            "sources": sorted(self._texts),
            "left_out": left_out,  # of the zip: what is no text, lies in a folder, or is large
            "code_uri": code_uri,
            "loss": own.loss,
            "optimizer": own.optimizer,
            **_signature(own),
        }
        self._texts[DECLARATION] = json.dumps(about, indent=1).encode()

    def tensors(self) -> Mapping[str, Tensors]:
        named = usermodel.named_tensors(self._model)
        return {WEIGHTS: {name: value.detach().contiguous() for name, value in named.items()}}

    def texts(self) -> Mapping[str, bytes]:
        return self._texts

    def load(self, folder: Path) -> None:
        usermodel.take(self._model, load_file(folder / WEIGHTS))

    def write(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        # Copies: views into one storage are tensors of their own in a file.
        named = {name: value.to("cpu", copy=True) for name, value in self.tensors()[WEIGHTS].items()}
        save_file(named, folder / WEIGHTS, metadata={"format": "pt"})
        for name, text in self._texts.items():
            (folder / name).write_bytes(text)

    def take(self, folder: Path | None) -> None:
        path = folder / WEIGHTS if folder else None
        if path is None or not path.is_file():
            raise NotComparableError(f"there is no {WEIGHTS}")
        saved, state = load_file(path), self._model.state_dict()
        needed = usermodel.named_tensors(self._model)
        shapes = {name: value.shape for name, value in saved.items()}
        if shapes != {name: state[name].shape for name in needed}:
            raise NotComparableError("its weights are another model's")
        usermodel.take(self._model, saved)


def build(source: Source, seed: int, device: torch.device) -> UserModel:
    """The user's model on this device, drawn from this seed or from their weights. Runs their code in this process.

    Raises TrainingFailedError("user-error") with their file and line.
    """
    sys.path.insert(0, str(source.code))
    sys.path.append(str(source.packages))
    separate()
    seed_all(seed)
    with explained(source.code):
        own = usermodel.build(source.code)
        if (source.code / WEIGHTS).exists():
            usermodel.take(own.model, load_file(source.code / WEIGHTS))
        own.model.to(device)
    return own


def recipe(spec: events.JobSpec, plan: Plan, own: UserModel, device: torch.device) -> Recipe:
    """Settled as every recipe, from what only the code knows: how many samples there are, and the optimizer."""
    samples = len(own.train)
    # Evaluation runs twice, and must stay a small part of the job.
    held_out = min(len(own.held_out), max(domain.MAX_EVALUATION_ROWS, samples // 10))
    parameters = list(own.model.parameters())
    told = events.JobSpec()
    told.CopyFrom(spec)
    told.dataset.eval_fraction = 1 / (samples + 1)  # what is held out is no part of `train`
    settled = domain.resolve(
        told,
        plan,
        rows=samples + 1,
        sequence_length=1,
        parameters=sum(each.numel() for each in parameters),
        precision=precision(device, spec.model.method) if parameters[0].dtype == torch.float32 else "float32",
    )
    reasons = dict(settled.reasons)
    if "batch_size" in reasons:
        reasons["batch_size"] = BATCH_REASON
    rate = spec.hyperparameters.learning_rate or usermodel.LEARNING_RATES[own.optimizer]
    if not spec.hyperparameters.learning_rate:
        reasons["learning_rate"] = RATE_REASON
    return replace(settled, evaluation_rows=held_out, optimizer=own.optimizer, learning_rate=rate, reasons=reasons)


@contextmanager
def explained(code: Path) -> Iterator[None]:
    """What the user's code raises becomes the user's error, with their file and line."""
    try:
        yield
    except (NoticeError, FencedError, TrainingFailedError):
        raise
    except (Exception, SystemExit) as error:
        if is_out_of_memory(error):
            raise
        raise TrainingFailedError("user-error", usermodel.explained(error, code)) from error


def versions() -> dict[str, str]:
    return {"torch": torch.__version__}


def _signature(own: UserModel) -> dict[str, Any]:
    """What the version takes and gives, for whoever serves it. A model that does not tell is trained all the same."""
    try:
        return {usermodel_signature.KEY: usermodel_signature.learn(own)}
    except (NoticeError, FencedError):
        raise
    except Exception as error:  # the user's code may raise anything
        if is_out_of_memory(error):
            raise
        log.warning("what the model takes and gives is not known", error=f"{type(error).__name__}: {error}"[:500])
        return {}


def _sources(code: Path) -> tuple[dict[str, bytes], list[str]]:
    """(texts by name, other files' names)."""
    texts, left_out = {}, []
    for path in sorted(each for each in code.rglob("*") if each.is_file()):
        name = path.relative_to(code).as_posix()
        plain = path.parent == code and path.suffix in SAFE_SUFFIXES | {SOURCE_SUFFIX} and path.suffix != ".safetensors"
        if plain and name not in TAKEN and path.stat().st_size <= MAX_TEXT_BYTES:
            texts[name] = path.read_bytes()
        elif name != WEIGHTS:
            left_out.append(name)
    return texts, left_out


def _moved(value: Any, device: torch.device) -> Any:
    if device.type == "cpu":
        return value
    if isinstance(value, torch.Tensor):
        return value.to(device)
    if isinstance(value, Mapping):
        return {key: _moved(each, device) for key, each in value.items()}
    return tuple(_moved(each, device) for each in value) if isinstance(value, tuple | list) else value
