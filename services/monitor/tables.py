"""The monitor's tables. Every row of a tenant's names its tenant; times are with time zone, money is whole nano-USD."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import (
    BigInteger,
    DateTime,
    Double,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    Text,
    UniqueConstraint,
    false,
)
from sqlalchemy.dialects.postgresql import ARRAY, JSONB
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from sskai.claims import Claimable
from sskai.database import service_metadata


class Base(DeclarativeBase):
    metadata = service_metadata("monitor")
    type_annotation_map = {str: Text, datetime: DateTime(timezone=True), float: Double}  # noqa: RUF012


class JobRow(Claimable, Base):
    """A job's account. Made by whichever of its facts arrives first; `due_at` is set while its receipt is due."""

    __tablename__ = "jobs"

    job_id: Mapped[str] = mapped_column(primary_key=True)
    tenant_id: Mapped[str]
    submitted_at: Mapped[datetime | None]
    budget_nano_usd: Mapped[int | None] = mapped_column(BigInteger)
    budget_fraction_told: Mapped[float] = mapped_column(default=0.0)
    retrain_endpoint_id: Mapped[str | None] = mapped_column(index=True)
    outcome: Mapped[str | None]
    metered_intervals: Mapped[int | None]
    final_attempt: Mapped[int | None]
    ended_at: Mapped[datetime | None]
    closed_at: Mapped[datetime | None]  # when the monitor heard of the end
    traceparent: Mapped[str | None]  # of that event: the receipt belongs to the same journey
    # Of the first plan: what somebody would have taken who does not plan.
    planned: Mapped[bool] = mapped_column(default=False)
    naive: Mapped[dict[str, Any] | None] = mapped_column(JSONB)
    # What every attempt fetches, where it is known.
    dataset_bytes: Mapped[int] = mapped_column(BigInteger, default=0)
    weight_bytes: Mapped[int] = mapped_column(BigInteger, default=0)
    weights_are_ours: Mapped[bool] = mapped_column(default=False)  # they lie in the object store
    dataset_name: Mapped[str] = mapped_column(default="")
    dataset_version: Mapped[int] = mapped_column(default=0)


class SpendRow(Base):
    """The ledger: one metered interval of machines at one price, or a day of storage or egress."""

    __tablename__ = "spend"
    __table_args__ = (Index("ix_spend_of_tenant", "tenant_id", "started_at", "job_id", "kind", "interval"),)

    job_id: Mapped[str] = mapped_column(primary_key=True)
    kind: Mapped[str] = mapped_column(primary_key=True)  # "compute" | "storage" | "egress"
    interval: Mapped[int] = mapped_column(primary_key=True)
    endpoint_id: Mapped[str]  # that a replica's machine is paid for; empty: none
    tenant_id: Mapped[str]
    attempt: Mapped[int]
    machine_id: Mapped[str]
    cloud: Mapped[str]
    region: Mapped[str]
    zone: Mapped[str]
    instance_type: Mapped[str]
    capacity_type: Mapped[str]  # "spot" | "on-demand"
    started_at: Mapped[datetime]
    ended_at: Mapped[datetime]
    price_usd_per_hour: Mapped[float]
    amount_nano_usd: Mapped[int] = mapped_column(BigInteger)
    on_demand_nano_usd: Mapped[int] = mapped_column(BigInteger)
    machines: Mapped[int]
    quantity: Mapped[float]
    unit: Mapped[str]
    input_tokens: Mapped[int] = mapped_column(BigInteger)
    output_tokens: Mapped[int] = mapped_column(BigInteger)


class AttemptRow(Base):
    """What was told of an attempt's steps."""

    __tablename__ = "attempts"

    job_id: Mapped[str] = mapped_column(primary_key=True)
    attempt: Mapped[int] = mapped_column(primary_key=True)
    tenant_id: Mapped[str]
    resumed_from_step: Mapped[int | None]
    resumed_at: Mapped[datetime | None]
    first_step: Mapped[int | None]
    first_step_at: Mapped[datetime | None]
    last_step: Mapped[int | None]
    last_step_at: Mapped[datetime | None]
    step_seconds: Mapped[float | None]
    step_seconds_at_step: Mapped[int | None]
    stopped: Mapped[bool] = mapped_column(default=False)
    requeued: Mapped[bool] = mapped_column(default=False)
    finished: Mapped[bool] = mapped_column(default=False)
    cloud: Mapped[str] = mapped_column(default="")
    region: Mapped[str] = mapped_column(default="")
    started_at: Mapped[datetime | None]


