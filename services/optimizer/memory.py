"""What training holds in memory on one worker, term by term, and the largest micro-batch that fits. Pure.

Bytes a parameter that learns: on CPUs float32 weights, gradients and AdamW's two moments (16). On accelerators full
training is mixed precision (Micikevicius et al., arXiv 1710.03740): bfloat16 weights and gradients, float32 master copy
and moments (2 + 2 + 12 = 16; ZeRO, arXiv 1910.02054, section 3.1); an adapter is float32 throughout.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from services.optimizer.throughput import Machine

MIB = 1024**2
GIB = 1024**3

Lines = tuple[tuple[float, float], ...]

# What trains is the same for the first two and for the last two; how the base is held differs.
ADAPTED = ("lora", "qlora")
METHODS = (*ADAPTED, "full", "scratch")
MOMENTS_BYTES = 8  # AdamW's two, float32
MASTER_BYTES = 4
GRADIENT_BYTES = 4  # of a split model, float32 as the weights that learn
AUTOCAST_BYTES = 2
REFERENCE_BYTES = 4
# NF4 with double quantisation takes 4.127 bits a parameter (QLoRA, arXiv 2305.14314, section 3).
QUANTISED_BYTES = 4.127 / 8
# AdamW updates one tensor at a time: a denominator and a step of its size are alive beside it.
OPTIMIZER_TEMPORARIES = 2

# An interpreter with torch, transformers and peft imported, or a CUDA context, before any tensor.
RUNTIME_BYTES = 768 * MIB
# On a processor, freed blocks leave holes and the math library keeps buffers. Fitted to measured peaks under tcmalloc,
# which pods allocate with (`benchmarks/optimizer`, memory).
HOST_ALLOCATOR_FACTOR = 1.06
# Gradient checkpointing frees large blocks and carves them up for each layer computed again, so more is left in holes:
# of activations, and of gradients, which are allocated anew in every step.
HOST_CHECKPOINTED_FACTOR = 1.35
HOST_CHECKPOINTED_GRADIENTS = 1.5
# The kubelet, the system and the page cache's minimum: EKS reserves 255 MiB plus 11 MiB a pod, eviction takes 100 MiB.
HOST_RESERVED_BYTES = 512 * MIB
HOST_USABLE_FRACTION = 0.95
ACCELERATOR_USABLE_FRACTION = 0.95  # fragmentation of the caching allocator


@dataclass(frozen=True, slots=True)
class Peaks:
    """Lines (fixed bytes, bytes a sequence), whose highest is alive at the worst moment of a micro-batch.

    `fresh`: gradients included, none at the start; `accumulating`: a later micro-batch, gradients left out.
    """

    fresh: Lines
    accumulating: Lines


@dataclass(frozen=True, slots=True)
class Precision:
    """What was counted with the base's weights in one precision, at the profiled sequence length."""

    weight_bytes: int
    gradient_bytes: int
    plain: Peaks
    checkpointed: Peaks  # with gradient checkpointing


@dataclass(frozen=True, slots=True)
class ModelProfile:
    """What `profile.py` counted. FLOPs are those of a forward and a backward pass."""

    parameters: int
    trainable_parameters: int
    largest_trainable_parameters: int  # of one tensor
    layers: int
    linear_parameters: int  # frozen ones that a 4-bit base holds in 4 bits
    largest_linear_parameters: int
    flops_per_token: float
    recomputing_flops_per_token: float  # with gradient checkpointing
    float32: Precision
    bfloat16: Precision
    # Of the largest block of layers, and outside of all blocks: what a model in parts brings together at a time. Both
    # 0: it has no blocks, and is not split.
    block_parameters: int = 0
    outside_parameters: int = 0


@dataclass(frozen=True, slots=True)
class Layout:
    """How a worker holds the model, and of what its micro-batches are."""

    shards: int = 1  # workers that the model is split over
    sequences_per_sample: int = 1
    reference: bool = False  # DPO's: an adapter's is its base, all weights have a copy


PLAIN = Layout()


@dataclass(frozen=True, slots=True)
class Footprint:
    """Bytes of one worker at one micro-batch size."""

    weight_bytes: int
    gradient_bytes: int
    optimizer_bytes: int
    activation_bytes: int  # everything else that is alive at the worst moment
    runtime_bytes: int = RUNTIME_BYTES

    @property
    def peak_bytes(self) -> int:
        return sum(self.terms.values())

    @property
    def terms(self) -> dict[str, int]:
        """What the peak is the sum of, by name."""
        return {
            "weights": self.weight_bytes,
            "gradients": self.gradient_bytes,
            "optimizer": self.optimizer_bytes,
            "activations": self.activation_bytes,
            "runtime": self.runtime_bytes,
        }

    @property
    def largest_term(self) -> str:
        """The term that a job has to be made smaller at."""
        return max(self.terms, key=lambda name: self.terms[name])


