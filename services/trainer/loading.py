"""From an empty machine to the step that comes next: fetch, load, take over, restore."""

from __future__ import annotations

import gc
import json
import os
import threading
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import structlog

from services.trainer import datasets, domain, inputs, standby
from services.trainer.checkpoints import Bucket, Checkpoints, Restored
from services.trainer.domain import Point, Recipe
from services.trainer.interruption import Interruption
from services.trainer.progress import Progress
from services.trainer.settings import PodSettings
from sskai.events import v1 as events

if TYPE_CHECKING:
    from services.trainer import finetune
    from services.trainer.training import Training
    from services.trainer.workers import Workers

log = structlog.get_logger()

CURVE = "losses.jsonl"
STATE = "state.json"
RECENT_STEPS = 100  # whose median is told as the time of a step


@dataclass
class Running:
    """Figures of the whole job, which each checkpoint carries on."""

    eval_loss_before: float = 0.0
    evaluation_seconds: float = 0.0
    tokens: int = 0
    train_seconds: float = 0.0
    threads: int = 1  # of each worker
    workers: int = 1
    lineage: list[Point] = field(default_factory=list)  # each attempt, and the step it went on from
    curve: bytes = b""  # a line of JSON per step
    step_seconds: deque[float] = field(default_factory=lambda: deque(maxlen=RECENT_STEPS))  # of this attempt

    def to_json(self) -> dict[str, Any]:
        return {
            "eval_loss_before": self.eval_loss_before,
            "evaluation_seconds": self.evaluation_seconds,
            "tokens": self.tokens,
            "train_seconds": self.train_seconds,
            "threads": self.threads,
            "workers": self.workers,
            "lineage": [[point.attempt, point.step] for point in self.lineage],
        }

    @classmethod
    def from_json(cls, state: dict[str, Any], curve: bytes) -> Running:
        return cls(
            eval_loss_before=state["eval_loss_before"],
            evaluation_seconds=state["evaluation_seconds"],
            tokens=state["tokens"],
            train_seconds=state["train_seconds"],
            threads=state["threads"],
            workers=state.get("workers", 1),
            lineage=[Point(*pair) for pair in state["lineage"]],
            curve=curve,
        )

    def losses(self) -> list[float]:
        return [json.loads(line)["loss"] for line in self.curve.splitlines()]


@dataclass(frozen=True)
class Loaded:
    """All that an attempt needs; `training.step` is where it goes on."""

    training: Training
    running: Running
    restored: Restored | None
    data: datasets.Prepared
    versions: dict[str, str]  # of the libraries, for manifests
    workers: Workers


def load(
    settings: PodSettings,
    spec: events.JobSpec,
    bucket: Bucket,
    *,
    checkpoints: Checkpoints,
    interruption: Interruption,
    progress: Progress,
    folder: Path,
) -> Loaded:
    """Downloads run, and an earlier attempt drains, while the libraries are imported: those take most of the time
    between start and first step.

    Raises NoticeError, FencedError, TrainingFailedError, ObjectsUnavailableError.
    """
    given_up = threading.Event()

    def take_over() -> Restored | None:
        if int(os.environ.get("RANK", "0")) > 0:
            return None  # the first worker does, and tells which
        awaited = settings.awaited()
        if awaited is not None:
            progress.phase("standing-by")
            standby.wait_for_end(awaited, checkpoints, interruption, given_up)
            progress.phase("starting")
        restored = checkpoints.take_over(folder / "restored")
        log.info("took over", step=checkpoints.resumed_step)
        return restored

    with ThreadPoolExecutor(3) as pool, _set_at_the_end(given_up):
        taking_over = pool.submit(take_over)
        fetching_data = pool.submit(inputs.dataset_file, spec.dataset, bucket, folder)
        fetching_model = pool.submit(inputs.model_folder, spec.model, settings.models_dir, bucket, folder)
        with _without_garbage_collection():
            from services.trainer import finetune, randomness, workers

            interruption.check()
            group = workers.join()
            device = finetune.device_of_this_machine()
            base = finetune.load_base(
                fetching_model.result(),
                device,
                method=spec.model.method,
                labels=spec.dataset.labels,
                seed=spec.hyperparameters.seed,
                place=group.size == 1,
            )
        interruption.check()
        with fetching_data.result().open("rb") as lines:
            rows = datasets.encode(lines, spec.dataset.format, base.tokenizer, labels=spec.dataset.labels)
        log.info("base model and data loaded")
        with group.together():
            restored = taking_over.result()
    restored = _followed(restored, group, checkpoints, folder)
    running, saved = _carry_on(restored, settings, group.size)
    randomness.make_deterministic(running.threads)
    recipe, data = _settle(settings, spec, rows, base, saved)
    training = _training(base, spec, settings.planned(), recipe, data.rows, group)
    with group.together():
        if restored:
            training.restore(restored.folder)
        (folder / CURVE).write_bytes(running.curve)
        interruption.check()
    return Loaded(training, running, restored, data, finetune.versions(), group)


