"""What is to be done: the user's wishes with every "auto" resolved, and how many steps and bytes that means. Pure."""

from __future__ import annotations

import math
from dataclasses import dataclass

from services.optimizer.memory import ADAPTED, ModelProfile

DEFAULT_EPOCHS = 3.0
DEFAULT_BATCH_SIZE = 8
MIN_STEPS_PER_EPOCH = 8
MIN_SEQUENCE_LENGTH = 128
MAX_AUTO_SEQUENCE_LENGTH = 2048
DEFAULT_CONTEXT_LENGTH = 2048
MAX_EVAL_ROWS = 64
FROM_SCRATCH = ((200e6, 6e-4), (1e9, 3e-4), (5e9, 2e-4), (math.inf, 1.2e-4))  # below so many parameters: learning rate
OBJECTIVES = ("cheapest", "fastest", "cheapest-within-deadline", "fastest-within-budget")
# Rows of one batch are padded to its longest: 1.58 times the mean in batches of 8 of the 180 one-liners of pyjokes.
PADDING = 1.6


@dataclass(frozen=True, slots=True)
class Request:
    """A job's specification as far as planning needs it. None and empty text mean "auto" or "any"."""

    method: str
    rank: int
    rows: int
    dataset_bytes: int
    estimated_tokens: int
    eval_fraction: float
    context_length: int  # of the model; 0: unknown
    n_epochs: float | None = None
    batch_size: int | None = None
    learning_rate: float | None = None
    sequence_length: int | None = None
    max_steps: int | None = None
    accelerators: str = ""
    cpus: str = ""
    memory: str = ""
    regions: tuple[str, ...] = ()
    instance_types: tuple[str, ...] = ()
    max_price_usd_per_hour: float | None = None
    spot_policy: str = "auto"  # "auto" | "spot" | "on-demand"
    objective: str = "cheapest"  # one of OBJECTIVES
    budget_usd: float | None = None
    deadline: str = ""  # RFC 3339
    checkpoint_interval_steps: int = 0
    checkpoints: bool = True
    checkpoints_kept: int = 3
    gradient_checkpointing: bool | None = None
    nodes: str = ""


@dataclass(frozen=True, slots=True)
class Work:
    """The job's size, independent of any machine."""

    total_steps: int
    steps_left: int
    batch_size: int
    sequence_length: int
    padded_tokens_per_sequence: float
    total_tokens: int
    eval_rows: int
    learning_rate: float
    reasons: tuple[str, ...]  # why each "auto" became what it is


def sequence_length(request: Request) -> tuple[int, str]:
    """Tokens that a row is cut to, and why: four times the mean row, as a power of two, within the model's context."""
    context = request.context_length or DEFAULT_CONTEXT_LENGTH
    if request.sequence_length:
        return min(request.sequence_length, context), ""
    mean = request.estimated_tokens / max(request.rows, 1)
    wanted = 2 ** math.ceil(math.log2(max(4 * mean, MIN_SEQUENCE_LENGTH)))
    length = min(wanted, MAX_AUTO_SEQUENCE_LENGTH, context)
    return length, f"sequence_length {length}: rows have about {mean:.0f} tokens"


def resolve(request: Request, profile: ModelProfile, steps_done: int) -> Work:
    """Steps, batch and learning rate. The same request and profile give the same answer for every attempt."""
    reasons: list[str] = []
    length, reason = sequence_length(request)
    if reason:
        reasons.append(reason)
    eval_rows = 0
    if request.eval_fraction > 0 and request.rows > 1:
        eval_rows = min(max(1, round(request.rows * request.eval_fraction)), MAX_EVAL_ROWS, request.rows - 1)
    train_rows = request.rows - eval_rows
    epochs = request.n_epochs or DEFAULT_EPOCHS
    if request.n_epochs is None:
        reasons.append(f"n_epochs {epochs:g}: usual for fine-tuning; more mostly memorises")
    batch_size = request.batch_size or min(DEFAULT_BATCH_SIZE, max(1, train_rows // MIN_STEPS_PER_EPOCH))
    if request.batch_size is None:
        reasons.append(f"batch_size {batch_size}: {DEFAULT_BATCH_SIZE}, less for few rows so that an epoch has steps")
    batch_size = min(batch_size, max(train_rows, 1))
    rate = request.learning_rate or _learning_rate(request.method, profile.parameters)
    if request.learning_rate is None:
        size = f"{profile.parameters / 1e9:.2g} billion" if profile.parameters >= 1e7 else f"{profile.parameters:,}"
        reasons.append(f"learning_rate {rate:g}: {request.method} on {size} parameters")
    steps = max(1, math.ceil(train_rows * epochs / batch_size))
    if request.max_steps:
        steps = min(steps, request.max_steps)
    tokens = min(float(length), max(request.estimated_tokens / max(request.rows, 1), 1.0))
    return Work(
        total_steps=steps,
        steps_left=max(0, steps - steps_done),
        batch_size=batch_size,
        sequence_length=length,
        padded_tokens_per_sequence=min(float(length), tokens * PADDING),
        total_tokens=round(steps * batch_size * tokens),
        eval_rows=eval_rows,
        learning_rate=rate,
        reasons=tuple(reasons),
    )


def _learning_rate(method: str, parameters: int) -> float:
    """Adapters: 2e-4 up to 13 billion parameters and 1e-4 above 33 (QLoRA, arXiv 2305.14314, table 9); small ones bear
    more. Full fine-tuning: 2e-5, as Llama 2 was (arXiv 2307.09288, section 3.1). From scratch: 6e-4 for the smallest
    down to 1.2e-4 for 7 billion (GPT-3, arXiv 2005.14165, table 2.1)."""
    if method in ADAPTED:
        if parameters < 1_000_000_000:
            return 5e-4
        return 2e-4 if parameters < 30_000_000_000 else 1e-4
    if method == "full":
        return 2e-5
    return next((rate for limit, rate in FROM_SCRATCH if parameters < limit), FROM_SCRATCH[-1][1])
