"""How long one optimizer step takes: a roofline, and what measured jobs taught about it. Pure.

Roofline (Williams, Waterman, Patterson 2009): a micro-batch takes the longer of its arithmetic at the machine's
reachable rate and its memory traffic at the reachable bandwidth. Workers then add up their gradients over the slowest
link between them. The reachable share of the arithmetic peak starts from published figures (`data/efficiency.csv`) and
is corrected by measured step times.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cache

# STREAM reaches about four fifths of the nominal bandwidth on server CPUs and on GPUs with GDDR or HBM.
BANDWIDTH_EFFICIENCY = 0.8
# Of a link's nominal rate in one direction, what a ring all-reduce sees (nccl-tests print 80 to 90 % on NVLink).
LINK_EFFICIENCY = 0.8
# Of the nominal network rate, what one stream of many gets.
NETWORK_EFFICIENCY = 0.5
# Between two machines without accelerators gloo has one connection, and EC2 gives a single flow 5 Gbit/s outside of a
# cluster placement group (EC2 User Guide, "instance network bandwidth"). NCCL opens several on AWS.
SINGLE_FLOW_BYTES_PER_SECOND = 5e9 / 8
# Kernels that nothing hides: Qwen's README profiles a 24-layer model with adapters and recomputation at 1.0 s for eight
# micro-batches of 256 tokens on an A100, which is 1.7 ms a layer for each of three passes.
LAUNCH_SECONDS_PER_LAYER_AND_PASS = 0.0017
# The data loader, gradient clipping and the learning rate's update between two steps.
STEP_OVERHEAD_SECONDS = 0.01

# Before anything was measured, the logarithm of measured/predicted has this standard deviation: a 90 % interval of
# 1.8 times either way, the spread of published model FLOP utilisations (0.2 to 0.6).
PRIOR_SIGMA = 0.35
# Machine families with one and the same accelerator differ by this much: hosts, clocks, power limits.
FAMILY_SIGMA = 0.20
# Small micro-batches are less efficient than large ones, by an unknown power of their tokens.
PRIOR_SLOPE_SIGMA = 0.10
# Attempts on one machine type differ by this much (neighbours, data, clock rates); worth so many attempts of evidence.
NOISE_SIGMA = 0.06
NOISE_PRIOR_COUNT = 3.0
TYPICAL_TOKENS = 1024.0
MAX_SLOPE_DISTANCE = 3.0  # the slope is not believed further away than a factor of e^3 in tokens


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
    # Shares of the peak that training reaches before anything was measured, by method.
    efficiency: dict[str, float]
    link_bytes_per_second: float = 0.0  # between accelerators of one machine, one direction

    @property
    def hardware(self) -> str:
        """What machines share the fate of a misjudged efficiency: the accelerator's name, or "cpu"."""
        return self.accelerator_name or "cpu"

    @property
    def weight_bytes_per_parameter(self) -> int:
        """Weights are float32 on CPUs, where half precision is slow, and bfloat16 or float16 on accelerators."""
        return 2 if self.accelerator_name else 4

    @property
    def family(self) -> str:
        """Types that differ in size only: "g5", "m7i"."""
        return self.instance_type.rpartition(".")[0]


@dataclass(frozen=True, slots=True)
class Measured:
    """Attempts on one machine family and method, as sums over y = ln(measured/predicted step seconds) and
    z = ln(tokens of a micro-batch/TYPICAL_TOKENS): all that a regression of y on z needs."""

    family: str
    hardware: str
    method: str
    count: int
    sum_z: float
    sum_zz: float
    sum_y: float
    sum_zy: float
    sum_yy: float


@dataclass(frozen=True, slots=True)
class Correction:
    """A factor on predicted seconds: log-Student, with its 5th and 95th percentile."""

    mean_log: float
    sigma_log: float
    quantile: float  # the t distribution's 95th percentile

    @property
    def expected(self) -> float:
        return math.exp(self.mean_log)

    @property
    def low(self) -> float:
        return math.exp(self.mean_log - self.quantile * self.sigma_log)

    @property
    def high(self) -> float:
        return math.exp(self.mean_log + self.quantile * self.sigma_log)


