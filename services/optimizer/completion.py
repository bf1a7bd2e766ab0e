"""From a step time to the hours until a job is complete: start-up, stalls, interruptions, what EC2 bills. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from services.optimizer import throughput, work
from services.optimizer.throughput import Machine, Measured
from services.optimizer.work import Footprint, ModelProfile, Request, Work

HOURS_PER_MONTH = 730.0

# AWS's Spot Instance Advisor: the share of instances of a type that were reclaimed during the trailing month, in five
# bands. (expected, low, high) probability per month; the last band is open-ended, and unknown is taken to be as bad.
INTERRUPTION_BANDS = (
    (0.025, 0.0, 0.05),
    (0.075, 0.05, 0.10),
    (0.125, 0.10, 0.15),
    (0.175, 0.15, 0.20),
    (0.30, 0.20, 0.60),
)
WORST_BAND = len(INTERRUPTION_BANDS) - 1
# Servers fail at some 5 to 10 % a year of their own accord; one in five years is on the cautious side of that.
ON_DEMAND_HAZARD_PER_HOUR = 1 / (5 * 8760)

# Linux instances are billed by the second with a minimum of 60 (AWS announcement of 2017-10-02).
MINIMUM_BILLED_SECONDS = 60.0

# Of the nominal network rate, what one S3 client gets; of the machine's memory bandwidth nothing is needed.
NETWORK_EFFICIENCY = 0.5
SAVE_OVERHEAD_SECONDS = 0.5  # a dozen requests, each some tens of milliseconds, and hashing
STALL_OVERHEAD_SECONDS = 0.05  # taking the snapshot in memory while training stands still
SNAPSHOT_BYTES_PER_SECOND = 2e9
# A forward pass without backward is about half of LoRA's forward and backward (frozen weights have no gradient).
EVALUATION_SHARE_OF_STEP = 0.5
EVALUATIONS = 2  # before and after

# The monthly bands say nothing about hours in which a market collapses, when everybody is reclaimed at once.
# So no more than this is ever at stake, as long as saving is nearly free.
MAX_UNSAVED_SECONDS = 600.0
MAX_UNSAVED_FRACTION = 0.25
MAX_STALL_FRACTION = 0.02
MIN_SAVES_APART = 4.0  # saves run in the background one at a time and take processor time from training


@dataclass(frozen=True, slots=True)
class Range:
    """An estimate with its 5th and 95th percentile."""

    expected: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Hazard:
    """Interruptions per hour."""

    expected: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Pace:
    """How one machine type gets on with one job."""

    machine: Machine
    micro_batch_size: int
    footprint: Footprint
    step_seconds: Range
    roofline_step_seconds: float  # before any correction: what measurements are compared with
    bound_by: str
    startup_seconds: float  # paid, not yet training
    finish_seconds: float  # evaluations, last checkpoint and export
    save_seconds: float
    stall_seconds: float


@dataclass(frozen=True, slots=True)
class Completion:
    """Hours and billed hours until the job is complete, whatever the price."""

    hours: Range
    billed_hours: Range
    expected_interruptions: float
    checkpoint_interval_steps: int


def hazard(capacity_type: str, interruption_band: int | None) -> Hazard:
    """The advisor's band as a constant rate: a share p lost per month is -ln(1 - p)/730 per hour."""
    if capacity_type != "spot":
        return Hazard(ON_DEMAND_HAZARD_PER_HOUR, 0.0, ON_DEMAND_HAZARD_PER_HOUR)
    band = WORST_BAND if interruption_band is None else min(max(interruption_band, 0), WORST_BAND)
    expected, low, high = (-math.log1p(-share) / HOURS_PER_MONTH for share in INTERRUPTION_BANDS[band])
    return Hazard(expected, low, high)


