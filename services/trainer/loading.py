"""From an empty machine to the step that comes next: fetch, load, take over, restore."""

from __future__ import annotations

import gc
import json
import threading
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import structlog

from services.trainer import datasets, domain, encoding, inputs, packing, standby
from services.trainer.checkpoints import Bucket, Checkpoints, Restored
from services.trainer.domain import Point, Recipe
from services.trainer.interruption import Interruption
from services.trainer.progress import Progress
from services.trainer.settings import PodSettings
from sskai.events import v1 as events

if TYPE_CHECKING:
    from services.trainer import finetune
    from services.trainer.training import Training

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
    threads: int = 1
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
            from services.trainer import finetune, randomness

            interruption.check()
            device = finetune.device_of_this_machine()
            base = finetune.load_base(
                fetching_model.result(),
                device,
                method=spec.model.method,
                labels=spec.dataset.labels,
                seed=spec.hyperparameters.seed,
            )
        interruption.check()
        with fetching_data.result().open("rb") as lines:
            rows = encoding.encode(lines, spec.dataset.format, base.tokenizer, labels=spec.dataset.labels)
        log.info("base model and data loaded")
        restored = taking_over.result()
    running, saved = _carry_on(restored, settings)
    randomness.make_deterministic(running.threads)
    recipe, data, chosen, held_out = _settle(settings, spec, rows, base, saved)
    training = _training(base, spec, recipe, chosen, held_out)
    if restored:
        training.restore(restored.folder)
    (folder / CURVE).write_bytes(running.curve)
    interruption.check()
    return Loaded(training, running, restored, data, finetune.versions())


def _training(
    base: finetune.Base, spec: events.JobSpec, recipe: Recipe, chosen: Sequence[Any], held_out: Sequence[Any]
) -> Training:
    from services.trainer import finetune
    from services.trainer.training import Training

    kinds: dict[str, Any] = {
        domain.CLASSIFICATION: finetune.Classifier,
        domain.PREFERENCE: finetune.Preferences,
    }
    task = kinds.get(spec.dataset.format, finetune.LanguageModel)(
        base, recipe, spec.model.model_id or spec.model.uri, chosen, held_out
    )
    return Training(task, recipe, base.device)


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


def _carry_on(restored: Restored | None, settings: PodSettings) -> tuple[Running, Recipe | None]:
    recipe = None
    running = Running(threads=settings.trainer_threads)
    if restored:
        state = json.loads((restored.folder / STATE).read_text())
        running = Running.from_json(state, (restored.folder / CURVE).read_bytes())
        recipe = Recipe.from_json(state["recipe"])
    running.lineage.append(Point(settings.attempt, restored.point.step if restored else 0))
    return running, recipe


def _settle(
    settings: PodSettings,
    spec: events.JobSpec,
    rows: Sequence[datasets.AnyRow],
    base: finetune.Base,
    saved: Recipe | None,
) -> tuple[Recipe, datasets.Prepared, Sequence[Any], Sequence[Any]]:
    """The recipe, the data at its length, what is trained on (packed if the recipe says so) and what is held out."""
    from services.trainer import finetune

    plan = settings.planned()
    length = domain.sequence_length(
        spec,
        plan,
        longest_row_tokens=datasets.longest(rows),
        context_tokens=getattr(base.model.config, "max_position_embeddings", 0) or 0,
    )
    data = datasets.cut(rows, saved.sequence_length if saved else length)

    def resolve(sequences: int) -> Recipe:
        recipe = domain.resolve(
            spec,
            plan,
            rows=len(data.rows),
            sequences=sequences,
            sequence_length=length,
            parameters=base.model.num_parameters(),
            dropout=settings.lora_dropout,
            precision=finetune.precision(base.device, spec.model.method),
        )
        return domain.resumed(saved, recipe) if saved else recipe

    recipe = resolve(sequences=0)
    chosen, held_out = (datasets.Selected(data.rows, part) for part in domain.split(len(data.rows), recipe))
    if not recipe.packing:
        return recipe, data, chosen, held_out
    finetune.require_parts_apart(base)
    packed = packing.Packed(cast("Sequence[datasets.Row]", chosen), recipe.sequence_length)
    told = replace(data, report=replace(data.report, sequences=len(packed)))
    return resolve(sequences=len(packed)), told, packed, held_out
