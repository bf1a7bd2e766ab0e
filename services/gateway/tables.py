"""The gateway's tables. Every row names its tenant, and every query asks for it.

But for what the market says: notices of machines and prices of offers are nobody's.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, Identity, Index, Text, UniqueConstraint, text
from sqlalchemy.dialects.postgresql import ARRAY, JSONB
from sqlalchemy.orm import Mapped, mapped_column

from services.gateway.account_tables import AuditRow, KeyRow, LinkRow, MemberRow, SessionRow, TenantRow, UserRow
from services.gateway.base import Base
from sskai.claims import Claimable

__all__ = ["AuditRow", "Base", "KeyRow", "LinkRow", "MemberRow", "SessionRow", "TenantRow", "UserRow"]

# In words, as the index has it: the planner uses it for no other way to say the same.
ACTIVE_JOBS = "state NOT IN ('succeeded', 'failed', 'cancelled')"


class AnswerRow(Base):
    """What a request with an Idempotency-Key was answered."""

    __tablename__ = "answers"

    tenant_id: Mapped[str] = mapped_column(primary_key=True)
    idempotency_key: Mapped[str] = mapped_column(primary_key=True)
    request_sha256: Mapped[str]
    status: Mapped[int | None]
    body: Mapped[dict[str, Any] | None]
    created_at: Mapped[datetime] = mapped_column(index=True)


class DatasetRow(Base):
    __tablename__ = "datasets"
    __table_args__ = (UniqueConstraint("tenant_id", "name", "version"),)

    dataset_id: Mapped[str] = mapped_column(primary_key=True)
    tenant_id: Mapped[str]
    name: Mapped[str]
    version: Mapped[int]
    uri: Mapped[str]
    format: Mapped[str]
    rows: Mapped[int] = mapped_column(BigInteger)
    bytes: Mapped[int] = mapped_column(BigInteger)
    sha256: Mapped[str]
    estimated_tokens: Mapped[int] = mapped_column(BigInteger)
    report: Mapped[dict[str, Any]] = mapped_column(server_default=text("'{}'"))
    lineage: Mapped[dict[str, Any] | None] = mapped_column(JSONB)  # what it was cut from; None: it was uploaded
    filename: Mapped[str] = mapped_column(server_default=text("''"))  # as OpenAI's clients see it; empty: `name`
    created_at: Mapped[datetime]
    deleted_at: Mapped[datetime | None]  # the number of a deleted version is not given again


class ModelRow(Base):
    """A version of a model of the tenant's own: uploaded, or trained by a job."""

    __tablename__ = "models"
    __table_args__ = (Index("ix_models_tenant_id_name", "tenant_id", "name"),)

    model_id: Mapped[str] = mapped_column(primary_key=True)
    version: Mapped[int] = mapped_column(primary_key=True)
    tenant_id: Mapped[str]
    name: Mapped[str]
    origin: Mapped[str]
    base_model_id: Mapped[str]
    base_uri: Mapped[str]
    artifact_uri: Mapped[str]
    config_json: Mapped[str]
    parameters: Mapped[int] = mapped_column(BigInteger, server_default="0")
    bytes: Mapped[int] = mapped_column(BigInteger, server_default="0")
    method: Mapped[str]
    job_id: Mapped[str]
    dataset_uri: Mapped[str]
    eval_loss_before: Mapped[float | None]
    eval_loss_after: Mapped[float | None]
    created_at: Mapped[datetime]
    deleted_at: Mapped[datetime | None]


class AliasRow(Base):
    """Which version of a model an alias means; `version` None: none, since `moved_at`."""

    __tablename__ = "aliases"

    tenant_id: Mapped[str] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(primary_key=True)
    alias: Mapped[str] = mapped_column(primary_key=True)
    model_id: Mapped[str]
    version: Mapped[int | None]
    moved_at: Mapped[datetime]


