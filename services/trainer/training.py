"""One optimizer step, evaluation, and the exact state between two steps, whatever is trained.

What differs between a language model, a classifier, preferences, images and a user's own model is a `Task`. On a CPU
everything is deterministic: same recipe, same samples, same number of threads, same kind of processor give the same
bits. A snapshot holds all that the next step depends on, so a resumed run's losses equal the uninterrupted run's.
"""

from __future__ import annotations

import json
import math
import resource
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import structlog
import torch
from safetensors.torch import load_file

from services.trainer import sharding
from services.trainer.domain import Recipe, TrainingFailedError
from services.trainer.randomness import RandomState, Tensors, seed_all
from services.trainer.saving import Snapshot
from services.trainer.workers import ALONE, Workers

if TYPE_CHECKING:
    from services.trainer.weights import Weights  # which imports peft: seconds that a model as code does not need

log = structlog.get_logger()

# Entered around work that may be dropped at any point; raises when it has to be.
Stoppable = Callable[[], AbstractContextManager[None]]

OPTIMIZER = "optimizer.safetensors"
RANDOM = "random.safetensors"
STATE = "state.json"
CURVE = "losses.jsonl"
BETAS = (0.9, 0.999)
EPSILON = 1e-8
MOMENTUM = 0.9


class Task(Protocol):
    """A model and what it learns from. `training` and `held_out` are read by index, a sample at a time."""

    model: Any
    weights: Weights
    training: Sequence[Any]
    held_out: Sequence[Any]

    def loss(self, samples: Sequence[Any]) -> torch.Tensor:
        """Summed over what the samples teach, float32, with its graph."""

    def targets(self, samples: Sequence[Any]) -> int:
        """What a step's summed loss is divided by: tokens to predict, pairs, images."""

    def tokens(self, samples: Sequence[Any]) -> int:
        """What was read of them, for the throughput."""

    def names(self, samples: Sequence[Any]) -> str:
        """Which rows these are, for an error that a user reads."""


@runtime_checkable
class Naming(Protocol):
    """A task that may name classes, so that what it names right can be counted."""

    def graded(self, samples: Sequence[Any]) -> tuple[torch.Tensor, int | None]:
        """(`loss`, how many of the targets are named right), by one pass; None: they are no classes."""


@dataclass(frozen=True, slots=True)
class Step:
    """`loss`: mean over the targets, nats; `tokens`: all that were read."""

    loss: float
    tokens: int


@dataclass(frozen=True, slots=True)
class Evaluation:
    """`loss`: mean over the held-out targets, nats. `accuracy`: the share that is named right; None: not of classes."""

    loss: float
    accuracy: float | None = None


