"""Between the contract's messages and the values of planning."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any

from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp

from services.optimizer import memory, prices, replay, throughput, work
from services.optimizer.completion import Range
from services.optimizer.domain import PLANNER_VERSION
from services.optimizer.snapshot import Inputs, Market
from services.optimizer.throughput import Machine
from services.optimizer.values import Assumptions, Candidate, Offer, Plan, Refusal
from services.optimizer.work import Request
from sskai import contract
from sskai.events import v1 as events

CLASSIFIED_PICTURES, DESCRIBED_PICTURES = "image-classification", work.TEXT_TO_IMAGE  # of the datasets' formats
DEFAULT_RANK = 8
DEFAULT_KEPT = 3  # of checkpoints, as the trainer keeps them

CAPACITY_TYPES = {"spot": events.CAPACITY_TYPE_SPOT, "on-demand": events.CAPACITY_TYPE_ON_DEMAND}
SPOT_POLICIES = {
    "auto": events.SPOT_POLICY_AUTO,
    "spot": events.SPOT_POLICY_SPOT,
    "on-demand": events.SPOT_POLICY_ON_DEMAND,
}
OBJECTIVES = {
    "cheapest": events.OBJECTIVE_CHEAPEST,
    "fastest": events.OBJECTIVE_FASTEST,
    "cheapest-within-deadline": events.OBJECTIVE_CHEAPEST_WITHIN_DEADLINE,
    "fastest-within-budget": events.OBJECTIVE_FASTEST_WITHIN_BUDGET,
}


def request_of(spec: events.JobSpec) -> Request:
    """The specification as planning sees it."""
    wishes, resources = spec.hyperparameters, spec.resources
    return Request(
        method=spec.model.method or "lora",
        rank=spec.model.rank or DEFAULT_RANK,
        rows=spec.dataset.rows,
        dataset_bytes=spec.dataset.bytes,
        estimated_tokens=spec.dataset.estimated_tokens,
        eval_fraction=spec.dataset.eval_fraction,
        context_length=_context_length(spec.model.config_json),
        n_epochs=_given(wishes, "n_epochs"),
        batch_size=_given(wishes, "batch_size"),
        learning_rate=_given(wishes, "learning_rate"),
        sequence_length=_given(wishes, "sequence_length"),
        max_steps=_given(wishes, "max_steps"),
        accelerators=resources.accelerators,
        cpus=resources.cpus,
        memory=resources.memory,
        regions=tuple(resources.regions),
        instance_types=tuple(resources.instance_types),
        max_price_usd_per_hour=_given(resources, "max_price_usd_per_hour"),
        spot_policy=_name_of(SPOT_POLICIES, spec.spot_policy, "auto"),
        objective=_name_of(OBJECTIVES, spec.objective, "cheapest"),
        budget_usd=_given(spec, "budget_usd"),
        deadline=contract.moment(spec.deadline).isoformat() if spec.HasField("deadline") else "",
        checkpoint_interval_steps=spec.checkpoint.interval_steps,
        checkpoints=not spec.checkpoint.disabled,
        checkpoints_kept=spec.checkpoint.keep or DEFAULT_KEPT,
        gradient_checkpointing=_given(wishes, "gradient_checkpointing"),
        nodes=resources.nodes,
        dataset_format=spec.dataset.format,
        packing=wishes.packing,
        dora=spec.model.dora,
    )


def of_pictures(request: Request) -> Request:
    """The same, with a picture as a sequence of one token. What a classifier keeps is not computed again."""
    checkpointing = request.gradient_checkpointing if request.dataset_format == DESCRIBED_PICTURES else False
    return replace(
        request,
        estimated_tokens=request.rows,
        sequence_length=1,
        context_length=1,
        gradient_checkpointing=checkpointing,
    )


def profile_question(spec: events.JobSpec, request: Request) -> dict[str, Any]:
    """What the profiling worker is asked."""
    classified = request.dataset_format in ("classification", CLASSIFIED_PICTURES)
    labels = len(spec.dataset.labels) if classified else 0
    return {
        "config_json": spec.model.config_json,
        "method": request.method,
        "rank": request.rank,
        "alpha": spec.model.alpha,
        "target_modules": list(spec.model.target_modules),
        "sequence_length": work.sequence_length(request)[0],
        "dora": request.dora,
        "labels": labels,
        "pictures": request.dataset_format == CLASSIFIED_PICTURES,
        "pipeline": request.dataset_format == DESCRIBED_PICTURES,
    }


def proposed(plan: Plan, inputs: Inputs, market: Market, **identity: Any) -> events.PlanProposed:
    """The plan as it is told. `identity`: job_id, tenant_id, plan_id, preview, after_attempt, cause, snapshot_hash."""
    best, job, profile = plan.candidates[0], plan.work, inputs.profile
    footprint = best.pace.footprint
    return events.PlanProposed(
        **identity,
        profile=events.WorkProfile(
            parameters=profile.parameters,
            trainable_parameters=profile.trainable_parameters,
            flops_per_token=profile.flops_per_token,
            weight_bytes=footprint.weight_bytes,
            gradient_bytes=footprint.gradient_bytes,
            optimizer_bytes=footprint.optimizer_bytes,
            activation_bytes=footprint.activation_bytes,
            peak_bytes=footprint.peak_bytes,
            total_steps=job.total_steps,
            batch_size=job.batch_size,
            sequence_length=job.sequence_length,
            total_tokens=job.total_tokens,
            steps_left=job.steps_left,
            learning_rate=job.learning_rate,
            largest_memory_term=footprint.largest_term,
            packed_sequences=job.packed_sequences,
        ),
        candidates=[candidate(each, inputs.now, inputs.assumptions) for each in plan.candidates],
        rejections=[
            events.Rejection(
                placement=placement(each.offer, market.machines[each.offer.instance_type]),
                reason=each.misfit.reason,
                detail=each.misfit.detail,
            )
            for each in plan.rejections
        ],
        spot_policy=SPOT_POLICIES[inputs.request.spot_policy],
        checkpoint_interval_steps=best.completion.checkpoint_interval_steps,
        prices_as_of=contract.timestamp(datetime.fromisoformat(best.offer.price_as_of)),
        proposed_at=contract.timestamp(inputs.now),
        explanation=plan.explanation,
        objective=OBJECTIVES[inputs.request.objective],
        planner_version=PLANNER_VERSION,
        throughput_version=throughput.version(inputs.history.measured),
        point_of_no_return=_moment(plan.point_of_no_return),
        fitting=plan.fitting,
        naive=_naive(inputs, market, identity.get("after_attempt", 0)),
    )


def _naive(inputs: Inputs, market: Market, after_attempt: int) -> events.Candidate | None:
    """What somebody takes who does not plan, told with a job's first plan; None: it does not fit, or is not offered."""
    offers = tuple(offer for offer in market.offers if offer.instance_type == replay.NAIVE_TYPE)
    if after_attempt or not offers:
        return None
    found = replay.chosen(replay.POLICIES["naive"](inputs, Market(market.machines, offers)))
    return candidate(found, inputs.now, inputs.assumptions) if found is not None else None


