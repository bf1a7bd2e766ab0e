"""From a step time to the hours and dollars until a job is complete: start-up, stalls, interruptions, bills. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from services.optimizer import memory, throughput, work
from services.optimizer.charges import HOURS_PER_MONTH, Baggage
from services.optimizer.memory import Footprint, Layout, ModelProfile
from services.optimizer.throughput import NETWORK_EFFICIENCY, Machine, Measured
from services.optimizer.work import PREFERENCE, Request, Work

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

SAVE_OVERHEAD_SECONDS = 0.5  # a dozen requests, each some tens of milliseconds, and hashing
STALL_OVERHEAD_SECONDS = 0.05  # taking the snapshot in memory while training stands still
SNAPSHOT_BYTES_PER_SECOND = 2e9
# A forward pass without backward is about half of LoRA's forward and backward (frozen weights have no gradient).
EVALUATION_SHARE_OF_STEP = 0.5
EVALUATIONS = 4  # before, after, and both sides of the comparison with the champion

# How much an observed hour weighs against the advisor's band, which stands for a month of many accounts' instances.
BAND_HOURS = 500.0
# One launch in twenty finds no spot machine (an assumption), held as firmly as twenty launches; observed ones move it.
DENIED_SHARE = 0.05
PRIOR_LAUNCHES = 20.0
# AWS says of its score only that 10 is highly likely to succeed and 1 is not: half to nothing, evenly (an assumption).
DENIED_BY_SCORE = tuple(0.5 - 0.05 * step for step in range(10))
# What a denied launch costs in time before an alternate has started, and how likely the alternates are denied as well.
DENIAL_SECONDS = 60.0
ALTERNATES_DENIED_TOO = 0.3

# The monthly bands say nothing about hours in which a market collapses, when everybody is reclaimed at once.
# So no more than this is ever at stake, as long as saving is nearly free.
MAX_UNSAVED_SECONDS = 600.0
MAX_UNSAVED_FRACTION = 0.25
MAX_STALL_FRACTION = 0.02
MIN_SAVES_APART = 4.0  # saves run in the background one at a time and take processor time from training

Z95 = 1.6449


@dataclass(frozen=True, slots=True)
class Range:
    """An estimate with its 5th and 95th percentile."""

    expected: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Hazard:
    """Interruptions per hour of one machine, and the share of launches that find none."""

    expected: float
    low: float
    high: float
    denied: float = 0.0


@dataclass(frozen=True, slots=True)
class Exposure:
    """What was seen of one type's spot machines in one region lately."""

    region: str
    instance_type: str
    hours: float
    interruptions: int
    launches: int  # asked for, granted or not
    denials: int


@dataclass(frozen=True, slots=True)
class Pace:
    """How so many machines of one type get on with one job."""

    machine: Machine
    machines: int
    workers: int
    micro_batch_size: int
    checkpointing: bool  # of gradients
    footprint: Footprint
    step_seconds: Range
    roofline_step_seconds: float  # before any correction: what measurements are compared with
    tokens_per_micro_batch: float
    bound_by: str
    startup_seconds: float  # paid, not yet training
    finish_seconds: float  # evaluations, last checkpoint and export
    save_seconds: float
    stall_seconds: float
    baggage: Baggage
    shard: bool = False  # the model is split over the workers


@dataclass(frozen=True, slots=True)
class Seconds:
    """Where the expected time goes."""

    startup: float
    training: float
    checkpoint_stall: float
    interruptions: float
    finish: float
    waiting: float


@dataclass(frozen=True, slots=True)
class Completion:
    """Hours until the job is complete, and billed hours of each of its machines, whatever the price."""

    hours: Range
    billed_hours: Range
    seconds: Seconds
    expected_interruptions: float
    interruptions_per_hour: float  # of one machine
    checkpoint_interval_steps: int
    saves: float
    fallback_hours: float  # of the billed ones, on demand because there is no spot


def hazard(
    capacity_type: str,
    interruption_band: int | None,
    exposure: Exposure | None = None,
    placement_score: int | None = None,
) -> Hazard:
    """The advisor's band as a constant rate, moved by what was seen: a share p lost a month is -ln(1 - p)/730 an hour.

    A gamma belief with BAND_HOURS behind it: (rate x BAND_HOURS + interruptions)/(BAND_HOURS + hours). Its interval
    goes from the band's own edges to two standard deviations of the belief, as the observed hours outweigh the band.
    The share of launches denied starts from AWS's placement score where there is one.
    """
    if capacity_type != "spot":
        return Hazard(ON_DEMAND_HAZARD_PER_HOUR, 0.0, ON_DEMAND_HAZARD_PER_HOUR)
    band = WORST_BAND if interruption_band is None else min(max(interruption_band, 0), WORST_BAND)
    expected, low, high = (-math.log1p(-share) / HOURS_PER_MONTH for share in INTERRUPTION_BANDS[band])
    denied = DENIED_SHARE if placement_score is None else DENIED_BY_SCORE[min(max(placement_score, 1), 10) - 1]
    if exposure is None:
        return Hazard(expected, low, high, denied)
    weight = BAND_HOURS + exposure.hours
    moved = (expected * BAND_HOURS + exposure.interruptions) / weight
    spread = 2 * math.sqrt(moved / weight)
    share = BAND_HOURS / weight
    return Hazard(
        expected=moved,
        low=max(min(moved, share * low + (1 - share) * (moved - spread)), 0.0),
        high=max(moved, share * high + (1 - share) * (moved + spread)),
        denied=(denied * PRIOR_LAUNCHES + exposure.denials) / (PRIOR_LAUNCHES + exposure.launches),
    )