class JobRow(Base):
    """`spec` is absent while only later events of the job have come: it is not shown yet."""

    __tablename__ = "jobs"
    __table_args__ = (
        Index("ix_jobs_tenant_id_job_id", "tenant_id", "job_id"),
        Index(
            "ix_jobs_active",
            "tenant_id",
            postgresql_where=text(ACTIVE_JOBS),
        ),
    )

    job_id: Mapped[str] = mapped_column(primary_key=True)
    tenant_id: Mapped[str]
    name: Mapped[str]
    state: Mapped[str]
    spec: Mapped[bytes | None]
    # Of the specification, for those who look for jobs by it.
    kind: Mapped[str] = mapped_column(server_default=text("''"))
    model_id: Mapped[str] = mapped_column(server_default=text("''"))
    dataset_id: Mapped[str] = mapped_column(server_default=text("''"))
    view: Mapped[dict[str, Any]]
    spent_nano_usd: Mapped[int] = mapped_column(BigInteger)
    on_demand_nano_usd: Mapped[int] = mapped_column(BigInteger)
    trace_id: Mapped[str]
    submitted_at: Mapped[datetime | None]
    updated_at: Mapped[datetime]


class SpendRow(Base):
    """Metered intervals that are in a job's sum already."""

    __tablename__ = "spends"

    job_id: Mapped[str] = mapped_column(primary_key=True)
    interval: Mapped[int] = mapped_column(primary_key=True)
    tenant_id: Mapped[str]
    amount_nano_usd: Mapped[int] = mapped_column(BigInteger)


class PlanRow(Base):
    """A dry run's row is made by the request, `pending`; a job's plans are the optimizer's."""

    __tablename__ = "plans"

    id: Mapped[str] = mapped_column(primary_key=True)
    tenant_id: Mapped[str] = mapped_column(index=True)
    job_id: Mapped[str] = mapped_column(index=True)
    kind: Mapped[str]  # "finetune" | "endpoint"
    # The optimizer's own name for the decision, by which it is replayed. Of a dry run it is not `id`.
    plan_id: Mapped[str | None] = mapped_column(index=True)
    preview: Mapped[bool]
    status: Mapped[str]  # "pending" | "proposed" | "refused"
    body: Mapped[dict[str, Any]]
    created_at: Mapped[datetime] = mapped_column(index=True)


class ReplayRow(Base):
    """A stored decision that somebody had made again."""

    __tablename__ = "replays"

    replay_id: Mapped[str] = mapped_column(primary_key=True)
    tenant_id: Mapped[str]
    plan_id: Mapped[str]  # the optimizer's
    policy: Mapped[str]  # empty: as it was
    status: Mapped[str]  # "pending" | "replayed" | "failed"
    body: Mapped[dict[str, Any]]
    created_at: Mapped[datetime] = mapped_column(index=True)


class EndpointRow(Base):
    __tablename__ = "endpoints"
    __table_args__ = (
        Index(
            "uq_endpoints_live_name",
            "tenant_id",
            "name",
            unique=True,
            postgresql_where=text("state NOT IN ('deleting', 'deleted')"),
        ),
    )

    endpoint_id: Mapped[str] = mapped_column(primary_key=True)
    tenant_id: Mapped[str] = mapped_column(index=True)
    name: Mapped[str]
    kind: Mapped[str]
    model: Mapped[str]  # as a user writes it
    model_id: Mapped[str]
    version: Mapped[int]
    sample_rate: Mapped[float]
    state: Mapped[str]
    view: Mapped[dict[str, Any]]
    created_at: Mapped[datetime]


class ReceiptRow(Base):
    __tablename__ = "receipts"

    job_id: Mapped[str] = mapped_column(primary_key=True)
    tenant_id: Mapped[str] = mapped_column(index=True)
    body: Mapped[dict[str, Any]]
    issued_at: Mapped[datetime]