def refused(refusal: Refusal, now: datetime, **identity: Any) -> events.PlanRefused:
    """The refusal as it is told. `identity`: job_id, tenant_id, plan_id, preview, after_attempt."""
    return events.PlanRefused(
        **identity,
        reason=refusal.reason,
        detail=refusal.detail,
        advice=refusal.advice,
        refused_at=contract.timestamp(now),
    )


def placement(offer: Offer, machine: Machine) -> events.Placement:
    """An offer as the contract names it."""
    return events.Placement(
        cloud=offer.cloud,
        region=offer.region,
        zone=offer.zone,
        instance_type=offer.instance_type,
        capacity_type=CAPACITY_TYPES[offer.capacity_type],
        accelerator_name=machine.accelerator_name,
        accelerator_count=machine.accelerator_count,
        vcpus=machine.vcpus,
        memory_gib=machine.memory_gib,
        price_usd_per_hour=offer.price_usd_per_hour,
        on_demand_price_usd_per_hour=offer.on_demand_price_usd_per_hour,
    )


def offer_key(placement: events.Placement) -> str:
    """The key of `sskai.machines.v1` that this placement is an offer of."""
    capacity_type = _name_of(CAPACITY_TYPES, placement.capacity_type, "on-demand")
    return "/".join((placement.cloud, placement.region, placement.zone, placement.instance_type, capacity_type))


def candidate(chosen: Candidate, now: datetime, assumptions: Assumptions) -> events.Candidate:
    """A candidate as the contract names it."""
    pace, done, seconds, dollars = chosen.pace, chosen.completion, chosen.completion.seconds, chosen.usd
    return events.Candidate(
        placement=placement(chosen.offer, pace.machine),
        step_seconds=_estimate(pace.step_seconds),
        hours=_estimate(done.hours),
        total_usd=_estimate(chosen.total_usd),
        expected_interruptions=done.expected_interruptions,
        micro_batch_size=pace.micro_batch_size,
        bound_by=pace.bound_by,
        machine_count=pace.machines,
        workers=pace.workers,
        price_as_of=_moment(chosen.offer.price_as_of),
        price_stale=prices.is_stale(chosen.offer, now, assumptions.price_stale_seconds),
        seconds=events.TimeBreakdown(
            startup=seconds.startup,
            training=seconds.training,
            checkpoint_stall=seconds.checkpoint_stall,
            interruptions=seconds.interruptions,
            finish=seconds.finish,
            waiting=seconds.waiting,
        ),
        usd=events.CostBreakdown(
            compute=dollars.compute,
            on_demand_fallback=dollars.on_demand_fallback,
            storage=dollars.storage,
            egress=dollars.egress,
        ),
        checkpoint_interval_steps=done.checkpoint_interval_steps,
        gradient_checkpointing=pace.checkpointing,
        peak_bytes=pace.footprint.peak_bytes,
        usable_bytes=memory.usable_bytes(pace.machine),
        largest_memory_term=pace.footprint.largest_term,
        on_pareto_front=chosen.on_pareto_front,
        on_demand_total_usd=chosen.on_demand_total_usd,
        interruptions_per_hour=done.interruptions_per_hour,
        shard=pace.shard,
    )


def _moment(text: str) -> Timestamp | None:
    return contract.timestamp(datetime.fromisoformat(text)) if text else None


def _estimate(value: Range) -> events.Estimate:
    return events.Estimate(expected=value.expected, low=value.low, high=value.high)


def _given(message: Message, field: str) -> Any:
    return getattr(message, field) if message.HasField(field) else None


def _name_of(names: Mapping[str, int], number: int, default: str) -> str:
    return next((name for name, each in names.items() if each == number), default)


def _context_length(config_json: str) -> int:
    """Of a config.json, which may be anything at this point; 0 where it does not say."""
    try:
        length = json.loads(config_json).get("max_position_embeddings", 0)
    except (ValueError, AttributeError):
        return 0
    return length if isinstance(length, int) and length > 0 else 0
