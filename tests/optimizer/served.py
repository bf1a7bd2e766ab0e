"""Values that the tests of endpoints share."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from services.optimizer import catalogue, serving
from services.optimizer.serving_rates import ServingProfile
from services.optimizer.serving_values import EndpointPlan, Option, Spec
from services.optimizer.throughput import Machine
from services.optimizer.values import Assumptions, Offer, Refusal
from sskai import contract
from sskai.events import v1 as events
from tests.optimizer.made import NOW, SMOLLM2

# What the profiling worker counts for published models (test_serving_profile.py counts the first one again).
SMALL = ServingProfile(
    parameters=134_515_008,
    layers=30,
    hidden_size=576,
    vocabulary=49_152,
    context_length=8192,
    kv_bytes_per_token=46_080.0,
    flops_per_token=268_959_744.0,
    attention_flops_per_pair=69_120.0,
    linear_layers=210,
    adapter_parameters_per_rank=305_280,
)
MIDDLE = ServingProfile(  # Llama 3.1 8B
    parameters=8_030_261_248,
    layers=32,
    hidden_size=4096,
    vocabulary=128_256,
    context_length=131_072,
    kv_bytes_per_token=262_144.0,
    flops_per_token=15_009_316_864.0,
    attention_flops_per_pair=524_288.0,
    linear_layers=224,
    adapter_parameters_per_rank=2_621_440,
)
GIANT = replace(MIDDLE, parameters=10**12)

SPEC = Spec(requests_per_day=2000, input_tokens_per_request=300, output_tokens_per_request=150)


def asking(**changes: Any) -> Spec:
    return replace(SPEC, **changes)


def decide(
    spec: Spec = SPEC,
    profile: ServingProfile = SMALL,
    *,
    machines: dict[str, Machine] | None = None,
    offers: Sequence[Offer] | None = None,
    assumptions: Assumptions | None = None,
) -> EndpointPlan | Refusal:
    """A decision on the project's own catalogue."""
    known = catalogue.snapshot()
    return serving.plan_endpoint(
        spec,
        profile,
        machines=machines or known.machines,
        offers=known.offers if offers is None else offers,
        assumptions=assumptions or Assumptions(),
        now=NOW,
    )


def planned(spec: Spec = SPEC, profile: ServingProfile = SMALL, **arguments: Any) -> EndpointPlan:
    outcome = decide(spec, profile, **arguments)
    assert isinstance(outcome, EndpointPlan), outcome
    return outcome


def refused(spec: Spec = SPEC, profile: ServingProfile = SMALL, **arguments: Any) -> Refusal:
    outcome = decide(spec, profile, **arguments)
    assert isinstance(outcome, Refusal), outcome
    return outcome


def option_of(plan: EndpointPlan, kind: str) -> Option:
    return next(option for option in plan.options if option.kind == kind)


def requested(plan_id: str = "plan_1", tenant_id: str = "tenant_a", **fields: Any) -> events.EndpointPlanRequested:
    """An adapter on SmolLM2, as the gateway asks for its endpoint."""
    wishes: dict[str, Any] = {
        "requests_per_day": 2000.0,
        "input_tokens_per_request": 300.0,
        "output_tokens_per_request": 150.0,
    }
    return events.EndpointPlanRequested(
        plan_id=plan_id,
        tenant_id=tenant_id,
        spec=events.EndpointSpec(
            name="support-bot",
            model=events.ModelRef(
                model_id="smollm2-135m-instruct",
                uri="builtin://smollm2-135m-instruct",
                config_json=json.dumps(fields.pop("config", SMOLLM2)),
                method="lora",
                rank=8,
            ),
            **(wishes | fields),
        ),
        requested_at=contract.timestamp(NOW),
    )
