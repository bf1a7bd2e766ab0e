"""The shapes of the gateway's answers. Times are RFC 3339 texts, money is USD; more fields than these may come.

`NotRequired` fields are in some answers only: in that of one resource and not in a list's, or since a later version.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NotRequired, TypeAlias, TypedDict

Document: TypeAlias = dict[str, Any]
Documents: TypeAlias = list[Document]
# What the caller writes: a job file, an endpoint's options, messages.
File: TypeAlias = Mapping[str, Any]
ChatMessages: TypeAlias = Sequence[Mapping[str, Any]]


class Dataset(TypedDict):
    id: str
    name: str
    version: int
    uri: str
    format: str
    rows: int
    bytes: int
    sha256: str
    estimated_tokens: int
    report: Document | None
    lineage: Document | None
    created_at: str


class Model(TypedDict):
    """A foundation model, a model of one's own, or a trained version (then `parent` is what it stands on)."""

    id: str
    created: int
    owned_by: str
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
    created_at: str


class Alias(TypedDict):
    id: str
    model: str
    alias: str
    version: int


class Plan(TypedDict):
    """`status` is pending, proposed or refused. Of a job `candidates`, of an endpoint `options`: best first."""

    id: str
    kind: str
    status: str
    job_id: str | None
    preview: bool
    created_at: str
    candidates: NotRequired[Documents]
    options: NotRequired[Documents]
    rejections: NotRequired[Documents]
    explanation: NotRequired[str]
    profile: NotRequired[Document]
    snapshot_hash: NotRequired[str]
    prices_as_of: NotRequired[str]
    point_of_no_return: NotRequired[str | None]
    reason: NotRequired[str]
    detail: NotRequired[str]
    advice: NotRequired[str]


class Replay(TypedDict):
    id: str
    status: str
    plan_id: str
    policy: str | None
    equal: bool
    differences: list[str]
    stored_choice: Document | None
    choice: Document | None
    planner_version: str
    stored_planner_version: str
    snapshot_hash: str
    explanation: str
    problem: NotRequired[str]


class JobProgress(TypedDict):
    at: str
    step: int
    total_steps: int
    phase: str
    loss: float | None
    learning_rate: float | None
    step_seconds: float | None
    tokens_per_second: float | None
    eta_seconds: float | None


class Waiting(TypedDict):
    """Why a job is held, and until when as far as anybody can say."""

    rule: str
    detail: str
    since: str | None
    expected_start: str | None
    earliest_start: str | None
    latest_start: str | None
    position: int


class Attempt(TypedDict):
    number: int
    outcome: str
    machine_id: str
    placement: Document | None
    started_at: str | None
    progress: JobProgress | None
    resumed_from_step: int | None
    lost_steps: int
    gap_seconds: float | None
    drained_at: str | None
    lost_at: str | None
    finished_at: str | None
    reason: str
    detail: str


class JobEnd(TypedDict):
    at: str
    state: str
    reason: str
    advice: str
    artifact_uri: str
    eval_loss_before: float | None
    eval_loss_after: float | None
    steps: int
    tokens: int


class Receipt(TypedDict):
    job_id: str
    paid_usd: float
    on_demand_usd: float | None
    lost_usd: float | None
    machine_seconds: float
    attempts: int
    paid_nano_usd: int
    on_demand_nano_usd: int | None


class Job(TypedDict):
    """`state`: submitted, queued, held, running, cancelling, succeeded, failed or cancelled."""

    id: str
    kind: str
    name: str
    state: str
    model: str
    dataset: str | None
    attempt: int
    waiting: Waiting | None
    progress: JobProgress | None
    spent_usd: float
    budget_usd: float | None
    submitted_at: str | None
    updated_at: str
    ended_at: str | None
    # Of one job, not in lists.
    spec: NotRequired[Document]
    trace_id: NotRequired[str | None]
    plan_id: NotRequired[str | None]
    placement: NotRequired[Document | None]
    requeue: NotRequired[Document | None]
    attempts: NotRequired[list[Attempt]]
    checkpoints: NotRequired[Documents]
    losses: NotRequired[list[list[float]]]
    on_demand_usd: NotRequired[float]
    budget_fraction_reached: NotRequired[float]
    end: NotRequired[JobEnd | None]
    receipt: NotRequired[Document | None]


class Log(TypedDict):
    """`truncated`: earlier lines are not shown."""

    job_id: str
    attempt: int
    lines: list[Document]
    truncated: bool


class Endpoint(TypedDict):
    id: str
    name: str
    kind: str
    model: str
    model_id: str
    version: int
    sample_rate: float
    state: str
    created_at: str
    spent_usd: float
    on_demand_usd: float
    usd_per_million_tokens: float | None
    reason: str
    advice: str
    ready_at: str | None
    load_seconds: float | None
    cold_start_seconds: float | None
    replicas: int | None
    canary_version: int | None
    canary_fraction: float | None
    drift_signal: str
    drift_explanation: str
    traffic: NotRequired[Any]


class Budget(TypedDict):
    id: str
    scope: str
    target: str
    amount_usd: float
    amount_nano_usd: int
    period: str
    thresholds: list[float]
    action: str
    set_at: str
    spent_usd: float | None
    reserved_usd: float | None
    left_usd: float | None


class Key(TypedDict):
    """`key` is in the answer that made it, and nowhere else."""

    id: str
    tenant_id: str
    name: str
    prefix: str
    created_at: str
    revoked_at: str | None
    key: NotRequired[str]
    sampled: NotRequired[bool]
    admin: NotRequired[bool]
    scopes: NotRequired[list[str]]
    expires_at: NotRequired[str | None]
    last_used_at: NotRequired[str | None]
    created_by: NotRequired[str | None]


class Member(TypedDict):
    id: str
    email: str
    name: str
    role: str
    state: str
    created_at: str


class Tenant(TypedDict):
    id: str
    name: str
    role: str
    created_at: str


class Session(TypedDict):
    """Who asks: `user` is None of a key."""

    id: str
    user: Document | None
    tenant: Document | None
    role: str | None
    scopes: list[str]
    operator: bool
    csrf_token: str | None
    tenants: Documents
    created_at: str
    expires_at: str | None


class SignInLink(TypedDict):
    """Good once, for a few minutes."""

    url: str
    expires_at: str


class AuditEntry(TypedDict):
    id: str
    seq: int
    at: str
    actor: Document
    action: str
    target: str | None
    status: int
    sha256: str
    previous_sha256: str


class Webhook(TypedDict):
    """`secret` is in the answer that made it, and in that of a rotation."""

    id: str
    url: str
    types: list[str]
    created_at: str
    disabled_at: str | None
    enabled: NotRequired[bool]
    secret: NotRequired[str]
    deliveries: NotRequired[list[Delivery]]


class Delivery(TypedDict):
    id: str
    type: str
    event_id: str | None
    tries: int
    told_at: str
    delivered_at: str | None
    next_try_at: str | None
    last_status: int | None
    last_problem: str | None


class Upload(TypedDict):
    """`status`: pending, validating, completed, failed (with its `problem`), cancelled or expired. `parts`: which are
    there, of one upload."""

    id: str
    bytes: int
    filename: str
    purpose: str
    status: str
    expires_at: int | None
    part_bytes: NotRequired[int]
    problem: NotRequired[Document | None]
    file: NotRequired[Document | None]
    parts: NotRequired[Documents]


class ChatChoice(TypedDict):
    index: int
    message: Document
    finish_reason: str | None


class ChatAnswer(TypedDict):
    id: str
    model: str
    choices: list[ChatChoice]
    usage: Document
