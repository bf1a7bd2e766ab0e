"""Between the contract's messages and the values of planning endpoints."""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from google.protobuf.message import Message

from services.optimizer import messages, serving, serving_values, serving_wording
from services.optimizer.serving_snapshot import Inputs
from services.optimizer.serving_values import EndpointPlan, Option, Spec
from services.optimizer.throughput import Machine
from sskai import contract
from sskai.events import v1 as events

# An adapter's methods; every other method, and none, means weights of their own.
ADAPTER_METHODS = {"lora", "qlora"}


def spec_of(spec: events.EndpointSpec) -> Spec:
    """The endpoint as planning sees it."""
    resources = spec.resources
    adapted = spec.model.method in ADAPTER_METHODS
    return Spec(
        requests_per_day=_finite(spec.requests_per_day),
        input_tokens_per_request=_finite(spec.input_tokens_per_request),
        output_tokens_per_request=_finite(spec.output_tokens_per_request),
        peak_to_mean=_finite(spec.peak_to_mean) or serving_values.DEFAULT_PEAK_TO_MEAN,
        tokens_per_second=_given(spec, "tokens_per_second"),
        p95_latency_seconds=_given(spec, "p95_latency_seconds"),
        budget_usd_per_month=_given(spec, "budget_usd_per_month"),
        accelerators=resources.accelerators,
        cpus=resources.cpus,
        memory=resources.memory,
        regions=tuple(resources.regions),
        instance_types=tuple(resources.instance_types),
        max_price_usd_per_hour=_given(resources, "max_price_usd_per_hour"),
        base_is_running=spec.base_is_running,
        adapter_rank=(spec.model.rank or messages.DEFAULT_RANK) if adapted else 0,
    )


def profile_question(spec: events.EndpointSpec) -> dict[str, Any]:
    """What the profiling worker is asked."""
    return {"serve": True, "config_json": spec.model.config_json}


def proposed(
    plan: EndpointPlan, inputs: Inputs, machines: Mapping[str, Machine], **identity: Any
) -> events.EndpointPlanProposed:
    """The plan as it is told. `identity`: plan_id, tenant_id, snapshot_hash."""
    return events.EndpointPlanProposed(
        **identity,
        options=[_option(each, machines) for each in plan.options],
        explanation=plan.explanation,
        planner_version=serving.VERSION,
        prices_as_of=contract.timestamp(datetime.fromisoformat(plan.options[0].offer.price_as_of)),
        proposed_at=contract.timestamp(inputs.now),
    )


def _option(option: Option, machines: Mapping[str, Machine]) -> events.EndpointOption:
    return events.EndpointOption(
        kind=option.kind,
        placement=messages.placement(option.offer, machines[option.offer.instance_type]),
        alternatives=[messages.placement(one, machines[one.instance_type]) for one in option.alternatives],
        replicas=option.service.replicas,
        on_demand_floor=option.on_demand_floor,
        usd_per_month=option.usd_per_month,
        usd_per_million_tokens=option.usd_per_million_tokens,
        tokens_per_second=option.service.tokens_per_second,
        p95_latency_seconds=option.service.p95_latency_seconds,
        cold_start_seconds=option.cold_start_seconds,
        cold_fraction=option.service.cold_fraction,
        utilisation=option.service.utilisation,
        meets=option.meets,
        detail=serving_wording.detail(option),
        break_even_requests_per_day=option.break_even_requests_per_day,
    )


def _given(message: Message, field: str) -> float | None:
    return _finite(getattr(message, field)) if message.HasField(field) else None


def _finite(number: float) -> float:
    """What is no number is refused as zero is: a snapshot, which is JSON, has no word for it."""
    return number if math.isfinite(number) else 0.0
