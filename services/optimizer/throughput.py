"""How long one optimizer step takes: a roofline, and what measured jobs taught about it. Pure.

Roofline (Williams, Waterman, Patterson 2009): a micro-batch takes the longer of its arithmetic at the machine's
reachable rate and its memory traffic at the reachable bandwidth. The reachable share of the arithmetic peak starts from
a cited figure (`data/README.md`) and is corrected by measured step times.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

# STREAM reaches about four fifths of the nominal bandwidth on server CPUs and on GPUs with GDDR or HBM.
BANDWIDTH_EFFICIENCY = 0.8
# Forward and backward of one layer start some 60 kernels on a GPU, about 10 us each when nothing hides them.
LAUNCH_SECONDS_PER_LAYER = 0.0006
# The data loader, gradient clipping and the learning rate's update between two steps.
STEP_OVERHEAD_SECONDS = 0.01

# Before anything was measured the logarithm of measured/predicted has this standard deviation: a 90 % interval of
# 1.8 times either way, the spread of published model FLOP utilisations (0.2 to 0.6).
PRIOR_SIGMA = 0.35
# Jobs on one and the same machine type differ by this much: neighbours, data and clock rates.
NOISE_SIGMA = 0.20
Z95 = 1.6449


@dataclass(frozen=True, slots=True)
class Machine:
    """What one instance type can do. Rates are those of one accelerator, or of all vCPUs where there is none."""

    instance_type: str
    vcpus: int
    memory_gib: float
    accelerator_name: str
    accelerator_count: int
    accelerator_memory_gib: float
    network_mbps: float
    peak_flops_per_second: float
    bandwidth_bytes_per_second: float
    efficiency: float

    @property
    def hardware(self) -> str:
        """What machines share the fate of a misjudged efficiency: the accelerator's name, or "cpu"."""
        return self.accelerator_name or "cpu"

    @property
    def weight_bytes_per_parameter(self) -> int:
        """Frozen weights are float32 on CPUs, where half precision is slow, and bfloat16 or float16 on accelerators."""
        return 2 if self.accelerator_name else 4


@dataclass(frozen=True, slots=True)
class Measured:
    """Step times of finished and running attempts on one instance type: how they compare with the roofline."""

    instance_type: str
    hardware: str
    method: str
    count: int
    mean_log_ratio: float  # of measured/predicted seconds


@dataclass(frozen=True, slots=True)
class Correction:
    """A factor on predicted seconds, log-normal."""

    mean_log: float
    sigma_log: float

    @property
    def expected(self) -> float:
        return math.exp(self.mean_log)

    @property
    def low(self) -> float:
        return math.exp(self.mean_log - Z95 * self.sigma_log)

    @property
    def high(self) -> float:
        return math.exp(self.mean_log + Z95 * self.sigma_log)


@dataclass(frozen=True, slots=True)
class StepTime:
    """Seconds of one optimizer step before correction, and what limits it."""

    seconds: float
    bound_by: str  # "compute" | "memory-bandwidth"


def step_time(
    machine: Machine,
    *,
    micro_batches: float,
    flops_per_micro_batch: float,
    bytes_per_micro_batch: float,
    optimizer_bytes: float,
    layers: int,
) -> StepTime:
    """One step: `micro_batches` forward and backward passes, then the optimizer's pass over its state."""
    bandwidth = machine.bandwidth_bytes_per_second * BANDWIDTH_EFFICIENCY
    compute_seconds = flops_per_micro_batch / (machine.peak_flops_per_second * machine.efficiency)
    if machine.accelerator_name:
        compute_seconds = max(compute_seconds, layers * LAUNCH_SECONDS_PER_LAYER)
    memory_seconds = bytes_per_micro_batch / bandwidth
    return StepTime(
        seconds=micro_batches * max(compute_seconds, memory_seconds)
        + optimizer_bytes / bandwidth
        + STEP_OVERHEAD_SECONDS,
        bound_by="compute" if compute_seconds >= memory_seconds else "memory-bandwidth",
    )


def correction(machine: Machine, method: str, measured: Sequence[Measured]) -> Correction:
    """What measurements say about this machine, shrunk twice: its type towards its hardware, that towards the roofline.

    Normal-normal shrinkage of log ratios: `n` measurements weigh n/sigma_noise^2 against the prior's 1/sigma^2.
    """
    mean_log, sigma = 0.0, PRIOR_SIGMA
    relatives = [row for row in measured if row.hardware == machine.hardware and row.method == method]
    others = [row for row in relatives if row.instance_type != machine.instance_type]
    # Relatives differ from this type by as much as jobs differ, so many of them still leave that much doubt.
    mean_log, sigma = _shrink(mean_log, sigma, others)
    if others:
        sigma = math.hypot(sigma, NOISE_SIGMA)
    own = [row for row in relatives if row.instance_type == machine.instance_type]
    mean_log, sigma = _shrink(mean_log, min(sigma, PRIOR_SIGMA), own)
    return Correction(mean_log, math.hypot(sigma, NOISE_SIGMA) if own else max(sigma, NOISE_SIGMA))


def _shrink(mean: float, sigma: float, rows: Sequence[Measured]) -> tuple[float, float]:
    weight = 1 / sigma**2
    total = weight + sum(row.count for row in rows) / NOISE_SIGMA**2
    shrunk = (weight * mean + sum(row.count * row.mean_log_ratio for row in rows) / NOISE_SIGMA**2) / total
    return shrunk, math.sqrt(1 / total)