class BudgetRow(Base):
    """How much may be spent on what; see `budgets.py`."""

    __tablename__ = "budgets"

    budget_id: Mapped[str] = mapped_column(primary_key=True)
    tenant_id: Mapped[str] = mapped_column(index=True)
    scope: Mapped[str]
    target: Mapped[str]
    period: Mapped[str]
    action: Mapped[str]
    amount_nano_usd: Mapped[int] = mapped_column(BigInteger)
    thresholds: Mapped[list[float]] = mapped_column(JSONB)
    set_at: Mapped[datetime]


class RetrainRow(Base):
    """Which job answers a RetrainRequested: one, however often it is told."""

    __tablename__ = "retrains"

    retrain_id: Mapped[str] = mapped_column(primary_key=True)
    tenant_id: Mapped[str]
    job_id: Mapped[str]


class TrafficRow(Base):
    """What a tenant's own endpoint was asked, and the newest word on the answer; one of them may be missing yet."""

    __tablename__ = "traffic"
    __table_args__ = (Index("ix_traffic_endpoint_id_kept_at", "endpoint_id", "kept_at"),)

    endpoint_id: Mapped[str] = mapped_column(primary_key=True)
    inference_id: Mapped[str] = mapped_column(primary_key=True)
    tenant_id: Mapped[str]
    asked_at: Mapped[datetime | None]  # None: the request was not told, or not yet
    input_text: Mapped[str]
    output_text: Mapped[str]
    error: Mapped[str]
    finish_reason: Mapped[str]
    given_at: Mapped[datetime | None]  # None: nobody judged the answer
    score: Mapped[float | None]
    label: Mapped[str]
    correction: Mapped[str]
    kept_at: Mapped[datetime] = mapped_column(index=True)  # since when it is here


class CutRow(Claimable, Base):
    """A dataset to cut from traffic for a retrain."""

    __tablename__ = "cuts"

    retrain_id: Mapped[str] = mapped_column(primary_key=True)
    tenant_id: Mapped[str]
    request: Mapped[bytes]  # RetrainRequested
    traceparent: Mapped[str | None]
    tries: Mapped[int]
    asked_at: Mapped[datetime] = mapped_column(index=True)


class WebhookRow(Base):
    """Where a tenant wants events sent. `types`: in full; none: all of them. The secret signs, so it is kept; the one
    before signs beside it until `previous_secret_until`."""

    __tablename__ = "webhooks"

    webhook_id: Mapped[str] = mapped_column(primary_key=True)
    tenant_id: Mapped[str] = mapped_column(index=True)
    url: Mapped[str]
    types: Mapped[list[str]] = mapped_column(ARRAY(Text))
    secret: Mapped[str]
    previous_secret: Mapped[str | None]
    previous_secret_until: Mapped[datetime | None]
    created_at: Mapped[datetime]
    disabled_at: Mapped[datetime | None]


class DeliveryRow(Claimable, Base):
    """One event for one webhook; due until it was delivered or is given up."""

    __tablename__ = "deliveries"

    delivery_id: Mapped[str] = mapped_column(primary_key=True)
    webhook_id: Mapped[str] = mapped_column(index=True)
    tenant_id: Mapped[str]
    type: Mapped[str]
    event: Mapped[dict[str, Any]]
    tries: Mapped[int]
    last_status: Mapped[int | None]
    last_problem: Mapped[str] = mapped_column(server_default=text("''"))
    told_at: Mapped[datetime] = mapped_column(index=True)
    delivered_at: Mapped[datetime | None]