@dataclass(frozen=True, slots=True)
class StepTime:
    """Seconds of one optimizer step before correction, and what limits it."""

    seconds: float
    bound_by: str  # "compute" | "memory-bandwidth" | "interconnect"


def step_time(
    machine: Machine,
    method: str,
    *,
    micro_batches: float,
    flops_per_micro_batch: float,
    bytes_per_micro_batch: float,
    optimizer_bytes: float,
    gradient_bytes: float,
    layers: int,
    passes: int,
    machines: int,
    workers: int,
    slowdown: float = 1.0,
    travelling_bytes_per_micro_batch: float = 0.0,
) -> StepTime:
    """One step of one worker of `workers` on `machines` of a kind: micro-batches, all-reduce, the optimizer's pass.

    A ring all-reduce sends 2(n-1)/n times the gradients over the slowest link (Patarasuk and Yuan 2009). It is not
    taken to overlap with the backward pass. A model in parts exchanges `travelling_bytes_per_micro_batch` instead,
    (n-1)/n of which go over that link (ZeRO, arXiv 1910.02054, section 7.2.2); that, too, is not taken to overlap.
    `slowdown`: of a micro-batch, by what neither arithmetic nor traffic tells.
    """
    bandwidth = machine.bandwidth_bytes_per_second * BANDWIDTH_EFFICIENCY
    compute_seconds = flops_per_micro_batch / (machine.peak_flops_per_second * machine.efficiency[method])
    if machine.accelerator_name:
        compute_seconds = max(compute_seconds, layers * passes * LAUNCH_SECONDS_PER_LAYER_AND_PASS)
    memory_seconds = bytes_per_micro_batch / bandwidth
    work_seconds = micro_batches * slowdown * max(compute_seconds, memory_seconds) + optimizer_bytes / bandwidth
    exchange_seconds = 0.0
    if workers > 1:
        exchanged = micro_batches * travelling_bytes_per_micro_batch or 2 * gradient_bytes
        exchange_seconds = (workers - 1) / workers * exchanged / slowest_link(machine, machines)
    bound = "compute" if compute_seconds >= memory_seconds else "memory-bandwidth"
    return StepTime(
        seconds=work_seconds + exchange_seconds + STEP_OVERHEAD_SECONDS,
        bound_by="interconnect" if exchange_seconds > work_seconds else bound,
    )


def slowest_link(machine: Machine, machines: int) -> float:
    """Bytes a second, one direction, between the workers of so many machines."""
    if machines == 1:
        return machine.link_bytes_per_second * LINK_EFFICIENCY
    network = machine.network_mbps * 1e6 / 8 * NETWORK_EFFICIENCY
    return network if machine.accelerator_name else min(network, SINGLE_FLOW_BYTES_PER_SECOND)


def log_tokens(tokens_per_micro_batch: float) -> float:
    """The regression's z."""
    return math.log(max(tokens_per_micro_batch, 1.0) / TYPICAL_TOKENS)


