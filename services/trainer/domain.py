"""What the trainer decides, without doing anything: recipes, batches, saves, what to resume from, how to end.

Both halves use it: the program in the pod (which trains) and the service (which turns results into model versions).
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from datetime import datetime, timedelta
from enum import IntEnum, StrEnum
from functools import lru_cache
from typing import Any, TypeVar

from sskai.events import v1 as events

Number = TypeVar("Number", int, float)

MIN_TRAINING_ROWS = 1
MAX_EVALUATION_ROWS = 64  # evaluation runs twice and, on a CPU, must stay a small part of the job
DEFAULT_EVALUATION_FRACTION = 0.05
DEFAULT_KEPT_CHECKPOINTS = 3
MAX_INTERVAL_FACTOR = 10  # of the planned interval: hazards are estimates, and lost work is the user's
WHOLE = ("full", "scratch")  # methods that learn every weight; the others learn an adapter
CLASSIFICATION, PREFERENCE = "classification", "preference"  # formats of datasets that are no language modelling
IMAGE_CLASSIFICATION, TEXT_TO_IMAGE = "image-classification", "text-to-image"


class Exit(IntEnum):
    """How the pod's process ends; the scheduler and Kubernetes' podFailurePolicy read it. Numbers as in sysexits.h."""

    DONE = 0
    WORKER_LOST = 1  # of a worker, to its agent: start the group again
    USER_ERROR = 65  # the dataset or the settings are wrong: doing it again changes nothing
    UNAVAILABLE = 69  # the work is saved, but its result could not be told: do it again
    INTERNAL = 70  # a bug, or a part that broke: do it again a few times
    OUT_OF_MEMORY = 71  # do it again only on a larger machine
    DRAINED = 75  # answered a notice: everything is saved
    FENCED = 76  # a newer attempt has taken over: nothing to do
    MISCONFIGURED = 78  # the environment is not what a pod gets
    KILLED = 143  # a second signal came while saving: the previous checkpoint stands


# The reason told in AttemptFinished, and the exit code that goes with it.
FAILURES = {
    "dataset": Exit.USER_ERROR,
    "nan-loss": Exit.USER_ERROR,
    "user-error": Exit.USER_ERROR,
    "out-of-memory": Exit.OUT_OF_MEMORY,
    "error": Exit.INTERNAL,
}


class TrainingFailedError(Exception):
    """The attempt ends here for a reason of `FAILURES`; the detail names the field or row, and what to do."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail
        self.exit = FAILURES[reason]


class FencedError(Exception):
    """A newer attempt of this job has begun, or this one began elsewhere: write nothing more."""


class WorkerLostError(Exception):
    """Another worker of this attempt went away: those who are left meet again and go on."""


@dataclass(frozen=True, slots=True)
class Plan:
    """The sizes that the optimizer planned; 0 leaves the choice to `resolve`."""

    total_steps: int = 0
    batch_size: int = 0  # sequences per optimizer step
    micro_batch_size: int = 0  # sequences per forward pass
    sequence_length: int = 0  # tokens
    learning_rate: float = 0.0
    checkpoint_interval_steps: int = 0
    gradient_checkpointing: bool = False
    interruptions_per_hour: float = 0.0  # of the machine that was chosen; 0: not known
    shard: bool = False  # spread the model itself over the workers
    packed_sequences: int = 0  # that total_steps was counted by; 0: by rows

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Plan:
        """Unknown keys are ignored: planner and pod need not be of one version. Raises TypeError, ValueError."""
        known: dict[str, Any] = {field.name: values.get(field.name) or 0 for field in fields(cls)}
        return cls(**{name: type(field)(known[name]) for name, field in asdict(cls()).items()})


@dataclass(frozen=True, slots=True)
class Recipe:
    """Every figure that decides what the run computes. It lies in each checkpoint, so that a resumed run keeps it."""

    total_steps: int
    batch_size: int
    micro_batch_size: int
    sequence_length: int
    learning_rate: float
    warmup_steps: int
    checkpoint_interval_steps: int
    keep_checkpoints: int
    evaluation_rows: int
    seed: int
    rank: int  # of the adapter; 0: none, every weight learns
    alpha: int
    method: str = "lora"
    dora: bool = False
    rslora: bool = False
    target_modules: tuple[str, ...] = ()  # empty: all linear layers but the head
    optimizer: str = "adamw"
    precision: str = "float32"  # computed in; see device.precision
    packing: bool = False  # several rows of the dataset in one sequence
    dpo_beta: float = 0.1
    horizontal_flip: bool = False  # mirror half of the pictures that are trained on
    dropout: float = 0.0
    weight_decay: float = 0.0
    max_gradient_norm: float = 1.0
    gradient_checkpointing: bool = False  # activations are computed again instead of kept: less memory, more time
    reasons: Mapping[str, str] = field(default_factory=dict)  # of each figure that was "auto"

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Recipe:
        return cls(**{**values, "target_modules": tuple(values["target_modules"])})


