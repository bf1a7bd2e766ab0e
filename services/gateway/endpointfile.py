"""The file of an endpoint that somebody thinks of, and its way into the contract's EndpointSpec. Pure."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from services.gateway.jobfile import Form, MachinesForm, Name, Reference
from services.gateway.jobspec import machines
from services.gateway.values import Model
from sskai.events import v1 as events

Tokens = Annotated[float, Field(gt=0, le=10_000_000)]


class ServedModelForm(Form):
    base: Reference | None = None
    artifact: Reference | None = None  # model://NAME/VERSION, of a model of one's own


class TrafficForm(Form):
    requests_per_day: float = Field(gt=0, le=1e10)
    input_tokens_per_request: Tokens
    output_tokens_per_request: Tokens
    peak_to_mean: float = Field(default=3, ge=1, le=24)  # busiest hour over the mean hour; 24: all in one hour


class LatencyForm(Form):
    p95_seconds: Annotated[float, Field(gt=0, le=86_400)] | None = None  # of a whole answer
    tokens_per_second: Annotated[float, Field(gt=0, le=100_000)] | None = None  # of one stream


class MonthlyBudgetForm(Form):
    usd_per_month: Annotated[float, Field(gt=0, le=1e9)] | None = None


class EndpointFile(Form):
    """An endpoint with the traffic that it should bear, as `POST /v1/plans` takes it."""

    kind: Literal["endpoint"]
    name: Name
    model: ServedModelForm
    traffic: TrafficForm
    latency: LatencyForm = LatencyForm()
    budget: MonthlyBudgetForm = MonthlyBudgetForm()
    resources: MachinesForm = MachinesForm()


def to_spec(file: EndpointFile, model: Model, base: Model, *, base_is_running: bool) -> events.EndpointSpec:
    """What the optimizer works from. `base` is the model itself unless `model` is an adapter on it."""
    return events.EndpointSpec(
        name=file.name,
        model=events.ModelRef(
            model_id=model.model_id,
            uri=base.base_uri,
            config_json=base.config_json,
            method=(model.method or "lora") if model.artifact_uri else "",
        ),
        requests_per_day=file.traffic.requests_per_day,
        input_tokens_per_request=file.traffic.input_tokens_per_request,
        output_tokens_per_request=file.traffic.output_tokens_per_request,
        peak_to_mean=file.traffic.peak_to_mean,
        tokens_per_second=file.latency.tokens_per_second,
        p95_latency_seconds=file.latency.p95_seconds,
        budget_usd_per_month=file.budget.usd_per_month,
        resources=events.Resources(**machines(file.resources)),
        base_is_running=base_is_running,
    )
