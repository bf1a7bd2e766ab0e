"""From an empty machine to the step that comes next: fetch, load, take over, restore."""

from __future__ import annotations

import json
import os
import threading
from collections import deque
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import structlog

from services.trainer import preparing, standby
from services.trainer.checkpoints import Checkpoints, Restored
from services.trainer.domain import Point, Recipe
from services.trainer.interruption import Interruption
from services.trainer.patience import Patience, Source
from services.trainer.preparing import Order
from services.trainer.progress import Progress
from services.trainer.settings import PodSettings
from sskai.events import v1 as events

if TYPE_CHECKING:
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
    eval_accuracy_before: float | None = None  # of those that name classes
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
            "eval_accuracy_before": self.eval_accuracy_before,
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
            eval_accuracy_before=state.get("eval_accuracy_before"),
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
    data: Mapping[str, int]  # what it turned out to be, counted
    versions: Mapping[str, str]  # of the libraries, for manifests
    base_folder: Path  # of the model that the training began with
    workers: Workers


def load(
    settings: PodSettings,
    spec: events.JobSpec,
    bucket: Source,
    *,
    checkpoints: Checkpoints,
    patience: Patience,
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
        restored = patience(lambda: checkpoints.take_over(folder / "restored"))
        log.info("took over", step=checkpoints.resumed_step)
        return restored

    with ThreadPoolExecutor(3) as pool, _set_at_the_end(given_up):
        taking_over = pool.submit(take_over)
        settle = preparing.prepare(Order(settings, spec, bucket, pool, interruption, folder))
        log.info("base model and data loaded")
        from services.trainer import randomness, workers

        group = workers.join()
        with group.together():
            restored = taking_over.result()
    restored = _followed(restored, group, checkpoints, folder, patience)
    running, saved = _carry_on(restored, settings, group.size)
    randomness.make_deterministic(running.threads)
    ready = settle(saved, group)
    with group.together():
        if restored:
            ready.training.restore(restored.folder)
        (folder / CURVE).write_bytes(running.curve)
        interruption.check()
    return Loaded(ready.training, running, restored, ready.data, ready.versions, ready.base_folder, group)


def _followed(
    restored: Restored | None, group: Workers, checkpoints: Checkpoints, folder: Path, patience: Patience
) -> Restored | None:
    """What the first worker took over from, on every worker's disk."""
    point = group.tell([restored.point.attempt, restored.point.step] if restored else None)
    with group.together():
        if point and not group.first:
            return patience(lambda: checkpoints.follow(Point(*point), folder / "restored"))
        return restored


@contextmanager
def _set_at_the_end(event: threading.Event) -> Iterator[None]:
    try:
        yield
    finally:
        event.set()


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