def _followed(restored: Restored | None, group: Workers, checkpoints: Checkpoints, folder: Path) -> Restored | None:
    """What the first worker took over from, on every worker's disk."""
    point = group.tell([restored.point.attempt, restored.point.step] if restored else None)
    with group.together():
        return checkpoints.follow(Point(*point), folder / "restored") if point and not group.first else restored


def _training(
    base: finetune.Base, spec: events.JobSpec, plan: domain.Plan, recipe: Recipe, rows: Sequence[Any], group: Workers
) -> Training:
    import torch

    from services.trainer import finetune, sharding
    from services.trainer.training import Training

    kinds: dict[str, Any] = {
        domain.CLASSIFICATION: finetune.Classifier,
        domain.PREFERENCE: finetune.Preferences,
    }
    chosen, held_out = domain.split(len(rows), recipe)
    task = kinds.get(spec.dataset.format, finetune.LanguageModel)(
        base,
        recipe,
        spec.model.model_id or spec.model.uri,
        [rows[index] for index in chosen],
        [rows[index] for index in held_out],
    )
    memory = torch.cuda.mem_get_info(base.device)[1] if base.device.type == "cuda" else 0
    weights = list(task.model.parameters())
    if domain.must_shard(
        plan,
        workers=group.size,
        weight_bytes=sum(each.nbytes for each in weights),
        learnt=sum(each.numel() for each in weights if each.requires_grad),
        memory_bytes=memory,
    ):
        sharding.shard(task.model, base.device, group)
        log.info("the model is in parts", workers=group.size)
    elif group.size > 1:
        task.model.to(base.device)
    return Training(task, recipe, base.device, group)


@contextmanager
def _set_at_the_end(event: threading.Event) -> Iterator[None]:
    try:
        yield
    finally:
        event.set()


@contextmanager
def _without_garbage_collection() -> Iterator[None]:
    """Importing torch and transformers makes millions of objects, and all of them stay: looking through them again and
    again costs a tenth of the time until the first step."""
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()


def _carry_on(restored: Restored | None, settings: PodSettings, workers: int) -> tuple[Running, Recipe | None]:
    recipe = None
    running = Running(threads=settings.trainer_threads, workers=workers)
    if restored:
        state = json.loads((restored.folder / STATE).read_text())
        running = Running.from_json(state, (restored.folder / CURVE).read_bytes())
        if running.workers != workers:  # sums are rounded differently anyway
            running.workers, running.threads = workers, settings.trainer_threads
        recipe = Recipe.from_json(state["recipe"])
    running.lineage.append(Point(settings.attempt, restored.point.step if restored else 0))
    return running, recipe


def _settle(
    settings: PodSettings, spec: events.JobSpec, rows: list[datasets.AnyRow], base: finetune.Base, saved: Recipe | None
) -> tuple[Recipe, datasets.Prepared]:
    from services.trainer import finetune

    plan = settings.planned()
    length = domain.sequence_length(
        spec,
        plan,
        longest_row_tokens=datasets.longest(rows),
        context_tokens=getattr(base.model.config, "max_position_embeddings", 0) or 0,
    )
    packing = saved.packing if saved else spec.hyperparameters.packing
    data = datasets.cut(rows, saved.sequence_length if saved else length, packing=packing)
    recipe = domain.resolve(
        spec,
        plan,
        rows=len(data.rows),
        sequence_length=length,
        parameters=base.model.num_parameters(),
        dropout=settings.lora_dropout,
        precision=finetune.precision(base.device, spec.model.method),
    )
    return (domain.resumed(saved, recipe) if saved else recipe), data