def pace(
    request: Request,
    profile: ModelProfile,
    job: Work,
    machine: Machine,
    measured: Sequence[Measured],
    *,
    machines: int = 1,
    workers: int = 1,
    machine_start_seconds: float,
    pinned_micro_batch_size: int = 0,
    saving: tuple[float, float] | None = None,
) -> Pace | None:
    """The step time and the fixed costs on `machines` of a type; None: not even one sequence fits into its memory.

    Gradient checkpointing is what the request says, or whichever of both is faster. A model that does not fit one
    accelerator is split over the workers. `saving`: seconds that a checkpoint of this job took and stalled, where that
    was measured.
    """
    reference = request.dataset_format == PREFERENCE
    layout = Layout(sequences_per_sample=job.sequences_per_sample, reference=reference)
    shared: dict[str, Any] = {
        "machines": machines,
        "workers": workers,
        "machine_start_seconds": machine_start_seconds,
        "pinned_micro_batch_size": pinned_micro_batch_size,
        "saving": saving,
    }
    found = _pace(request, profile, job, machine, measured, layout=layout, **shared)
    if found is None and memory.can_shard(profile, machine, request.method, workers, reference=reference):
        layout = replace(layout, shards=workers)
        found = _pace(request, profile, job, machine, measured, layout=layout, **shared)
    return found


def _pace(
    request: Request,
    profile: ModelProfile,
    job: Work,
    machine: Machine,
    measured: Sequence[Measured],
    *,
    layout: Layout,
    machines: int,
    workers: int,
    machine_start_seconds: float,
    pinned_micro_batch_size: int,
    saving: tuple[float, float] | None,
) -> Pace | None:
    wishes = (False, True) if request.gradient_checkpointing is None else (request.gradient_checkpointing,)
    share = math.ceil(job.batch_size / workers)
    network = machine.network_mbps * 1e6 / 8 * NETWORK_EFFICIENCY
    shards = layout.shards
    best: Pace | None = None
    for checkpointing in wishes:
        size = memory.micro_batch_size(
            profile,
            machine,
            request.method,
            share,
            checkpointing=checkpointing,
            pinned=pinned_micro_batch_size,
            layout=layout,
        )
        if size == 0:
            continue
        footprint = memory.footprint(
            profile,
            machine,
            request.method,
            size,
            checkpointing=checkpointing,
            accumulating=size < share,
            layout=layout,
        )
        tokens = size * job.sequences_per_sample * job.padded_tokens_per_sequence
        filled = job.padded_tokens_per_sequence / job.sequence_length  # of the profiled sequence
        effort = work.effort(request, profile, checkpointing=checkpointing)
        time = throughput.step_time(
            machine,
            request.method,
            # Of a split model every pass is one of all workers, however small its micro-batch.
            micro_batches=math.ceil(share / size) if shards > 1 else share / size,
            flops_per_micro_batch=tokens * effort.flops_per_token,
            # Weights are read once a pass; activations are written once and read once.
            bytes_per_micro_batch=effort.passes * footprint.weight_bytes * shards
            + 2 * footprint.activation_bytes * filled,
            optimizer_bytes=2 * (footprint.gradient_bytes + footprint.optimizer_bytes),
            gradient_bytes=footprint.gradient_bytes,
            layers=profile.layers,
            passes=effort.passes,
            machines=machines,
            workers=workers,
            slowdown=effort.slowdown,
            travelling_bytes_per_micro_batch=effort.travelling_bytes if shards > 1 else 0.0,
        )
        if best is not None and best.roofline_step_seconds <= time.seconds:
            continue
        factor = throughput.correction(machine, request.method, tokens, measured)
        step = Range(time.seconds * factor.expected, time.seconds * factor.low, time.seconds * factor.high)
        baggage = _baggage(request, profile, machine)
        # Each worker of a split model saves its own part.
        save_seconds, stall_seconds = saving or (
            SAVE_OVERHEAD_SECONDS + baggage.state_bytes / (network * (machines if shards > 1 else 1)),
            STALL_OVERHEAD_SECONDS + baggage.state_bytes / shards / SNAPSHOT_BYTES_PER_SECOND,
        )
        evaluation_steps = EVALUATIONS * job.eval_rows / job.batch_size * EVALUATION_SHARE_OF_STEP
        best = Pace(
            machine=machine,
            machines=machines,
            workers=workers,
            micro_batch_size=size,
            checkpointing=checkpointing,
            footprint=footprint,
            step_seconds=step,
            roofline_step_seconds=time.seconds,
            tokens_per_micro_batch=tokens,
            bound_by=time.bound_by,
            startup_seconds=machine_start_seconds + baggage.fetched_bytes / network,
            finish_seconds=evaluation_steps * step.expected + 2 * save_seconds,
            save_seconds=save_seconds,
            stall_seconds=stall_seconds,
            baggage=baggage,
            shard=shards > 1,
        )
    return best