class ReceiptRow(Base):
    """What ReceiptIssued said; a job has one."""

    __tablename__ = "receipts"

    job_id: Mapped[str] = mapped_column(primary_key=True)
    tenant_id: Mapped[str]
    body: Mapped[dict[str, Any]] = mapped_column(JSONB)
    issued_at: Mapped[datetime]


class EndpointRow(Base):
    """An endpoint and its retraining."""

    __tablename__ = "endpoints"

    endpoint_id: Mapped[str] = mapped_column(primary_key=True)
    tenant_id: Mapped[str]
    model_id: Mapped[str]
    version: Mapped[int]
    deleted: Mapped[bool] = mapped_column(default=False)
    retrain_id: Mapped[str] = mapped_column(default="")
    retrain_requested_at: Mapped[datetime | None]
    retrain_job_id: Mapped[str] = mapped_column(default="")
    retrain_ended_at: Mapped[datetime | None]


class RetrainingRow(Claimable, Base):
    """An endpoint's policy of retraining. `due_at` is its schedule's next time, None without one."""

    __tablename__ = "retraining"

    endpoint_id: Mapped[str] = mapped_column(primary_key=True)
    tenant_id: Mapped[str] = mapped_column(index=True)
    mode: Mapped[str]  # empty: the owner took the policy back; the row stays, so that a late one does not revive it
    on_drift: Mapped[bool]
    on_new_dataset: Mapped[bool]
    schedule: Mapped[str]
    data: Mapped[str]
    cooldown_seconds: Mapped[float | None]  # None: the operator's
    budget_usd: Mapped[float | None]  # per calendar month
    confirm_alarms: Mapped[int]
    confirm_samples: Mapped[int]
    max_job_budget_usd: Mapped[float | None]
    set_at: Mapped[datetime]
    scheduled_for: Mapped[datetime | None]  # what `due_at` stands for: a clock that is behind never takes it twice
    alarms: Mapped[dict[str, Any]] = mapped_column(JSONB)  # since the last retrain (`retraining.count_alarm`)
    dataset_name: Mapped[str]  # the newest version that was heard of
    dataset_version: Mapped[int]


class SuggestionRow(Claimable, Base):
    """A RetrainSuggested. `due_at` is set while it waits for a decision: then it expires."""

    __tablename__ = "retrain_suggestions"

    retrain_id: Mapped[str] = mapped_column(primary_key=True)
    endpoint_id: Mapped[str] = mapped_column(index=True)
    tenant_id: Mapped[str]
    model_id: Mapped[str]
    version: Mapped[int]
    reason: Mapped[str]
    detail: Mapped[str]
    data: Mapped[str]
    state: Mapped[str]  # "waiting" | "told" (nobody is asked) | "approved" | a rule of RetrainDeclined
    suggested_at: Mapped[datetime]
    expires_at: Mapped[datetime | None]
    decided_at: Mapped[datetime | None]
    decided_by: Mapped[str]


class ModelVersionRow(Base):
    """Which job made a version of a model, and from which data."""

    __tablename__ = "model_versions"

    model_id: Mapped[str] = mapped_column(primary_key=True)
    version: Mapped[int] = mapped_column(primary_key=True)
    tenant_id: Mapped[str]
    job_id: Mapped[str]
    dataset_uri: Mapped[str]


class ReferenceRow(Claimable, Base):
    """A sample of what a version's training data asks. `due_at` is set while it has still to be fetched."""

    __tablename__ = "drift_references"

    model_id: Mapped[str] = mapped_column(primary_key=True)
    version: Mapped[int] = mapped_column(primary_key=True)
    tenant_id: Mapped[str]
    texts: Mapped[list[str] | None] = mapped_column(JSONB)
    problem: Mapped[str | None]  # why there is none


