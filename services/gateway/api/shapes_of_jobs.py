"""What answers about jobs, plans and receipts look like; see `shapes.py`."""

from __future__ import annotations

from datetime import date, datetime
from typing import Annotated, Literal

from pydantic import BaseModel, Field

from services.gateway.api.shapes import At, Budget, Free
from services.gateway.domain import JobState


class Placement(BaseModel):
    cloud: str
    region: str
    zone: str
    instance_type: str
    capacity_type: str | None
    accelerator_name: str
    accelerator_count: int
    vcpus: float
    memory_gib: float
    price_usd_per_hour: float | None
    on_demand_price_usd_per_hour: float | None


class Span(BaseModel):
    expected: float | None
    low: float | None
    high: float | None


class Candidate(BaseModel):
    """One way to run a job, and what it would take."""

    placement: Placement
    step_seconds: Span | None = None
    hours: Span | None = None
    total_usd: Span | None = None
    expected_interruptions: float | None = None
    bound_by: str | None = None
    machine_count: int | None = None
    workers: int | None = None
    seconds: Free | None = None
    usd: Free | None = None
    on_pareto_front: bool | None = None
    on_demand_total_usd: float | None = None
    checkpoint_interval_steps: int | None = None
    peak_bytes: int | None = None
    usable_bytes: int | None = None


class Rejection(BaseModel):
    reason: str
    detail: str
    placement: Placement | None = None


class Plan(BaseModel):
    """`candidates` of a job, `options` of an endpoint: best first. While it is `pending` there are none."""

    id: str
    object: Literal["plan"]
    kind: Literal["finetune", "endpoint"]
    status: Literal["pending", "proposed", "refused"]
    job_id: str | None
    preview: bool
    created_at: datetime
    plan_id: str = ""
    candidates: list[Candidate] = []
    options: list[Free] = []
    rejections: list[Rejection] = []
    explanation: str = ""
    objective: str | None = None
    planner_version: str = ""


class Replay(BaseModel):
    id: str
    object: Literal["plan.replay"]
    status: Literal["pending", "replayed", "failed"]
    plan_id: str
    policy: str | None
    created_at: datetime
    equal: bool = False
    differences: list[str] = []
    stored_choice: Candidate | None = None
    choice: Candidate | None = None
    explanation: str = ""
    problem: str = ""


class Waiting(BaseModel):
    rule: str
    detail: str
    since: At
    expected_start: At
    earliest_start: At
    latest_start: At
    position: int


class Progress(BaseModel):
    at: datetime
    step: int
    total_steps: int
    phase: str
    loss: float | None
    learning_rate: float | None
    step_seconds: float | None
    tokens_per_second: float | None
    eta_seconds: float | None


class JobSummary(BaseModel):
    id: str
    object: Literal["job"]
    kind: str
    name: str
    state: JobState
    model: str
    dataset: str | None
    attempt: int
    waiting: Waiting | None
    progress: Progress | None
    spent_usd: float
    budget_usd: float | None
    submitted_at: At
    updated_at: datetime
    ended_at: At


class Attempt(BaseModel):
    number: int
    outcome: str
    machine_id: str
    placement: Placement | None
    started_at: At
    progress: Progress | None
    resumed_from_step: int | None
    lost_steps: int
    gap_seconds: float | None
    drained_at: At
    lost_at: At
    finished_at: At
    reason: str
    detail: str


class Checkpoint(BaseModel):
    step: int
    attempt: int
    uri: str
    bytes: int
    cause: str
    save_seconds: float | None
    stall_seconds: float | None
    at: datetime


class End(BaseModel):
    at: datetime
    state: JobState
    reason: str
    advice: str
    artifact_uri: str
    eval_loss_before: float | None
    eval_loss_after: float | None
    steps: int
    tokens: int


class Requeue(BaseModel):
    attempt: int
    at: datetime
    reason: str
    steps_done: int


class ReceiptFigures(BaseModel):
    """Of a job that has ended, exact in nano-USD."""

    job_id: str
    outcome: str
    attempts: int
    interruptions: int
    intervals: int
    paid_nano_usd: int
    on_demand_nano_usd: int
    saving_fraction: float | None
    machine_seconds: float | None
    useful_seconds: float | None
    overhead_seconds: float | None
    issued_at: At
    restart_seconds: float | None = None
    elapsed_seconds: float | None = None
    waiting_seconds: float | None = None
    naive_nano_usd: int | None = None
    naive_seconds: float | None = None
    naive_instance_type: str | None = None
    naive_saving_fraction: float | None = None
    time_saved_seconds: float | None = None


class Receipt(ReceiptFigures):
    object: Literal["receipt"]
    paid_usd: float
    on_demand_usd: float
    naive_usd: float | None = None


class Job(JobSummary):
    spec: Free
    trace_id: str | None
    plan_id: str | None
    placement: Candidate | None
    requeue: Requeue | None
    attempts: list[Attempt]
    checkpoints: list[Checkpoint]
    losses: Annotated[list[tuple[int, float]], Field(description="Pairs of step and loss")]
    on_demand_usd: float
    budget_fraction_reached: float
    end: End | None
    receipt: ReceiptFigures | None


class Timeline(BaseModel):
    """A Gantt as data; docs/guides/timeline.md."""

    id: str
    object: Literal["job.timeline"]
    name: str
    state: JobState
    until: datetime
    deadline: At
    point_of_no_return: At
    spent_usd: float
    on_demand_usd: float
    budget_usd: float | None
    attempts: list[Free]
    waits: list[Free]
    events: list[Free]
    prices: list[Free]


class Saved(BaseModel):
    since: date
    until: date
    paid_usd: float
    on_demand_usd: float
    saved_usd: float
    saved_fraction: float | None
    time_saved_seconds: float | None


class Decision(BaseModel):
    kind: Literal["retrain", "held-job", "failed-endpoint", "webhook", "budget"]
    id: str
    title: str
    detail: str
    since: At
    link: str


class Activity(BaseModel):
    id: int
    type: str
    subject: str
    name: str | None
    at: datetime
    fields: Free


class Overview(BaseModel):
    """What the monitor tells is null while it is away."""

    object: Literal["overview"]
    month: Saved | None
    last_30_days: Saved | None
    last_365_days: Saved | None
    cost_per_day: list[Free] | None
    budget: Budget | None
    jobs: list[JobSummary]
    job_counts: dict[str, int]
    endpoint_counts: dict[str, int]
    decisions: list[Decision]
    activity: list[Activity]
