"""What is to be done: the user's wishes with every "auto" resolved, and how many steps and bytes that means. Pure."""

from __future__ import annotations

import math
from dataclasses import dataclass

from services.optimizer.throughput import Machine

MIB = 1024**2
GIB = 1024**3

DEFAULT_EPOCHS = 3.0
DEFAULT_BATCH_SIZE = 8
MIN_STEPS_PER_EPOCH = 8
MIN_SEQUENCE_LENGTH = 128
MAX_AUTO_SEQUENCE_LENGTH = 2048
DEFAULT_CONTEXT_LENGTH = 2048
MAX_EVAL_ROWS = 64
# Rows of one batch are padded to its longest: 1.58 times the mean in batches of 8 of the 180 one-liners of pyjokes.
PADDING = 1.6

# An interpreter with torch, transformers and peft imported, or a CUDA context, before any tensor.
RUNTIME_BYTES = 768 * MIB
# The kubelet, the system and the page cache's minimum: EKS reserves 255 MiB plus 11 MiB a pod, eviction takes 100 MiB.
HOST_RESERVED_BYTES = 512 * MIB
HOST_USABLE_FRACTION = 0.95
ACCELERATOR_USABLE_FRACTION = 0.95  # fragmentation of the caching allocator


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
    objective: str = "cheapest"  # "cheapest" | "fastest"
    budget_usd: float | None = None
    deadline: str = ""  # RFC 3339
    checkpoint_interval_steps: int = 0


@dataclass(frozen=True, slots=True)
class ModelProfile:
    """What `profile.py` counted, for one sequence of the resolved length. Bytes are those of float32."""

    parameters: int
    trainable_parameters: int
    layers: int
    flops_per_token: float
    activation_bytes_per_sequence: int
    logits_bytes_per_sequence: int


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


@dataclass(frozen=True, slots=True)
class Footprint:
    """Bytes on one machine at one micro-batch size."""

    weight_bytes: int
    gradient_bytes: int
    optimizer_bytes: int
    activation_bytes: int
    peak_bytes: int


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
        reasons.append(f"n_epochs {epochs:g}: usual for LoRA; more mostly memorises")
    batch_size = request.batch_size or min(DEFAULT_BATCH_SIZE, max(1, train_rows // MIN_STEPS_PER_EPOCH))
    if request.batch_size is None:
        reasons.append(f"batch_size {batch_size}: {DEFAULT_BATCH_SIZE}, less for few rows so that an epoch has steps")
    batch_size = min(batch_size, max(train_rows, 1))
    rate = request.learning_rate or _learning_rate(profile.parameters)
    if request.learning_rate is None:
        reasons.append(f"learning_rate {rate:g}: LoRA on {profile.parameters / 1e9:.2g} billion parameters")
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


def _learning_rate(parameters: int) -> float:
    """2e-4 up to 13 billion parameters and 1e-4 above 33 (QLoRA, arXiv 2305.14314, table 9); small models bear more."""
    if parameters < 1_000_000_000:
        return 5e-4
    return 2e-4 if parameters < 30_000_000_000 else 1e-4


def footprint(profile: ModelProfile, machine: Machine, micro_batch_size: int) -> Footprint:
    """Frozen weights, float32 adapter with gradient and AdamW's two moments, activations, and the loss's logits."""
    trainable = profile.trainable_parameters
    weights = (profile.parameters * machine.weight_bytes_per_parameter) + trainable * 4
    logits = profile.logits_bytes_per_sequence
    # Activations take the weights' precision, but the loss works on float32 logits.
    share = machine.weight_bytes_per_parameter / 4
    activations = round(logits + max(profile.activation_bytes_per_sequence - logits, 0) * share)
    # Backward of the loss holds the logits' gradient and a float32 copy beside what was saved.
    workspace = 2 * logits
    return Footprint(
        weight_bytes=weights,
        gradient_bytes=trainable * 4,
        optimizer_bytes=trainable * 8,
        activation_bytes=micro_batch_size * activations,
        peak_bytes=weights + trainable * 12 + micro_batch_size * (activations + workspace) + RUNTIME_BYTES,
    )


def usable_bytes(machine: Machine) -> int:
    """What a training process may use: of one accelerator's memory, or of the host's where there is none."""
    if machine.accelerator_name:
        return round(machine.accelerator_memory_gib * GIB * ACCELERATOR_USABLE_FRACTION)
    return round(machine.memory_gib * GIB * HOST_USABLE_FRACTION - HOST_RESERVED_BYTES)


def micro_batch_size(profile: ModelProfile, machine: Machine, batch_size: int, pinned: int = 0) -> int:
    """The largest micro-batch that fits (0: not even one sequence); accumulation makes up the rest of the batch.

    `pinned`, the size of an earlier attempt, is kept where it fits: another split would add the same gradients in
    another order, and the resumed run would no longer be equal to the bit.
    """
    fixed = footprint(profile, machine, 0).peak_bytes
    each = footprint(profile, machine, 1).peak_bytes - fixed
    fitting = int(max(0, usable_bytes(machine) - fixed) // max(each, 1))
    if 0 < pinned <= fitting:
        return pinned
    fitting = min(fitting, batch_size)
    return math.ceil(batch_size / math.ceil(batch_size / fitting)) if fitting else 0
