"""In the pod, once the result is written: what was learnt and the champion, on the same rows, one row at a time.

Adapters of one base are swapped, whole weights are put into the model that is there: nothing is loaded twice.
Afterwards the model is the champion; what was learnt lies in the result's folder.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import structlog
import torch

from services.trainer import comparison, domain, fingerprints, inputs
from services.trainer.comparison import (
    ACCURACY,
    PREFERENCE_ACCURACY,
    ROW_LOSS,
    TRAINED_ROWS,
    Comparison,
    NotComparableError,
)
from services.trainer.domain import PREFERENCE, FencedError, WorkerLostError
from services.trainer.inputs import DATASET
from services.trainer.interruption import NoticeError
from services.trainer.loading import Loaded
from services.trainer.patience import Source
from services.trainer.results import DECLARATION
from services.trainer.training import Naming, Stoppable, Task, is_out_of_memory
from sskai.events import v1 as events
from sskai.objects import NotFoundError, ObjectsUnavailableError

log = structlog.get_logger()

# Formats whose rows are lines of a file, so that a row can be known again.
OF_LINES = frozenset({"text", "messages", "prompt-completion", PREFERENCE, domain.CLASSIFICATION})
CLOCK = time.monotonic


@dataclass(frozen=True, slots=True)
class Order:
    """`folder`: the attempt's; `declared`: what the result says of itself; `rows`, `seconds`: at most."""

    loaded: Loaded
    spec: events.JobSpec
    bucket: Source
    folder: Path
    declared: dict[str, Any]
    rows: int
    seconds: float
    stoppable: Stoppable


@dataclass(frozen=True, slots=True)
class Rows:
    """Held-out samples in an order of chance; their fingerprints, and those of what was trained on; None: unknown."""

    samples: Sequence[Any]
    fingerprints: Sequence[str] | None
    trained: set[str] | None


def rows_of(loaded: Loaded, spec: events.JobSpec, folder: Path) -> Rows:
    """What there is to compare on. A file in order of time or of class must not be cut at its head."""
    held_out = loaded.training.task.held_out
    order = domain.shuffled(len(held_out), loaded.training.recipe.seed, "comparison")
    samples = [held_out[index] for index in order]
    if spec.dataset.format not in OF_LINES or spec.model.code_uri:
        return Rows(samples, None, None)
    with (folder / DATASET).open("rb") as lines:
        known = fingerprints.split(lines, {sample.number for sample in samples})
    if known is None:
        return Rows(samples, None, None)
    return Rows(samples, [known[0][sample.number] for sample in samples], known[1])


def compare(order: Order, rows: Rows) -> Comparison | str:
    """The comparison, or why there is none: the job succeeds either way.

    Raises what `stoppable` raises, and ObjectsUnavailableError: the work is saved, and the next attempt compares.
    """
    try:
        return _compare(order, rows)
    except (NoticeError, FencedError, WorkerLostError, ObjectsUnavailableError):
        raise
    except NotComparableError as error:
        log.info("not compared", why=str(error))
        return str(error)
    except Exception as error:
        if is_out_of_memory(error):
            return "it does not fit into this machine's memory"
        log.exception("comparison failed")
        return f"it could not be measured: {error}"[:500]


def _compare(order: Order, rows: Rows) -> Comparison:
    task, spec = order.loaded.training.task, order.spec
    if order.loaded.workers.sharded:
        raise NotComparableError("the model lies in parts on several machines")
    champion = _fetched(order) if spec.champion.artifact_uri else None
    if champion is None:
        _require_base_comparable(spec)
    of_base = order.loaded.base_folder if spec.model.method in domain.WHOLE else None
    chosen, left_out = _chosen(rows, champion)
    metric, began = _metric(task, spec), CLOCK()
    half, whole = began + order.seconds / 2, began + order.seconds
    ours = list(_measured(task, chosen[: order.rows], metric, half, order.stoppable))
    task.weights.take(champion or of_base)
    theirs = list(_measured(task, chosen[: len(ours)], metric, whole, order.stoppable))
    return comparison.paired(
        ours[: len(theirs)], theirs, metric=metric, version=spec.champion.version, left_out=left_out
    )


def _fetched(order: Order) -> Path:
    spec, champion = order.spec, order.spec.champion
    if champion.base_uri != spec.model.uri and not spec.model.code_uri and spec.model.method not in domain.WHOLE:
        raise NotComparableError(f"it is an adapter of another base, {champion.base_uri}")
    try:
        found = inputs.champion_folder(champion, order.bucket, order.folder)
    except (ValueError, NotFoundError) as error:
        raise NotComparableError(f"its files cannot be used: {error}") from error
    theirs = found / DECLARATION
    if not theirs.is_file():
        raise NotComparableError(f"it does not say what it is: {DECLARATION} is missing")
    if why := comparison.of_one_task(order.declared, json.loads(theirs.read_text())):
        raise NotComparableError(why)
    return found


def _require_base_comparable(spec: events.JobSpec) -> None:
    """The base itself has no head for a dataset's classes, is what preferences are measured from, and has learnt
    nothing where a model begins from scratch."""
    language = not spec.dataset.labels and spec.dataset.format in OF_LINES - {PREFERENCE, domain.CLASSIFICATION}
    if spec.model.code_uri or not language or spec.model.method == "scratch":
        raise NotComparableError("it is the first version, and its base does not know this task")


def _chosen(rows: Rows, champion: Path | None) -> tuple[Sequence[Any], int | None]:
    """Samples that neither has learnt from, and how many others there were; None: nobody can tell."""
    if rows.fingerprints is None or rows.trained is None:
        return rows.samples, None
    learnt, known = set(), champion is None
    if champion is not None and (path := champion / TRAINED_ROWS).is_file():
        learnt, known = set(path.read_text().split()), True
    places = comparison.unseen(rows.fingerprints, rows.trained, learnt)
    left_out = len(rows.samples) - len(places)
    return [rows.samples[place] for place in places], left_out if known else None


def _metric(task: Task, spec: events.JobSpec) -> str:
    if spec.dataset.format == PREFERENCE and not spec.model.code_uri:
        return PREFERENCE_ACCURACY
    if isinstance(task, Naming):
        with torch.no_grad():
            return ROW_LOSS if task.graded([task.held_out[0]])[1] is None else ACCURACY
    return ROW_LOSS


def _measured(
    task: Task, samples: Sequence[Any], metric: str, give_up_at: float, stoppable: Stoppable
) -> Iterator[float]:
    """Each row by itself: its mean loss per target, or the share of its targets that is named right."""
    task.model.eval()
    for sample in samples:
        if CLOCK() > give_up_at:
            return
        with stoppable(), torch.no_grad():
            value = _value(task, sample, metric)
        yield value


def _value(task: Task, sample: Any, metric: str) -> float:
    if metric == ACCURACY and isinstance(task, Naming):
        return float(task.graded([sample])[1] or 0) / task.targets([sample])
    loss = float(task.loss([sample]).item()) / task.targets([sample])
    if metric == PREFERENCE_ACCURACY:
        # -log sigmoid(x) is below log 2 where x > 0: the chosen answer has gained more over the base than the other.
        return 0.5 if math.isclose(loss, math.log(2), rel_tol=1e-6) else float(loss < math.log(2))
    return loss