class UploadRow(Claimable, Base):
    """A file that comes in parts. Due: to be checked, or cleaned up; until then at the time when it expires."""

    __tablename__ = "uploads"

    upload_id: Mapped[str] = mapped_column(primary_key=True)
    tenant_id: Mapped[str] = mapped_column(index=True)
    name: Mapped[str]  # of the dataset that it becomes
    filename: Mapped[str]
    mime_type: Mapped[str]
    bytes: Mapped[int] = mapped_column(BigInteger)  # that were announced
    part_bytes: Mapped[int] = mapped_column(BigInteger)
    key: Mapped[str]
    multipart_id: Mapped[str | None]  # the object store's own; None: it was not begun yet
    state: Mapped[str]
    next_part: Mapped[int]
    # [number, bytes, ETag] of each part, in the order in which they make the file; None: it is not complete.
    parts: Mapped[list[Any] | None] = mapped_column(JSONB)
    md5: Mapped[str] = mapped_column(server_default=text("''"))
    dataset_id: Mapped[str | None]
    problem: Mapped[dict[str, Any] | None] = mapped_column(JSONB)
    tries: Mapped[int] = mapped_column(server_default=text("0"))
    traceparent: Mapped[str | None]
    created_at: Mapped[datetime]
    expires_at: Mapped[datetime]
    ended_at: Mapped[datetime | None] = mapped_column(index=True)


class FineTuneRow(Base):
    """What an OpenAI-shaped job was asked with, beside the job's own row."""

    __tablename__ = "fine_tunes"
    __table_args__ = (Index("ix_fine_tunes_tenant_id_job_id", "tenant_id", "job_id"),)

    job_id: Mapped[str] = mapped_column(primary_key=True)
    tenant_id: Mapped[str]
    request: Mapped[dict[str, Any]]
    deploy: Mapped[bool]
    endpoint_id: Mapped[str | None]  # that answers under the model's name
    refused: Mapped[str] = mapped_column(server_default=text("''"))  # why the result became no version of a model


class PurgeRow(Claimable, Base):
    """Objects of something that was deleted. Of a model they stay while an endpoint still has it."""

    __tablename__ = "purges"

    key: Mapped[str] = mapped_column(primary_key=True)  # of all objects that begin so
    tenant_id: Mapped[str]
    model_id: Mapped[str] = mapped_column(server_default=text("''"))
    version: Mapped[int] = mapped_column(server_default=text("0"))
    asked_at: Mapped[datetime]


class EventRow(Base):
    """The log behind /v1/events. Of one tenant, `id` rises in the order of commits, so that no reader skips one."""

    __tablename__ = "events"
    __table_args__ = (
        Index("ix_events_tenant_id_id", "tenant_id", "id"),
        Index("ix_events_tenant_id_subject_id", "tenant_id", "subject", "id"),
        Index("ix_events_tenant_id_type_id", "tenant_id", "type", "id"),
    )

    id: Mapped[int] = mapped_column(BigInteger, Identity(), primary_key=True)
    tenant_id: Mapped[str]
    subject: Mapped[str]
    type: Mapped[str]
    event: Mapped[dict[str, Any]]
    at: Mapped[datetime] = mapped_column(index=True)


class MarkRow(Base):
    """One thing that happened to a job, for its timeline. At most so many of one job are kept (`timelines.py`)."""

    __tablename__ = "marks"

    job_id: Mapped[str] = mapped_column(primary_key=True)
    key: Mapped[str] = mapped_column(primary_key=True)
    tenant_id: Mapped[str]
    kind: Mapped[str]
    at: Mapped[datetime]
    body: Mapped[dict[str, Any]]


class NoticeRow(Base):
    """A cloud's word on a machine. It may come before it is known whose the machine is."""

    __tablename__ = "notices"

    machine_id: Mapped[str] = mapped_column(primary_key=True)
    at: Mapped[datetime] = mapped_column(primary_key=True, index=True)
    action: Mapped[str] = mapped_column(primary_key=True)
    terminates_at: Mapped[datetime | None]


class PriceRow(Base):
    """A moment at which the price of an offer changed."""

    __tablename__ = "prices"

    offer: Mapped[str] = mapped_column(primary_key=True)
    at: Mapped[datetime] = mapped_column(primary_key=True, index=True)
    usd_per_hour: Mapped[float]