class DriftWatchRow(Base):
    """The running tests of a version on an endpoint (`drift_watch.Watch`)."""

    __tablename__ = "drift_watches"

    endpoint_id: Mapped[str] = mapped_column(primary_key=True)
    model_id: Mapped[str] = mapped_column(primary_key=True)
    version: Mapped[int] = mapped_column(primary_key=True)
    tenant_id: Mapped[str]
    state: Mapped[dict[str, Any]] = mapped_column(JSONB)
    rows: Mapped[int] = mapped_column(BigInteger)  # of drift_samples so far, deleted ones included
    window_after: Mapped[int] = mapped_column(BigInteger)  # the healthy window's samples have higher numbers
    alarms: Mapped[list[dict[str, Any]]] = mapped_column(JSONB)  # the newest, as they were told
    updated_at: Mapped[datetime] = mapped_column(index=True)


class DriftWindowRow(Base):
    """The texts of a version's healthy window."""

    __tablename__ = "drift_windows"

    endpoint_id: Mapped[str] = mapped_column(primary_key=True)
    model_id: Mapped[str] = mapped_column(primary_key=True)
    version: Mapped[int] = mapped_column(primary_key=True)
    tenant_id: Mapped[str]
    inputs: Mapped[list[str]] = mapped_column(JSONB)
    outputs: Mapped[list[str]] = mapped_column(JSONB)


class DriftSampleRow(Base):
    """A sampled inference or an answer that was praised or blamed, so that each counts once; the newest are kept."""

    __tablename__ = "drift_samples"
    __table_args__ = (Index(None, "endpoint_id", "model_id", "version", "number"),)

    endpoint_id: Mapped[str] = mapped_column(primary_key=True)
    inference_id: Mapped[str] = mapped_column(primary_key=True)
    tenant_id: Mapped[str]
    model_id: Mapped[str]
    version: Mapped[int]
    number: Mapped[int] = mapped_column(BigInteger)  # in the order of arrival, from 1
    input_text: Mapped[str | None]  # None: it was not sampled, or is not yet known here
    output_text: Mapped[str | None]  # None: as above, or there was no answer
    feedback: Mapped[dict[str, Any] | None] = mapped_column(JSONB(none_as_null=True))


class TraceRow(Base):
    """How many spans a trace holds, and whether they are to be kept. Whose it is, its spans say."""

    __tablename__ = "traces"

    trace_id: Mapped[str] = mapped_column(primary_key=True)
    names: Mapped[dict[str, int]] = mapped_column(JSONB, default=dict)  # kept spans by "service name"
    spans: Mapped[int] = mapped_column(default=0)  # all of them, kept or only counted
    last_received_at: Mapped[datetime] = mapped_column(index=True)
    notable: Mapped[bool] = mapped_column(server_default=false())  # a span of it failed, was slow, or is of a job
    kept: Mapped[bool | None]  # what the sampling decided; None: it has not yet


class SpanRow(Base):
    """A span; one without a body was counted but not kept, and stands here so that it is not counted twice."""

    __tablename__ = "spans"

    trace_id: Mapped[str] = mapped_column(ForeignKey(TraceRow.trace_id, ondelete="CASCADE"), primary_key=True)
    span_id: Mapped[str] = mapped_column(primary_key=True)
    body: Mapped[dict[str, Any] | None] = mapped_column(JSONB)


class SeriesRow(Base):
    """Whose spans are counted together."""

    __tablename__ = "series"
    __table_args__ = (
        UniqueConstraint(
            "tenant_id",
            "service",
            "name",
            "model",
            "model_version",
            "endpoint_id",
            "job_id",
            "attempt",
            name="uq_series_labels",
        ),
    )

    series_id: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=True)
    tenant_id: Mapped[str]
    service: Mapped[str]
    name: Mapped[str]
    model: Mapped[str]
    model_version: Mapped[str]
    endpoint_id: Mapped[str]
    job_id: Mapped[str] = mapped_column(server_default="")
    attempt: Mapped[str] = mapped_column(server_default="")


