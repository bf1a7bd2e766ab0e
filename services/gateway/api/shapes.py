"""What answers look like, for `/openapi.json` alone: routes build their documents themselves and check nothing twice.

Tests compare real answers with these. A field may be added at any time; one that stands here stays. Fields with a
default are left out by documents that were stored before there was such a field.
"""

from __future__ import annotations

from datetime import date, datetime
from typing import Annotated, Any, Generic, Literal, TypeVar

from pydantic import BaseModel, Field

from services.gateway.endpoints import EndpointState
from services.gateway.webhook_store import DeliveryState

T = TypeVar("T")
Free = dict[str, Any]
At = datetime | None


class Page(BaseModel, Generic[T]):
    """Newest first; `next` goes into `after`."""

    object: Literal["list"]
    data: list[T]
    has_more: bool
    next: str | None


class Whole(BaseModel, Generic[T]):
    """A list that has no more pages."""

    object: Literal["list"]
    data: list[T]


class DatasetReport(BaseModel):
    characters: int | None = None
    characters_per_row: Free | None = None
    duplicates: int | None = None
    share_learnt: float | None = None
    labels: list[str | float] | None = None
    rows_per_class: dict[str, int] | None = None


class Dataset(BaseModel):
    id: str
    object: Literal["dataset"]
    name: str
    version: int
    uri: str
    format: str
    rows: int
    bytes: int
    sha256: str
    estimated_tokens: int
    report: DatasetReport
    lineage: Free | None
    created_at: datetime


class DatasetPreview(BaseModel):
    object: Literal["dataset.preview"]
    id: str
    rows: list[Free]


class DatasetCut(BaseModel):
    """A dry run tells what would come of it."""

    object: Literal["dataset.cut", "dataset"]


class Model(BaseModel):
    id: str
    object: Literal["model"]
    created: int
    owned_by: Literal["sskai", "tenant"]
    model_id: str
    name: str
    version: int
    origin: str
    parent: str | None
    method: str | None
    available: bool
    task: str | None
    parameters: int | None
    bytes: int | None
    licence: str | None
    hub_id: str | None
    job_id: str | None
    dataset_uri: str | None
    artifact_uri: str | None
    eval_loss_before: float | None
    eval_loss_after: float | None
    created_at: datetime


class Alias(BaseModel):
    id: str
    object: Literal["model.alias"]
    model: str
    alias: Literal["champion", "challenger"]
    version: int | None


class Endpoint(BaseModel):
    id: str
    object: Literal["endpoint"]
    name: str
    kind: Literal["adapter", "serverless", "spot"]
    model: str
    model_id: str
    version: int
    sample_rate: float
    state: EndpointState
    ready_at: At
    load_seconds: float | None
    cold_start_seconds: float | None
    failed_at: At
    reason: str
    advice: str
    scaled_at: At
    replicas: int | None
    drifted_at: At
    drift_signal: str
    drift_explanation: str
    deletion_requested_at: At
    deleted_at: At
    promoted_at: At
    served_model_id: str
    served_version: int | None
    canary_at: At
    canary_version: int | None
    canary_fraction: float | None
    input_tokens: int
    output_tokens: int
    spent_usd: float
    on_demand_usd: float
    usd_per_million_tokens: float | None
    created_at: datetime


class EndpointWithTraffic(Endpoint):
    traffic: Free | None


class Objective(BaseModel):
    object: Literal["endpoint.objective"]
    name: str
    target: float
    at_most_seconds: float | None
    severity: str | None
    breached_since: Any
    burn_rates: dict[str, float | None]
    budget_left_fraction: float | None
    set_at: datetime


class Promise(BaseModel):
    name: str
    target: float
    at_most_seconds: float | None


class Retraining(BaseModel):
    """The policy; whoever reads it also gets what waits (`pending`) and the loop so far (`timeline`)."""

    object: Literal["endpoint.retraining"]
    endpoint_id: str
    policy: Free | None
    set_by: Literal["owner", "operator"] | None = None
    next_at: At = None
    spent_usd: float | None = None
    in_flight: Free | None = None
    refused_now: Free | None = None
    pending: list[Free] | None = None
    suggestions: list[Free] | None = None
    timeline: list[Free] | None = None


class Decided(BaseModel):
    object: Literal["retrain"]
    id: str
    endpoint_id: str
    approved: bool


class Drift(BaseModel):
    object: Literal["endpoint.drift"]
    endpoint_id: str
    versions: list[Free]


class Playground(BaseModel):
    object: Literal["endpoint.playground"]
    endpoint_id: str
    name: str
    model: str
    state: EndpointState
    task: str | None
    context_tokens: int | None
    operation: str
    route: str
    parameters: list[Free]
    examples: list[str]
    body: Free
    snippets: dict[str, str]


class Sums(BaseModel):
    spent_nano_usd: int
    on_demand_nano_usd: int
    saving_nano_usd: int
    spent_usd: float
    on_demand_usd: float
    saving_usd: float
    saving_fraction: float | None
    machine_seconds: float
    input_tokens: int
    output_tokens: int
    usd_per_million_tokens: float | None
    rows: int


class EndpointReceipt(Sums):
    object: Literal["endpoint.receipt"]
    endpoint_id: str
    month: str
    final: bool
    days: list[Sums]


class Costs(BaseModel):
    object: Literal["costs"]
    since: date
    until: date
    group_by: list[str]
    groups: list[Sums]
    total: Sums
    month_to_date: Sums
    time_saved_seconds: float | None


class Trace(BaseModel):
    trace_id: str
    started_at: datetime
    duration_seconds: float
    services: list[str]
    spans_counted_only: int
    spans: list[Free]


class Figures(BaseModel):
    window_seconds: float | None = None
    figures: list[Free]


class Feedback(BaseModel):
    object: Literal["feedback"]
    id: str
    endpoint_id: str
    version: int
    score: float | None
    label: str | None


class Budget(BaseModel):
    """What is spent, reserved and left is null while the monitor is away."""

    id: str
    object: Literal["budget"]
    scope: Literal["tenant", "project", "endpoint", "job"]
    target: str
    amount_usd: float
    amount_nano_usd: int
    period: Literal["month", "total"]
    thresholds: list[float]
    action: Literal["warn", "stop"]
    set_at: datetime
    spent_nano_usd: int | None
    reserved_nano_usd: int | None
    left_nano_usd: int | None
    spent_usd: float | None
    reserved_usd: float | None
    left_usd: float | None
    period_name: str | None


class Webhook(BaseModel):
    id: str
    object: Literal["webhook"]
    url: str
    types: list[str]
    enabled: bool
    created_at: datetime
    disabled_at: At
    previous_secret_until: At


class NewWebhook(Webhook):
    secret: Annotated[str, Field(description="Shown once")]


class Delivery(BaseModel):
    id: str
    object: Literal["webhook.delivery"]
    state: DeliveryState
    type: str
    event_id: str | None
    tries: int
    told_at: datetime
    delivered_at: At
    next_try_at: At
    last_status: int | None
    last_problem: str | None


class WebhookWithDeliveries(Webhook):
    deliveries: list[Delivery]


class WebhookReplay(BaseModel):
    object: Literal["webhook.replay"]
    deliveries: int
    has_more: bool
    next: int | None


class Sent(BaseModel):
    delivery_id: str


class Deleted(BaseModel):
    id: str
    object: Literal["dataset", "file", "model"]
    deleted: Literal[True]