def correction(
    machine: Machine, method: str, tokens_per_micro_batch: float, measured: Sequence[Measured]
) -> Correction:
    """What measurements say about this machine at this micro-batch.

    A Bayesian linear regression y = a + b z in two stages: the hardware's other families move the mean of all families,
    around which this one lies FAMILY_SIGMA apart, and its own attempts move that. The noise is estimated from the
    residuals of both with NOISE_PRIOR_COUNT attempts' worth of NOISE_SIGMA, so the prediction is a Student t (Gelman et
    al., Bayesian Data Analysis, section 14.2, with the ratio of the variances taken as known).
    """
    related = [row for row in measured if row.hardware == machine.hardware and row.method == method]
    own = [row for row in related if row.family == machine.family]
    others = [row for row in related if row.family != machine.family]
    noise, freedom = _noise(related)
    belief = _Gaussian(0.0, 0.0, PRIOR_SIGMA**2 - FAMILY_SIGMA**2, 0.0, PRIOR_SLOPE_SIGMA**2)
    for row in others:
        # All attempts of one family share what sets it apart, so their mean is never surer than that.
        belief = _updated(belief, [row], noise + row.count * FAMILY_SIGMA**2)
    belief = _Gaussian(belief.a, belief.b, belief.var_a + FAMILY_SIGMA**2, belief.cov, belief.var_b)
    belief = _updated(belief, own, noise)
    z = log_tokens(tokens_per_micro_batch)
    z = max(-MAX_SLOPE_DISTANCE, min(z, MAX_SLOPE_DISTANCE))
    variance = belief.var_a + 2 * z * belief.cov + z * z * belief.var_b + noise
    return Correction(belief.a + belief.b * z, math.sqrt(variance), _t95(freedom))


def version(measured: Sequence[Measured]) -> str:
    """The name of what was learnt by now; empty: nothing."""
    if not measured:
        return ""
    text = json.dumps([asdict(row) for row in measured], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


@dataclass(frozen=True, slots=True)
class _Gaussian:
    """A belief about (a, b)."""

    a: float
    b: float
    var_a: float
    cov: float
    var_b: float


def _updated(belief: _Gaussian, rows: Sequence[Measured], noise: float) -> _Gaussian:
    """The posterior after these attempts: precisions add up."""
    if not rows:
        return belief
    det = belief.var_a * belief.var_b - belief.cov**2
    p_aa, p_ab, p_bb = belief.var_b / det, -belief.cov / det, belief.var_a / det
    q_a, q_b = p_aa * belief.a + p_ab * belief.b, p_ab * belief.a + p_bb * belief.b
    p_aa += sum(row.count for row in rows) / noise
    p_ab += sum(row.sum_z for row in rows) / noise
    p_bb += sum(row.sum_zz for row in rows) / noise
    q_a += sum(row.sum_y for row in rows) / noise
    q_b += sum(row.sum_zy for row in rows) / noise
    det = p_aa * p_bb - p_ab**2
    var_a, cov, var_b = p_bb / det, -p_ab / det, p_aa / det
    return _Gaussian(var_a * q_a + cov * q_b, cov * q_a + var_b * q_b, var_a, cov, var_b)


def _noise(rows: Sequence[Measured]) -> tuple[float, float]:
    """The variance of one attempt around its family's line, and the degrees of freedom behind it."""
    weight, squares = NOISE_PRIOR_COUNT, NOISE_PRIOR_COUNT * NOISE_SIGMA**2
    for row in rows:
        if row.count < 2:
            continue
        mean_y, mean_z = row.sum_y / row.count, row.sum_z / row.count
        spread_zz = row.sum_zz - row.count * mean_z**2
        spread_zy = row.sum_zy - row.count * mean_z * mean_y
        spread_yy = row.sum_yy - row.count * mean_y**2
        # Ridge: the slope is held to its prior, so that two attempts do not explain each other away.
        slope = spread_zy / (spread_zz + NOISE_SIGMA**2 / PRIOR_SLOPE_SIGMA**2)
        squares += max(spread_yy - 2 * slope * spread_zy + slope**2 * spread_zz, 0.0)
        weight += row.count - 1
    return squares / weight, weight


@cache
def _t95(freedom: float) -> float:
    """The 95th percentile of Student's t, by the expansion of Fisher and Cornish (Abramowitz and Stegun 26.7.5)."""
    x = 1.6448536269514722
    g1 = (x**3 + x) / 4
    g2 = (5 * x**5 + 16 * x**3 + 3 * x) / 96
    g3 = (3 * x**7 + 19 * x**5 + 17 * x**3 - 15 * x) / 384
    return x + g1 / freedom + g2 / freedom**2 + g3 / freedom**3