class CellRow(Base):
    """What was counted of a series' measure in one window. Figures are sums over these, in which each span is once.

    There may be several rows of one window: each batch of spans adds its own, and none is ever waited for. `rolled`:
    what is in it is in a row of the next longer windows, too. No foreign key: checking it for each row would cost more
    than writing the row, and rows of a series that is gone are seen by nobody.
    """

    __tablename__ = "cells"
    __table_args__ = (
        Index(None, "window_seconds", "rolled", "window_start"),
        Index(None, "series_id", "window_seconds", "window_start"),
    )

    cell_id: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=True)
    series_id: Mapped[int] = mapped_column(BigInteger)
    measure: Mapped[str]
    window_seconds: Mapped[int]
    window_start: Mapped[datetime]
    rolled: Mapped[bool]
    spans: Mapped[int] = mapped_column(BigInteger)
    total: Mapped[float]
    buckets: Mapped[list[int]] = mapped_column(ARRAY(Integer))
    counts: Mapped[list[int]] = mapped_column(ARRAY(BigInteger))
    errors: Mapped[dict[str, int] | None] = mapped_column(JSONB)  # by kind; None: none
    exemplar_values: Mapped[list[float]] = mapped_column(ARRAY(Double))
    exemplar_trace_ids: Mapped[list[str]] = mapped_column(ARRAY(Text))


class ObjectiveRow(Base):
    """What an endpoint promises, and whether it keeps it now."""

    __tablename__ = "objectives"

    endpoint_id: Mapped[str] = mapped_column(primary_key=True)
    objective: Mapped[str] = mapped_column(primary_key=True)  # e.g. "availability"
    tenant_id: Mapped[str]
    endpoint_name: Mapped[str]
    measure: Mapped[str | None]  # of which values up to `at_most` are good; None: answers without server error are
    at_most: Mapped[float | None]
    target: Mapped[float]  # the share of good ones that is promised
    breached: Mapped[dict[str, str]] = mapped_column(JSONB, server_default="{}")  # rule to since when, ISO 8601
    burn_rates: Mapped[dict[str, float]] = mapped_column(JSONB, server_default="{}")  # by window, at the last look
    set_at: Mapped[datetime]


class CursorRow(Base):
    """How far a source of messages was read."""

    __tablename__ = "cursors"

    source: Mapped[str] = mapped_column(primary_key=True)
    sequence: Mapped[int] = mapped_column(BigInteger)


class SourceRow(Base):
    """How a source of messages does: when it answered last, and since when and why it does not."""

    __tablename__ = "sources"

    source: Mapped[str] = mapped_column(primary_key=True)
    answered_at: Mapped[datetime | None]
    failing_since: Mapped[datetime | None]
    problem: Mapped[str | None]


class MachineRow(Base):
    """A machine that somebody spoke of. `ours`: something of ours ran there; `due_at`: when to tell its notice."""

    __tablename__ = "machines"

    machine_id: Mapped[str] = mapped_column(primary_key=True)
    ours: Mapped[bool] = mapped_column(default=False, server_default=false())
    tenant_id: Mapped[str] = mapped_column(default="", server_default="")
    traceparent: Mapped[str | None]  # of what runs there: its end belongs to the same journey
    notice: Mapped[bytes | None] = mapped_column(LargeBinary)  # InterruptionNoticed: the earliest that is known
    notice_told: Mapped[bool] = mapped_column(default=False, server_default=false())
    loss: Mapped[bytes | None] = mapped_column(LargeBinary)  # MachineLost
    loss_told: Mapped[bool] = mapped_column(default=False, server_default=false())
    due_at: Mapped[datetime | None] = mapped_column(index=True)
    seen_at: Mapped[datetime] = mapped_column(index=True)


class NoticeRow(Base):
    """A message of the cloud that was dealt with; `problem` and `body` of one that was set aside."""

    __tablename__ = "notices"

    notice_id: Mapped[str] = mapped_column(primary_key=True)
    source: Mapped[str]
    problem: Mapped[str | None]
    body: Mapped[str | None]
    received_at: Mapped[datetime] = mapped_column(index=True)


# The tables of money, so that whoever asks for the metadata here sees all of them.
from services.monitor import spend_tables  # noqa: E402, F401
