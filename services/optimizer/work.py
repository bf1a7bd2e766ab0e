"""What is to be done: the user's wishes with every "auto" resolved, and how many steps and bytes that means. Pure."""

from __future__ import annotations

import math
from dataclasses import dataclass

from services.optimizer.memory import ADAPTED, GRADIENT_BYTES, ModelProfile, gathered_bytes_per_parameter

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
# Of rows that are packed: how full their sequences become (best fit of rows of up to half a sequence leaves under 5 %
# empty), and from how many tokens a sequence has room for several.
PACKED_SHARE = 0.95
MIN_PACKED_LENGTH = 512
# DoRA takes the norm of each adapted weight plus its update in every forward pass and scales outputs: 1.75, 1.38 and
# 1.16 times LoRA's processor time at 64, 256 and 1,024 tokens (peft, SmolLM2 of 6 layers, rank 8, one thread).
DORA_SLOWDOWN = 1.4
# A preference is a prompt, said once in the dataset, with two answers: two sequences, each of two of its three parts
# where they are of one length.
PREFERENCE = "preference"
PREFERENCE_SEQUENCES = 2
PREFERENCE_SHARE = 2 / 3
TEXT_TO_IMAGE = "text-to-image"


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
    dataset_format: str = ""  # as `DatasetRef.format`
    packing: bool = False  # several rows in one sequence
    dora: bool = False  # weight-decomposed adapter

    @property
    def sequences_per_sample(self) -> int:
        """Of one sample of a batch, each cut to the sequence length."""
        return PREFERENCE_SEQUENCES if self.dataset_format == PREFERENCE else 1

    @property
    def tokens_per_row(self) -> float:
        """Of one sequence that a row gives, before anything is cut."""
        share = PREFERENCE_SHARE if self.dataset_format == PREFERENCE else 1.0
        return max(self.estimated_tokens / max(self.rows, 1) * share, 1.0)


@dataclass(frozen=True, slots=True)
class Work:
    """The job's size, independent of any machine."""

    total_steps: int
    steps_left: int
    batch_size: int
    sequence_length: int
    padded_tokens_per_sequence: float
    sequences_per_sample: int
    packed_sequences: int  # that the rows are packed into; 0: each row is a sequence of its own
    total_tokens: int
    eval_rows: int
    learning_rate: float
    reasons: tuple[str, ...]  # why each "auto" became what it is


@dataclass(frozen=True, slots=True)
class Effort:
    """What one micro-batch asks of a machine, for each token or at once."""

    flops_per_token: float
    passes: int  # over the weights
    slowdown: float  # by what arithmetic and traffic do not tell
    travelling_bytes: float  # between the workers of a split model, all-gathers and reduce-scatter


def effort(request: Request, profile: ModelProfile, *, checkpointing: bool) -> Effort:
    """Of the method on this kind of data.

    DPO's reference is one forward pass more: of a frozen base that is a half of forward and backward (each has 2
    operations a parameter), of weights that learn a third (Kaplan et al., arXiv 2001.08361, section 2.1). A split model
    is gathered for the forward and again for the backward pass, and its gradients are scattered.
    """
    adapted = request.method in ADAPTED
    flops = profile.recomputing_flops_per_token if checkpointing else profile.flops_per_token
    passes = 3 if checkpointing else 2
    if request.dataset_format == PREFERENCE:
        flops += profile.flops_per_token * (1 / 2 if adapted else 1 / 3)
        passes += 1
    gathered = 2 * profile.parameters * gathered_bytes_per_parameter(request.method)
    return Effort(
        flops_per_token=flops,
        passes=passes,
        slowdown=DORA_SLOWDOWN if request.dora else 1.0,
        travelling_bytes=gathered + GRADIENT_BYTES * profile.trainable_parameters,
    )


def sequence_length(request: Request) -> tuple[int, str]:
    """Tokens that a row is cut to, and why: four times the mean row, as a power of two, within the model's context."""
    context = request.context_length or DEFAULT_CONTEXT_LENGTH
    if request.sequence_length:
        return min(request.sequence_length, context), ""
    mean = request.tokens_per_row
    shortest = MIN_PACKED_LENGTH if request.packing else MIN_SEQUENCE_LENGTH
    wanted = 2 ** math.ceil(math.log2(max(4 * mean, shortest)))
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
    tokens = min(float(length), request.tokens_per_row)
    padded, packed = min(float(length), tokens * PADDING), 0
    if request.packing:
        packed = min(math.ceil(train_rows * tokens / (length * PACKED_SHARE)), train_rows)
        reasons.append(f"packing: {train_rows} rows make about {packed} sequences")
        tokens = train_rows * tokens / packed if packed else tokens
        padded = min(float(length), tokens / PACKED_SHARE)
    samples = packed or train_rows
    epochs = request.n_epochs or DEFAULT_EPOCHS
    if request.n_epochs is None:
        reasons.append(f"n_epochs {epochs:g}: usual for fine-tuning; more mostly memorises")
    batch_size = request.batch_size or min(DEFAULT_BATCH_SIZE, max(1, samples // MIN_STEPS_PER_EPOCH))
    if request.batch_size is None:
        reasons.append(f"batch_size {batch_size}: {DEFAULT_BATCH_SIZE}, less for few rows so that an epoch has steps")
    batch_size = min(batch_size, max(samples, 1))
    rate = request.learning_rate or _learning_rate(request, profile.parameters)
    if request.learning_rate is None:
        size = f"{profile.parameters / 1e9:.2g} billion" if profile.parameters >= 1e7 else f"{profile.parameters:,}"
        reasons.append(f"learning_rate {rate:g}: {request.method} on {size} parameters")
    steps = max(1, math.ceil(samples * epochs / batch_size))
    if request.max_steps:
        steps = min(steps, request.max_steps)
    return Work(
        total_steps=steps,
        steps_left=max(0, steps - steps_done),
        batch_size=batch_size,
        sequence_length=length,
        padded_tokens_per_sequence=padded,
        sequences_per_sample=request.sequences_per_sample,
        packed_sequences=packed,
        total_tokens=round(steps * batch_size * tokens * request.sequences_per_sample),
        eval_rows=eval_rows,
        learning_rate=rate,
        reasons=tuple(reasons),
    )


def _learning_rate(request: Request, parameters: int) -> float:
    """Adapters: 2e-4 up to 13 billion parameters and 1e-4 above 33 (QLoRA, arXiv 2305.14314, table 9); small ones bear
    more. Full fine-tuning: 2e-5, as Llama 2 was (arXiv 2307.09288, section 3.1). From scratch: 6e-4 for the smallest
    down to 1.2e-4 for 7 billion (GPT-3, arXiv 2005.14165, table 2.1). DPO: 1e-6 of all weights (Rafailov et al., arXiv
    2305.18290, appendix B), and ten times that of adapters. Text to image: 1e-4, as in diffusers' guide to LoRA."""
    method = request.method
    if request.dataset_format == TEXT_TO_IMAGE:
        return 1e-4
    if request.dataset_format == PREFERENCE:
        return 1e-5 if method in ADAPTED else 1e-6
    if method in ADAPTED:
        if parameters < 1_000_000_000:
            return 5e-4
        return 2e-4 if parameters < 30_000_000_000 else 1e-4
    if method == "full":
        return 2e-5
    return next((rate for limit, rate in FROM_SCRATCH if parameters < limit), FROM_SCRATCH[-1][1])