def footprint(
    profile: ModelProfile,
    machine: Machine,
    method: str,
    micro_batch_size: int,
    *,
    checkpointing: bool,
    accumulating: bool,
    layout: Layout = PLAIN,
) -> Footprint:
    """The peak over a step: forward and backward of a first or a later micro-batch, or the optimizer's update."""
    if layout.shards > 1:
        return _sharded(profile, machine, method, micro_batch_size, checkpointing=checkpointing, layout=layout)
    sequences = micro_batch_size * layout.sequences_per_sample
    counted = profile.bfloat16 if machine.accelerator_name else profile.float32
    peaks = counted.checkpointed if checkpointing else counted.plain
    element_bytes = machine.weight_bytes_per_parameter
    weights, held, gradients = counted.weight_bytes, 0, counted.gradient_bytes
    if method == "qlora":
        weights -= round(profile.linear_parameters * (element_bytes - QUANTISED_BYTES))
        held = profile.largest_linear_parameters * element_bytes  # one layer at a time is dequantised
    if layout.reference and method not in ADAPTED:
        weights += profile.parameters * REFERENCE_BYTES
    optimizer = optimizer_bytes(profile, machine, method)
    learning_bytes = gradients / max(profile.trainable_parameters, 1)
    largest = round(profile.largest_trainable_parameters * learning_bytes)
    alive = _highest(peaks.fresh, sequences)
    if accumulating:
        alive = max(alive, _highest(peaks.accumulating, sequences) + gradients + largest)
    transient = max(alive - gradients, 0.0)
    if not machine.accelerator_name:
        transient *= HOST_CHECKPOINTED_FACTOR if checkpointing else HOST_ALLOCATOR_FACTOR
        transient += HOST_CHECKPOINTED_GRADIENTS * gradients if checkpointing else 0
    transient = max(transient, OPTIMIZER_TEMPORARIES * largest)
    activations = round(transient) + held
    return Footprint(weights, gradients, optimizer, activations)


def optimizer_bytes(profile: ModelProfile, machine: Machine, method: str) -> int:
    """Of everything that learns, on however many workers."""
    mixed = machine.accelerator_name and method not in ADAPTED
    return profile.trainable_parameters * (MOMENTS_BYTES + (MASTER_BYTES if mixed else 0))


def can_shard(profile: ModelProfile, machine: Machine, method: str, workers: int, *, reference: bool) -> bool:
    """Whether the trainer splits this model: of blocks, on several accelerators. A base of four bits is not split, nor
    is the copy of all weights that DPO refers to."""
    parts = workers > 1 and bool(machine.accelerator_name) and profile.block_parameters > 0
    return parts and method != "qlora" and not (reference and method not in ADAPTED)


def gathered_bytes_per_parameter(method: str) -> int:
    """What of a split model travels between accelerators: an adapter's base in two bytes, weights that learn whole."""
    return 2 if method in ADAPTED else 4


def _sharded(
    profile: ModelProfile, machine: Machine, method: str, micro_batch_size: int, *, checkpointing: bool, layout: Layout
) -> Footprint:
    """Of one of several workers that FSDP2 has split the model over (ZeRO's third stage, arXiv 1910.02054, section 5).

    Beside its part of weights, gradients and moments a worker holds what is together at the worst moment: what lies
    outside of the blocks, one block and the next one, which is fetched meanwhile (arXiv 2304.11277, section 3.3), their
    gradients before they are scattered, and in mixed precision the two-byte copies of all weights, which autocast
    keeps until the loss is known. All of that is taken to be there at once.
    """
    counted = profile.bfloat16
    peaks = counted.checkpointed if checkpointing else counted.plain
    whole = profile.outside_parameters + 2 * profile.block_parameters
    together = whole * gathered_bytes_per_parameter(method)
    if method in ADAPTED:
        together += counted.gradient_bytes
    else:
        together += whole * GRADIENT_BYTES + profile.parameters * AUTOCAST_BYTES
    growing = max(each for _, each in (*peaks.fresh, *peaks.accumulating))
    activations = round(growing * micro_batch_size * layout.sequences_per_sample) + together
    weights, gradients, optimizer = (
        math.ceil(size / layout.shards)
        for size in (counted.weight_bytes, counted.gradient_bytes, optimizer_bytes(profile, machine, method))
    )
    return Footprint(weights, gradients, optimizer, activations)


def _highest(lines: Lines, sequences: int) -> float:
    return max(fixed + each * sequences for fixed, each in lines)


def usable_bytes(machine: Machine) -> int:
    """What a worker may use: of one accelerator's memory, or of the host's where there is none."""
    if machine.accelerator_name:
        return round(machine.accelerator_memory_gib * GIB * ACCELERATOR_USABLE_FRACTION)
    return round(machine.memory_gib * GIB * HOST_USABLE_FRACTION - HOST_RESERVED_BYTES)


def micro_batch_size(
    profile: ModelProfile,
    machine: Machine,
    method: str,
    share: int,
    *,
    checkpointing: bool,
    pinned: int = 0,
    layout: Layout = PLAIN,
) -> int:
    """The largest micro-batch that fits (0: not even one sequence); accumulation makes up the rest of a worker's share.

    `pinned`, the size of an earlier attempt, is kept where it fits: another split would add the same gradients in
    another order, and the resumed run would no longer be equal to the bit.
    """
    usable = usable_bytes(machine)

    def fits(size: int) -> bool:
        used = footprint(
            profile, machine, method, size, checkpointing=checkpointing, accumulating=size < share, layout=layout
        )
        return used.peak_bytes <= usable

    if pinned and fits(pinned):
        return pinned
    if fits(share):  # nothing is accumulated, which takes less than a smaller size that is
        return share
    if not fits(1):
        return 0
    low, high = 1, share
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    return math.ceil(share / math.ceil(share / low))