class Training:
    """A task that learns. `step` counts what is done."""

    def __init__(self, task: Task, recipe: Recipe, device: torch.device, workers: Workers = ALONE) -> None:
        self.task = task
        self.recipe = recipe
        self.step = 0
        self._device = device
        self._workers = workers
        self._trainable = {name: it for name, it in task.model.named_parameters() if it.requires_grad}
        self._optimizer = _optimizer(recipe, self._trainable.values())
        # float16 alone underflows; only GPUs without bfloat16 compute in it.
        self._scaler = torch.amp.GradScaler(device.type, enabled=recipe.precision == "float16")
        self._halved = False
        seed_all(recipe.seed)
        self._random = RandomState.of(device)
        # Those that last, such as a batch norm's: each worker's own samples move them.
        lasting = task.model.state_dict().keys() if workers.size > 1 else ()
        self._buffers = [value for name, value in task.model.named_buffers() if name in lasting]
        if not workers.sharded:
            workers.spread([*self._trainable.values(), *self._buffers])

    def learn(self, chosen: Sequence[int], learning_rate: float, stoppable: Stoppable) -> Step:
        """One optimizer step on these training samples, a micro-batch at a time, each inside `stoppable()`, which may
        raise: then nothing but gradients has changed. Raises TrainingFailedError("nan-loss"), and "out-of-memory" when
        half a micro-batch does not fit either."""
        task, workers = self.task, self._workers
        task.model.train()
        self._optimizer.zero_grad(set_to_none=True)
        seed = workers.seed(self.recipe.seed, self.step)
        if seed is not None:
            seed_all(seed)
            self._random = RandomState.of(self._device)
        with workers.together():
            samples = [task.training[index] for index in workers.share(chosen)]
            counted = (task.targets(samples), task.tokens(samples)) if samples else (0, 0)
        targets, tokens = workers.total(*counted)
        with self._buffers_as_before_if_stopped():
            own_loss = self._accumulate(samples, chosen, targets, stoppable)
        (loss,) = workers.total(own_loss)
        workers.add_gradients(list(self._trainable.values()))
        workers.spread(self._buffers)
        self._update(chosen, learning_rate)
        return Step(loss, int(tokens))

    @contextmanager
    def _buffers_as_before_if_stopped(self) -> Iterator[None]:
        """A forward pass moves the running figures of batch normalisation: a step that is dropped must not."""
        buffers = list(self.task.model.buffers())
        before = [each.clone() for each in buffers]
        try:
            yield
        except BaseException:
            for each, value in zip(buffers, before, strict=True):
                each.copy_(value)
            raise

    def _accumulate(self, samples: Sequence[Any], chosen: Sequence[int], targets: float, stoppable: Stoppable) -> float:
        """This worker's part of the batch's loss, and of its gradients; once more by halves if memory is short."""
        if self._workers.sharded:
            return self._backward_in_step(samples, chosen, targets, stoppable)
        with self._workers.together():
            try:
                return self._backward(samples, targets, stoppable)
            except Exception as error:
                if not is_out_of_memory(error) or self._halved or self.recipe.micro_batch_size == 1:
                    raise
                half = max(1, self.recipe.micro_batch_size // 2)
                log.warning("out of memory: the micro-batch is halved", step=self.step + 1, micro_batch_size=half)
            self._halved = True
            self.recipe = replace(self.recipe, micro_batch_size=half)
            self._optimizer.zero_grad(set_to_none=True)
            if self._device.type == "cuda":
                torch.cuda.empty_cache()
            self._random.restore(self._device)
            return self._backward(samples, targets, stoppable)

    def _backward(self, samples: Sequence[Any], targets: float, stoppable: Stoppable) -> float:
        loss = 0.0
        for micro in self._micro_batches(samples):
            with stoppable():
                micro_loss = self.task.loss(micro) / targets
                value = micro_loss.item()
                if not math.isfinite(value):
                    raise self._not_finite(f"the loss is {value}", micro)
                self._scaler.scale(micro_loss).backward()
            loss += value
        return loss

    def _backward_in_step(
        self, samples: Sequence[Any], chosen: Sequence[int], targets: float, stoppable: Stoppable
    ) -> float:
        """The same for a model in parts. Every pass exchanges them, so all workers make as many, and none stops in
        between: one that has no sample left takes any, and learns nothing from it."""
        loss, failure = 0.0, None
        for micro, counts in self._in_step(samples, len(chosen), self.task.training[chosen[0]]):
            # FSDP2 takes the mean over the workers, and gloo can do no other.
            micro_loss = self.task.loss(micro) * (counts * self._workers.size / targets)
            value = micro_loss.item() / self._workers.size
            if not math.isfinite(value) and failure is None:
                failure = self._not_finite(f"the loss is {value}", micro)
            self._scaler.scale(micro_loss).backward()
            loss += value
        with self._workers.together():
            if failure is not None:
                raise failure
            with stoppable():
                return loss

    def _in_step(self, own: Sequence[Any], count: int, spare: Any) -> Iterable[tuple[Sequence[Any], int]]:
        """(micro-batch, whether it counts): as many on every worker, of `count` samples on all of them."""
        size = self.recipe.micro_batch_size
        rounds = math.ceil(math.ceil(count / self._workers.size) / size)
        pieces = list(_pieces(own, size))
        return [(piece, 1) for piece in pieces] + [([spare], 0)] * (rounds - len(pieces))

    def _update(self, chosen: Sequence[int], learning_rate: float) -> None:
        self._scaler.unscale_(self._optimizer)
        norm: Any = torch.nn.utils.clip_grad_norm_(self._trainable.values(), self.recipe.max_gradient_norm)
        norm = norm.full_tensor() if self._workers.sharded else norm
        # A scaled gradient may overflow: the scaler then leaves the step out and takes a smaller scale.
        if not torch.isfinite(norm) and not self._scaler.is_enabled():
            samples = [self.task.training[index] for index in chosen]
            raise self._not_finite(f"the gradient's norm is {norm.item()}", samples)
        for group in self._optimizer.param_groups:
            group["lr"] = learning_rate
        self._scaler.step(self._optimizer)
        self._scaler.update()
        self.step += 1
        self._random = RandomState.of(self._device)

    def evaluate(self, stoppable: Stoppable) -> Evaluation:
        """Of all held-out samples; leaves no trace in any generator."""
        task = self.task
        task.model.eval()
        own_figures = [0.0] * 4
        own = self._workers.share(range(len(task.held_out)))
        if self._workers.sharded:
            for indices, counts in self._in_step(own, len(task.held_out), 0):
                judged = self._judged([task.held_out[index] for index in indices])
                own_figures = [so_far + counts * value for so_far, value in zip(own_figures, judged, strict=True)]
        with self._workers.together():
            for indices in () if self._workers.sharded else self._micro_batches(own):
                with stoppable():
                    judged = self._judged([task.held_out[index] for index in indices])
                    own_figures = [so_far + value for so_far, value in zip(own_figures, judged, strict=True)]
        self._random.restore(self._device)
        loss, targets, right, named = self._workers.total(*own_figures)
        return Evaluation(loss / targets, right / named if named else None)

    def _judged(self, samples: Sequence[Any]) -> tuple[float, int, int, int]:
        """(summed loss, its targets, those named right, those that are classes to be named)."""
        task, right = self.task, None
        with torch.no_grad():
            if isinstance(task, Naming):
                loss, right = task.graded(samples)
            else:
                loss = task.loss(samples)
        targets = task.targets(samples)
        return loss.item(), targets, right or 0, 0 if right is None else targets

    def snapshot(self, state: Mapping[str, Any], curve: bytes) -> Snapshot:
        """All that the next step depends on, not copied yet. Between two steps, or after `learn` was stopped."""
        optimizer: Tensors = {}
        for name, parameter in self._trainable.items():
            for key, value in self._optimizer.state.get(parameter, {}).items():
                if isinstance(value, torch.Tensor):
                    optimizer[f"{name}.{key}"] = value.detach()
        known = {
            **state,
            "step": self.step,
            "recipe": self.recipe.to_json(),
            "random": self._random.json,
            "scaler": self._scaler.state_dict(),
        }
        weights = self.task.weights
        snapshot = Snapshot(
            step=self.step,
            tensors={**weights.tensors(), OPTIMIZER: optimizer, RANDOM: dict(self._random.tensors)},
            texts={**weights.texts(), STATE: json.dumps(known, indent=1).encode(), CURVE: curve},
        )
        return sharding.part(snapshot, self._workers) if self._workers.sharded else snapshot

    def restore(self, folder: Path) -> None:
        """The opposite of `snapshot`, once it was saved."""
        state = read_state(folder)
        saved = sharding.Saved(folder)
        if self._workers.sharded:
            sharding.load(saved, self.task.weights.tensors())
        else:
            saved.join()
            self.task.weights.load(folder)
        known = saved.names(OPTIMIZER)
        for name, parameter in self._trainable.items():
            moments: Tensors = {}
            for key in _STATE_KEYS:
                if f"{name}.{key}" in known:
                    # AdamW counts its steps in a tensor that stays on the CPU.
                    value = torch.zeros(()) if key == "step" else torch.zeros_like(parameter, dtype=torch.float32)
                    sharding.load(saved, {OPTIMIZER: {f"{name}.{key}": value}})
                    moments[key] = value
            if moments:
                self._optimizer.state[parameter] = moments
        if state.get("scaler"):
            self._scaler.load_state_dict(state["scaler"])
        self.step = int(state["step"])
        self._random = RandomState(load_file(folder / RANDOM), state["random"])
        self._random.restore(self._device)

    def peak_memory_bytes(self) -> int:
        """The most that was held at once: of the GPU's memory on a GPU, else resident on this machine."""
        if self._device.type == "cuda":
            return int(torch.cuda.max_memory_allocated(self._device))
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024  # Linux tells it in KiB

    def _micro_batches(self, samples: Sequence[Any]) -> Iterable[Sequence[Any]]:
        return _pieces(samples, self.recipe.micro_batch_size)

    def _not_finite(self, what: str, samples: Sequence[Any]) -> TrainingFailedError:
        return TrainingFailedError(
            "nan-loss",
            f"step {self.step + 1}: {what} on {self.task.names(samples)}; look at these rows, or lower the learning "
            f"rate ({self.recipe.learning_rate:g})",
        )


_STATE_KEYS = ("step", "exp_avg", "exp_avg_sq", "momentum_buffer")


def _optimizer(recipe: Recipe, parameters: Iterable[Any]) -> torch.optim.Optimizer:
    if recipe.optimizer == "sgd":
        return torch.optim.SGD(parameters, lr=0.0, momentum=MOMENTUM, weight_decay=recipe.weight_decay)
    kind = torch.optim.Adam if recipe.optimizer == "adam" else torch.optim.AdamW
    return kind(parameters, lr=0.0, betas=BETAS, eps=EPSILON, weight_decay=recipe.weight_decay)


def _pieces(samples: Sequence[Any], size: int) -> Iterable[Sequence[Any]]:
    return (samples[start : start + size] for start in range(0, len(samples), size))


def read_state(folder: Path) -> dict[str, Any]:
    """The JSON half of a snapshot's state."""
    state: dict[str, Any] = json.loads((folder / STATE).read_text())
    return state


def is_out_of_memory(error: BaseException) -> bool:
    """CUDA has a class for it; the CPU's allocator has only its text."""
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or "can't allocate memory" in str(error)
