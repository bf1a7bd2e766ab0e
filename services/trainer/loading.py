"""From an empty machine to the step that comes next: fetch, load, take over, restore."""

from __future__ import annotations

import gc
import json
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import structlog

from services.trainer import credentials, datasets, domain, inputs, standby, usersource
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
    base_folder: Path  # of the model that the training began with


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
        prepare = _own_model if spec.model.code_uri else _transformers_model
        settle = prepare(settings, spec, bucket, pool=pool, interruption=interruption, folder=folder)
        log.info("base model and data loaded")
        restored = taking_over.result()
    from services.trainer import randomness

    running, saved = _carry_on(restored, settings)
    randomness.make_deterministic(running.threads)
    training, data, versions, base_folder = settle(saved)
    if restored:
        training.restore(restored.folder)
    (folder / CURVE).write_bytes(running.curve)
    interruption.check()
    return Loaded(training, running, restored, data, versions, base_folder)


# Takes the recipe that a checkpoint holds; gives the training, its data, the libraries' versions, and the folder that
# all began with.
Settle: TypeAlias = "Callable[[Recipe | None], tuple[Training, datasets.Prepared, dict[str, str], Path]]"


def _transformers_model(
    settings: PodSettings,
    spec: events.JobSpec,
    bucket: Bucket,
    *,
    pool: ThreadPoolExecutor,
    interruption: Interruption,
    folder: Path,
) -> Settle:
    """A transformers folder and a dataset, loaded."""
    fetching_data = pool.submit(inputs.dataset_file, spec.dataset, bucket, folder)
    fetching_model = pool.submit(inputs.model_folder, spec.model, settings.models_dir, bucket, folder)
    with _without_garbage_collection():
        with _without_scipy():
            from services.trainer import device, finetune

            pictured = spec.dataset.format == domain.TEXT_TO_IMAGE
            load_base = finetune.load_base
            if pictured:
                from services.trainer import diffusion

                load_base = diffusion.load_base
        interruption.check()
        base = load_base(
            fetching_model.result(),
            device.device_of_this_machine(),
            method=spec.model.method,
            labels=spec.dataset.labels,
            seed=spec.hyperparameters.seed,
        )
    interruption.check()
    rows: list[Any]
    if pictured:
        rows = diffusion.pictures(fetching_data.result(), folder / "pictures")
    else:
        with fetching_data.result().open("rb") as lines:
            rows = datasets.encode(lines, spec.dataset.format, base.tokenizer, labels=spec.dataset.labels)
    versions = finetune.versions() | (diffusion.versions() if pictured else {})

    def settle(saved: Recipe | None) -> tuple[Training, datasets.Prepared, dict[str, str], Path]:
        recipe, data = _settle(settings, spec, rows, base, saved)
        return _training(base, spec, recipe, data.rows), data, versions, base.folder

    return settle


def _own_model(
    settings: PodSettings,
    spec: events.JobSpec,
    bucket: Bucket,
    *,
    pool: ThreadPoolExecutor,
    interruption: Interruption,
    folder: Path,
) -> Settle:
    """A model as code, checked, with its data."""

    def ready() -> usersource.Source:
        source = usersource.fetch(spec.model, bucket, folder)
        usersource.install(source, allowed=settings.trainer_install_requirements)
        if settings.previous is None or settings.previous.step == 0:
            usersource.check(source)  # else an earlier attempt has trained it
        return source

    making_ready = pool.submit(ready)
    with _without_garbage_collection():
        import torch

        from services.trainer import device, usercode
        from services.trainer.training import Training
    source = making_ready.result()
    interruption.check()
    here = device.device_of_this_machine()
    credentials.scrub(given=[*spec.secrets, *spec.env])
    own = usercode.build(source, spec.hyperparameters.seed, here)
    interruption.check()

    def settle(saved: Recipe | None) -> tuple[Training, datasets.Prepared, dict[str, str], Path]:
        if here.type == "cuda":
            # Of the user's operators some have no deterministic kind on GPUs: that is told, and stops nothing.
            torch.use_deterministic_algorithms(True, warn_only=True)
        planned = usercode.recipe(spec, settings.planned(), own, here)
        recipe = domain.resumed(saved, planned) if saved else planned
        task = usercode.OwnModel(own, recipe, here, source.code, spec.model.code_uri)
        return Training(task, recipe, here), datasets.Prepared([], 0, 0), usercode.versions(), source.code

    return settle


def _training(base: finetune.Base, spec: events.JobSpec, recipe: Recipe, rows: Sequence[Any]) -> Training:
    from services.trainer import finetune
    from services.trainer.training import Training

    kinds: dict[str, Any] = {
        domain.CLASSIFICATION: finetune.Classifier,
        domain.PREFERENCE: finetune.Preferences,
    }
    if spec.dataset.format == domain.TEXT_TO_IMAGE:
        from services.trainer import diffusion

        kinds[domain.TEXT_TO_IMAGE] = diffusion.TextToImage
    chosen, held_out = domain.split(len(rows), recipe)
    task = kinds.get(spec.dataset.format, finetune.LanguageModel)(
        base,
        recipe,
        spec.model.model_id or spec.model.uri,
        [rows[index] for index in chosen],
        [rows[index] for index in held_out],
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


@contextmanager
def _without_scipy() -> Iterator[None]:
    """Where scipy is installed (a user's model may want it) transformers imports it for the losses of detectors: a
    second of each start that no model here has a use for."""
    hidden = "scipy" not in sys.modules
    if hidden:
        sys.modules["scipy"] = None  # type: ignore[assignment]  # what importing reads as "is not there"
    try:
        yield
    finally:
        if hidden:
            del sys.modules["scipy"]


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
    settings: PodSettings, spec: events.JobSpec, rows: list[Any], base: finetune.Base, saved: Recipe | None
) -> tuple[Recipe, datasets.Prepared]:
    from services.trainer.device import precision

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
        precision=precision(base.device, spec.model.method),
    )
    return (domain.resumed(saved, recipe) if saved else recipe), data