def _baggage(request: Request, profile: ModelProfile, machine: Machine) -> Baggage:
    """A base's weights travel as bfloat16; what trains is saved as float32 with its optimizer's state."""
    pretrained = 0 if request.method == "scratch" else profile.parameters * 2
    return Baggage(
        model_bytes=pretrained,
        dataset_bytes=request.dataset_bytes,
        state_bytes=profile.trainable_parameters * 4 + memory.optimizer_bytes(profile, machine, request.method),
        checkpoints_kept=request.checkpoints_kept,
    )


def checkpoint_interval_steps(pace: Pace, steps: int, interruptions_per_hour: float) -> int:
    """Steps between checkpoints, in [1, steps].

    Daly's optimum to third order (FGCS 22(3), 2006, equation 37; its first term is Young's, CACM 17(9), 1974) from the
    time that a save takes and the mean time between interruptions of all machines, shortened to what may be at stake
    in a market's collapse, but never so short that saving costs more than a fiftieth of the time.
    """
    step = max(pace.step_seconds.expected, 1e-9)
    between = 3600 / max(interruptions_per_hour * pace.machines, 1e-12)
    ratio = pace.save_seconds / (2 * between)
    daly = (
        between
        if ratio >= 1
        else math.sqrt(2 * pace.save_seconds * between) * (1 + math.sqrt(ratio) / 3 + ratio / 9) - pace.save_seconds
    )
    stake = min(MAX_UNSAVED_SECONDS, MAX_UNSAVED_FRACTION * steps * step)
    affordable = max(pace.stall_seconds / MAX_STALL_FRACTION, MIN_SAVES_APART * pace.save_seconds)
    seconds = min(daly, max(stake, affordable))
    return int(min(max(1, round(seconds / step)), max(steps, 1)))


def complete(pace: Pace, job: Work, risk: Hazard, request: Request) -> Completion:
    """Time to completion on this pace under this risk.

    Expected: each interruption costs a new start-up, half an interval and the save in flight, T = base/(1 - hazard x
    cost), the solution to first order; any machine's loss stops all. High: the slow end of the step time, with as many
    interruptions as 95 % of such runs have at most, each at the cost of a whole interval. Low: fast and undisturbed.
    """
    if not request.checkpoints:
        interval = max(job.total_steps, 1)
    else:
        interval = min(request.checkpoint_interval_steps, max(job.total_steps, 1)) or checkpoint_interval_steps(
            pace, job.total_steps, risk.expected
        )
    saves = job.steps_left / interval
    stalls = pace.stall_seconds * saves
    step = pace.step_seconds
    training = job.steps_left * step.expected
    fixed = pace.startup_seconds + pace.finish_seconds + stalls
    at_risk = min(interval, job.steps_left)
    rate = risk.expected * pace.machines / 3600
    cost_seconds = pace.startup_seconds + 0.5 * at_risk * step.expected + pace.save_seconds
    base = fixed + training
    running = base / (1 - min(rate * cost_seconds, 0.5))
    interruptions = rate * running
    waiting = (1 + interruptions) * risk.denied * DENIAL_SECONDS
    expected = running + waiting
    slow = fixed + job.steps_left * step.high
    worst = _poisson_quantile_95(risk.high * pace.machines / 3600 * slow)
    high = slow + worst * (pace.startup_seconds + at_risk * step.high + pace.save_seconds) + waiting
    low = min(fixed + job.steps_left * step.low, running)
    high = max(high, expected)
    fallback = 0.0
    if request.spot_policy == "auto" and risk.denied > 0:
        # Once on demand, on average half of the work that is left stays there.
        fallback = min((1 + interruptions) * risk.denied * ALTERNATES_DENIED_TOO, 1.0) * 0.5 * training / 3600
    return Completion(
        hours=Range(expected / 3600, low / 3600, high / 3600),
        billed_hours=Range(
            max(running, MINIMUM_BILLED_SECONDS) / 3600,
            max(low, MINIMUM_BILLED_SECONDS) / 3600,
            max(high, MINIMUM_BILLED_SECONDS * (1 + worst)) / 3600,
        ),
        seconds=Seconds(
            startup=pace.startup_seconds,
            training=training,
            checkpoint_stall=stalls,
            interruptions=running - base,
            finish=pace.finish_seconds,
            waiting=waiting,
        ),
        expected_interruptions=interruptions,
        interruptions_per_hour=risk.expected,
        checkpoint_interval_steps=interval,
        saves=saves,
        fallback_hours=fallback,
    )


def _poisson_quantile_95(mean: float) -> int:
    """The smallest k with P(N <= k) >= 0.95; above a mean of 50 by the normal approximation."""
    if mean > 50:
        return math.ceil(mean + Z95 * math.sqrt(mean))
    term = total = math.exp(-mean)
    count = 0
    while total < 0.95:
        count += 1
        term *= mean / count
        total += term
    return count