def pace(
    request: Request,
    profile: ModelProfile,
    job: Work,
    machine: Machine,
    measured: Sequence[Measured],
    *,
    machine_start_seconds: float,
    pinned_micro_batch_size: int = 0,
) -> Pace | None:
    """The step time and the fixed costs on one machine type; None: not even one sequence fits into its memory."""
    size = work.micro_batch_size(profile, machine, job.batch_size, pinned_micro_batch_size)
    if size == 0:
        return None
    footprint = work.footprint(profile, machine, size)
    tokens = size * job.padded_tokens_per_sequence
    filled = job.padded_tokens_per_sequence / job.sequence_length  # of the profiled sequence
    time = throughput.step_time(
        machine,
        micro_batches=job.batch_size / size,
        flops_per_micro_batch=profile.flops_per_token * tokens,
        # Weights are read forward and backward; activations are written once and read once.
        bytes_per_micro_batch=2 * footprint.weight_bytes + 2 * footprint.activation_bytes * filled,
        optimizer_bytes=2 * (footprint.gradient_bytes + footprint.optimizer_bytes),
        layers=profile.layers,
    )
    factor = throughput.correction(machine, request.method, measured)
    step = Range(time.seconds * factor.expected, time.seconds * factor.low, time.seconds * factor.high)
    network = machine.network_mbps * 1e6 / 8 * NETWORK_EFFICIENCY
    state_bytes = profile.trainable_parameters * 12
    save_seconds = SAVE_OVERHEAD_SECONDS + state_bytes / network
    evaluation_steps = EVALUATIONS * job.eval_rows / job.batch_size * EVALUATION_SHARE_OF_STEP
    return Pace(
        machine=machine,
        micro_batch_size=size,
        footprint=footprint,
        step_seconds=step,
        roofline_step_seconds=time.seconds,
        bound_by=time.bound_by,
        startup_seconds=machine_start_seconds + (profile.parameters * 4 + request.dataset_bytes) / network,
        finish_seconds=evaluation_steps * step.expected + 2 * save_seconds,
        save_seconds=save_seconds,
        stall_seconds=STALL_OVERHEAD_SECONDS + state_bytes / SNAPSHOT_BYTES_PER_SECOND,
    )


def checkpoint_interval_steps(pace: Pace, steps: int, interruptions_per_hour: float) -> int:
    """Steps between checkpoints, in [1, steps].

    Young's optimum sqrt(2 x save x mean time between interruptions) (CACM 17(9), 1974; Daly's higher orders matter only
    where saving takes a good part of that time), shortened to what may be at stake in a market's collapse, but never so
    short that saving costs more than a fiftieth of the time.
    """
    step = max(pace.step_seconds.expected, 1e-9)
    young = math.sqrt(2 * pace.save_seconds * 3600 / max(interruptions_per_hour, 1e-12))
    stake = min(MAX_UNSAVED_SECONDS, MAX_UNSAVED_FRACTION * steps * step)
    affordable = max(pace.stall_seconds / MAX_STALL_FRACTION, MIN_SAVES_APART * pace.save_seconds)
    seconds = min(young, max(stake, affordable))
    return int(min(max(1, round(seconds / step)), max(steps, 1)))


def complete(pace: Pace, job: Work, risk: Hazard, fixed_interval_steps: int = 0) -> Completion:
    """Time to completion on this pace under this risk.

    Expected: each interruption costs a new start-up and half an interval, T = base / (1 - hazard x cost), the solution
    to first order. High: the slow end of the step time, with as many interruptions as 95 % of such runs have at most,
    each at the cost of a whole interval. Low: the fast end, undisturbed.
    """
    interval = min(fixed_interval_steps, max(job.total_steps, 1)) or checkpoint_interval_steps(
        pace, job.total_steps, risk.expected
    )
    stalls = pace.stall_seconds * (job.steps_left / interval)
    fixed = pace.startup_seconds + pace.finish_seconds + stalls
    step = pace.step_seconds
    at_risk = min(interval, job.steps_left)
    cost_seconds = pace.startup_seconds + 0.5 * at_risk * step.expected
    base = fixed + job.steps_left * step.expected
    expected = base / (1 - min(risk.expected / 3600 * cost_seconds, 0.5))
    slow = fixed + job.steps_left * step.high
    interruptions = _poisson_quantile_95(risk.high / 3600 * slow)
    high = slow + interruptions * (pace.startup_seconds + at_risk * step.high)
    low = min(fixed + job.steps_left * step.low, expected)
    high = max(high, expected)
    return Completion(
        hours=Range(expected / 3600, low / 3600, high / 3600),
        billed_hours=Range(
            max(expected, MINIMUM_BILLED_SECONDS) / 3600,
            max(low, MINIMUM_BILLED_SECONDS) / 3600,
            max(high, MINIMUM_BILLED_SECONDS * (1 + interruptions)) / 3600,
        ),
        expected_interruptions=risk.expected / 3600 * expected,
        checkpoint_interval_steps=interval,
    )


def _poisson_quantile_95(mean: float) -> int:
    """The smallest k with P(N <= k) >= 0.95; above a mean of 50 by the normal approximation."""
    if mean > 50:
        return math.ceil(mean + throughput.Z95 * math.sqrt(mean))
    term = total = math.exp(-mean)
    count = 0
    while total < 0.95:
        count += 1
        term *= mean / count
        total += term
    return count