def resolve(
    spec: events.JobSpec,
    plan: Plan,
    *,
    rows: int,
    sequence_length: int,
    parameters: int,
    sequences: int = 0,
    dropout: float = 0.0,
    precision: str = "float32",
) -> Recipe:
    """Settle every hyperparameter: the plan's figure, else the user's, else ours ("auto", with its reason).

    `sequences`: what the training rows were packed into; 0: each is one.
    Raises TrainingFailedError("dataset") if there are too few rows to train on and to evaluate with.
    """
    given = spec.hyperparameters
    method = spec.model.method or "lora"
    held_out = evaluation_rows(rows, spec.dataset.eval_fraction)
    training_rows = sequences or rows - held_out
    auto = _Auto()
    batch_size = (
        plan.batch_size
        or given.batch_size
        or auto(
            "batch_size",
            8,
            "small enough for hundreds of updates on a small dataset, large enough to average users' styles",
        )
    )
    if batch_size > training_rows:
        batch_size = auto("batch_size", training_rows, "there are no more rows")
    epochs = given.n_epochs or 3.0
    total_steps = plan.total_steps or given.max_steps
    if sequences and plan.total_steps and not given.max_steps:
        # A plan estimates the sequences, or (of an older planner) counts rows: as many epochs are other steps.
        counted = plan.packed_sequences or rows - held_out
        planned = max(1, math.ceil(plan.total_steps * sequences / counted))
        reason = f"{rows - held_out} rows were packed into {sequences} sequences, {counted} were planned"
        total_steps = auto("total_steps", planned, reason)
    if not total_steps:
        total_steps = max(1, math.ceil(training_rows * epochs / batch_size))
        if not given.n_epochs:
            auto("n_epochs", 3, "what hosted services begin with for small datasets; more mostly memorises")
    interval = plan.checkpoint_interval_steps or spec.checkpoint.interval_steps or max(1, total_steps // 10)
    if spec.checkpoint.disabled:
        interval = total_steps  # no interval is over before the end
    rank = 0
    if method not in WHOLE:
        rank = spec.model.rank or auto("rank", 8, "ranks from 1 to 64 differ little (Hu et al. 2021, section 7.2)")
    rate, why = auto_learning_rate(parameters, method, spec.dataset.format)
    return Recipe(
        total_steps=total_steps,
        batch_size=batch_size,
        # One sequence of 1,024 tokens has some 100 MB of logits in float32 for a vocabulary of 32,000: four at a time.
        micro_batch_size=min(plan.micro_batch_size or 4, batch_size),
        sequence_length=sequence_length,
        learning_rate=plan.learning_rate or given.learning_rate or auto("learning_rate", rate, why),
        # 3 % as in the QLoRA paper's recipes; bounded, because AdamW's second moment settles within 100 steps.
        warmup_steps=min(100, math.ceil(total_steps * 0.03)),
        checkpoint_interval_steps=interval,
        keep_checkpoints=spec.checkpoint.keep or DEFAULT_KEPT_CHECKPOINTS,
        evaluation_rows=held_out,
        seed=given.seed,
        rank=rank,
        alpha=(spec.model.alpha or _alpha(rank, spec.dataset.format)) if rank else 0,
        method=method,
        dora=spec.model.dora,
        rslora=spec.model.rslora,
        target_modules=tuple(spec.model.target_modules),
        precision=precision,
        packing=given.packing,
        dpo_beta=given.dpo_beta or 0.1,
        horizontal_flip=given.horizontal_flip,
        dropout=dropout,
        gradient_checkpointing=plan.gradient_checkpointing or given.gradient_checkpointing,
        reasons=auto.reasons,
    )


def _alpha(rank: int, format_name: str) -> int:
    # diffusers takes the rank for it where a file does not tell, and a checkpoint's does not.
    return rank if format_name == TEXT_TO_IMAGE else 2 * rank


class _Auto:
    """Takes a figure that nobody gave, and remembers why."""

    def __init__(self) -> None:
        self.reasons: dict[str, str] = {}

    def __call__(self, name: str, value: Number, reason: str) -> Number:
        self.reasons[name] = reason
        return value


def sequence_length(spec: events.JobSpec, plan: Plan, *, longest_row_tokens: int, context_tokens: int) -> int:
    """The plan's, else the user's, else the power of two that holds the longest row, from 32 to 1,024 tokens;
    from 512 where rows are packed, so that one sequence has room for several.

    Never longer than the model's context (`context_tokens` 0: it names none).
    """
    wanted = plan.sequence_length or spec.hyperparameters.sequence_length
    shortest = 512 if spec.hyperparameters.packing else 32
    wanted = wanted or max(shortest, min(1024, 1 << max(0, longest_row_tokens - 1).bit_length()))
    return min(wanted, context_tokens) if context_tokens else wanted


def auto_learning_rate(parameters: int, method: str, format_name: str) -> tuple[float, str]:
    """(peak rate, why) of AdamW for this many parameters."""
    if format_name == PREFERENCE:
        # Rafailov et al. 2023 (DPO), appendix B: 1e-6 for all weights; adapters stand about ten times that.
        return (1e-6, "DPO of all weights") if method in WHOLE else (1e-5, "DPO of an adapter")
    if format_name == TEXT_TO_IMAGE:
        return 1e-4, "what diffusers' own LoRA script begins with"
    if method in WHOLE:
        # Ouyang et al. 2022 (InstructGPT), appendix C: 1e-5 and less for billions of parameters.
        return (2e-5, "all weights of under a billion parameters") if parameters < 1e9 else (1e-5, "all weights")
    if parameters < 1e9:
        return 5e-4, "an adapter on under a billion parameters: smaller models stand, and need, larger steps"
    why = "an adapter (Dettmers et al. 2023, QLoRA, table 9)"
    return (2e-4, why) if parameters <= 13e9 else (1e-4, why)


def resumed(saved: Recipe, planned: Recipe) -> Recipe:
    """The recipe to go on with: the saved one, whatever the new plan says, or the losses would be another run's.

    Only memory may ask for a smaller micro-batch (sums are then rounded differently), and checkpointing is free.
    """
    return replace(
        saved,
        micro_batch_size=min(saved.micro_batch_size, planned.micro_batch_size),
        checkpoint_interval_steps=planned.checkpoint_interval_steps,
        keep_checkpoints=planned.keep_checkpoints,
        gradient_checkpointing=planned.gradient_checkpointing,  # computes the same bits again
    )


def evaluation_rows(rows: int, fraction: float) -> int:
    """How many rows are held out: the user's share, at least one, at most 64."""
    if rows < 1 + MIN_TRAINING_ROWS:
        raise TrainingFailedError(
            "dataset", f"{rows} usable rows; at least 2 are needed: one to train on, one to evaluate with"
        )
    wanted = round(rows * (fraction or DEFAULT_EVALUATION_FRACTION))
    return max(1, min(wanted, MAX_EVALUATION_ROWS, rows - MIN_TRAINING_ROWS))


def learning_rate(step: int, recipe: Recipe) -> float:
    """Of step 1, 2, ...: linear warm-up, then half a cosine down to zero just after the last step."""
    if step <= recipe.warmup_steps:
        return recipe.learning_rate * step / recipe.warmup_steps
    done = (step - recipe.warmup_steps) / max(1, recipe.total_steps - recipe.warmup_steps + 1)
    return recipe.learning_rate * 0.5 * (1 + math.cos(math.pi * min(1.0, done)))


@lru_cache(maxsize=4)
def shuffled(count: int, seed: int, label: str) -> tuple[int, ...]:
    """0 to count - 1 in an order that depends on (seed, label) alone, on no library's version: sorted by SHA-256."""
    return tuple(sorted(range(count), key=lambda index: hashlib.sha256(f"{seed}:{label}:{index}".encode()).digest()))


def split(rows: int, recipe: Recipe) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """(training rows, held-out rows), each sorted."""
    order = shuffled(rows, recipe.seed, "evaluation")
    return tuple(sorted(order[recipe.evaluation_rows :])), tuple(sorted(order[: recipe.evaluation_rows]))


def batch(position: int, size: int, rows: int, seed: int) -> list[int]:
    """The next `size` of `rows` training rows after `position` samples were consumed; epochs follow one another."""
    return [shuffled(rows, seed, f"epoch-{at // rows}")[at % rows] for at in range(position, position + size)]


def should_save(step: int, saved_step: int, interval_steps: int, total_steps: int) -> bool:
    """Whether an interval is over. The last step is saved by the end of training itself."""
    return step < total_steps and step - saved_step >= interval_steps


def adapted_interval(
    planned_steps: int,
    *,
    stall_seconds: float,
    save_seconds: float,
    step_seconds: float,
    interruptions_per_hour: float,
) -> int:
    """Steps between checkpoints once a save was measured; the plan's guess where the hazard or a step is not known.

    Young's optimum (CACM 17(9), 1974; Daly's first term): sqrt(2 * cost * mean time between interruptions). What a save
    takes beside the training counts as cost too: an interruption before its end loses the interval before as well.
    Never more often than saves take, for there is one at a time, and never rarer than ten times the plan.
    """
    if interruptions_per_hour <= 0 or step_seconds <= 0:
        return planned_steps
    cost_seconds = stall_seconds + save_seconds
    best_seconds = math.sqrt(2 * cost_seconds * 3600 / interruptions_per_hour)
    shortest = max(1, math.ceil(cost_seconds / step_seconds))
    longest = planned_steps * MAX_INTERVAL_FACTOR
    # Compared as floats: with hardly any hazard the optimum is no number of steps at all.
    return max(shortest, round(min(best_seconds / step_seconds, longest)))


def eta_seconds(step: int, total_steps: int, step_seconds: float, evaluation_seconds: float) -> float:
    """Until the artefact is published: the steps that are left and the second evaluation."""
    return (total_steps - step) * step_seconds + evaluation_seconds


def median(values: Sequence[float]) -> float:
    """0 for none."""
    ordered = sorted(values)
    middle = len(ordered) // 2
    if not ordered:
        return 0.0
    return ordered[middle] if len(ordered) % 2 else (ordered[middle - 1] + ordered[middle]) / 2


@dataclass(frozen=True, slots=True, order=True)
class Point:
    """A place in a job's life: a step of an attempt."""

    attempt: int
    step: int


@dataclass(frozen=True, slots=True)
class Fence:
    """An attempt began, and from where: what older attempts write afterwards does not count."""

    attempt: int
    resumed_from: Point | None


# A scheduler that is down when a job is done comes back within seconds, and sends the successor away.
RESULT_GRACE = timedelta(minutes=2)


class Outcome(StrEnum):
    """How an attempt ended in order. One that was killed, fenced or cut off from the object store says nothing."""

    DRAINED = "drained"
    DONE = "done"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Awaited:
    """An earlier attempt that still drains, and when its machine is gone at the latest."""

    attempt: int
    until: datetime


@dataclass(frozen=True, slots=True)
class End:
    """The last thing an attempt writes. `awaited`: it never took over, and had been waiting for that one itself."""

    outcome: Outcome
    awaited: Awaited | None = None


def still_awaited(awaited: Awaited, end: End | None, now: datetime) -> Awaited | None:
    """Whom a successor goes on waiting for once it has looked for the end of `awaited`; None: it may take over.

    After "done" the job is over, and the successor is about to be sent away; if for long nobody comes to do so, the
    result could not be told, and the successor tells it.
    """
    done = end is not None and end.outcome is Outcome.DONE
    if now >= (awaited.until + RESULT_GRACE if done else awaited.until):
        return None
    return awaited if end is None or done else end.awaited


def must_shard(plan: Plan, *, workers: int, weight_bytes: int, learnt: int, memory_bytes: int) -> bool:
    """Whether several workers hold the model in parts: the plan's word, or weights, gradients and AdamW's moments
    (float32, of `learnt` parameters) leave no tenth of a GPU's memory (0: no GPU) for activations."""
    if workers == 1:
        return False
    return plan.shard or (memory_bytes > 0 and weight_bytes + 12 * learnt > 0.9 * memory_bytes)


def resume_candidates(attempt: int, fences: Iterable[Fence], saved: Iterable[Point]) -> list[Point]:
    """Where attempt n may go on from, best first.

    All checkpoints of the newest attempt that began; of the one it resumed from, those up to that step; and so on back.
    So what an attempt saved after it was fenced is never read.
    """
    began = {fence.attempt: fence for fence in fences if fence.attempt < attempt}
    points = sorted(saved, reverse=True)
    line: list[Point] = []
    current, last_step = max(began, default=None), math.inf
    while current in began:
        line += [point for point in points if point.attempt == current and point.step <= last_step]
        origin = began[current].resumed_from
        if origin is None or origin.attempt >= current:
            break
        current, last_step = origin.attempt, origin.step
    return line


def outdated(line: Sequence[Point], keep: int) -> list[Point]:
    """What retention deletes of a lineage (best first) of verified and new checkpoints."""
    return list(line[max(1, keep) :])


def lost_steps(told_step: int, resumed_step: int) -> int:
    """Steps that an earlier attempt told of and that have to be done again."""
    return max(0, told_step - resumed_step)


class ResultState(StrEnum):
    """Of a job's result, in the service."""

    WAITING = "waiting"
    PUBLISHED = "published"
    REFUSED = "refused"


def deletable(keys: Iterable[str], artifact_key: str) -> list[str]:
    """The checkpoint folders among `keys` that may go: all but the one that is the job's result (a budget stop's)."""
    folders = {key.rpartition("/")[0] + "/" for key in keys}
    return sorted(folders - {artifact_key.rstrip("/") + "/"})
