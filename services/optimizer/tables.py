"""The optimizer's tables."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import Boolean, DateTime, Double, Integer, LargeBinary, Text, UniqueConstraint
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from sskai.claims import Claimable
from sskai.database import service_metadata


class Base(DeclarativeBase):
    metadata = service_metadata("optimizer")
    type_annotation_map = {datetime: DateTime(timezone=True), str: Text, float: Double, bytes: LargeBinary}  # noqa: RUF012


class JobRow(Base):
    """A job that may have to be planned again."""

    __tablename__ = "jobs"
    job_id: Mapped[str] = mapped_column(primary_key=True)
    tenant_id: Mapped[str]
    spec: Mapped[bytes]
    after_attempt: Mapped[int] = mapped_column(Integer)
    steps_done: Mapped[int] = mapped_column(Integer)
    spent_usd: Mapped[float]
    ended: Mapped[bool] = mapped_column(Boolean)
    updated_at: Mapped[datetime]


class PlanningRow(Claimable, Base):
    """A decision that is asked for. One per job and cause, so that nothing is planned twice."""

    __tablename__ = "planning_requests"
    __table_args__ = (UniqueConstraint("job_id", "cause"),)
    request_id: Mapped[str] = mapped_column(primary_key=True)
    job_id: Mapped[str]
    tenant_id: Mapped[str]
    cause: Mapped[str]
    preview: Mapped[bool] = mapped_column(Boolean)
    after_attempt: Mapped[int] = mapped_column(Integer)
    spec: Mapped[bytes]
    steps_done: Mapped[int] = mapped_column(Integer)
    spent_usd: Mapped[float]
    tries: Mapped[int] = mapped_column(Integer)
    traceparent: Mapped[str | None]
    requested_at: Mapped[datetime]


class PlanRow(Base):
    """A decision with every input: `domain.plan(**snapshot.thaw(inputs, market))` decides it again."""

    __tablename__ = "plans"
    plan_id: Mapped[str] = mapped_column(primary_key=True)
    job_id: Mapped[str] = mapped_column(index=True)
    tenant_id: Mapped[str]
    preview: Mapped[bool] = mapped_column(Boolean)
    after_attempt: Mapped[int] = mapped_column(Integer)
    micro_batch_size: Mapped[int] = mapped_column(Integer)  # of the choice; 0: refused
    method: Mapped[str]
    # Of the candidates by instance type: family, hardware, uncorrected seconds and tokens of a micro-batch, to compare
    # measurements with.
    expected_steps: Mapped[dict[str, Any]] = mapped_column(JSONB)
    planner_version: Mapped[str]
    throughput_version: Mapped[str]
    cause: Mapped[str]  # as the contract names it
    inputs: Mapped[str | None]  # none where the model could not even be profiled
    market_sha256: Mapped[str | None]
    snapshot_sha256: Mapped[str | None]
    event: Mapped[bytes]
    decided_at: Mapped[datetime] = mapped_column(index=True)


class EndpointRequestRow(Claimable, Base):
    """A plan of an endpoint that is asked for, once per plan."""

    __tablename__ = "endpoint_requests"
    plan_id: Mapped[str] = mapped_column(primary_key=True)
    tenant_id: Mapped[str]
    spec: Mapped[bytes]
    tries: Mapped[int] = mapped_column(Integer)
    traceparent: Mapped[str | None]
    requested_at: Mapped[datetime]


class EndpointPlanRow(Base):
    """A decision with every input: `serving.plan_endpoint(**serving_snapshot.thaw(...))` decides it again."""

    __tablename__ = "endpoint_plans"
    plan_id: Mapped[str] = mapped_column(primary_key=True)
    tenant_id: Mapped[str]
    inputs: Mapped[str | None]  # none where the model could not even be profiled
    market_sha256: Mapped[str | None]
    snapshot_sha256: Mapped[str | None]
    event: Mapped[bytes]
    decided_at: Mapped[datetime] = mapped_column(index=True)


class MarketRow(Base):
    """Machines and offers of one moment, shared by the plans that were made on it."""

    __tablename__ = "markets"
    sha256: Mapped[str] = mapped_column(primary_key=True)
    text: Mapped[str]
    seen_at: Mapped[datetime]


class ProfileRow(Base):
    """What a model was found to ask for, by the hash of the question."""

    __tablename__ = "profiles"
    key: Mapped[str] = mapped_column(primary_key=True)
    answer: Mapped[dict[str, Any]] = mapped_column(JSONB)
    used_at: Mapped[datetime] = mapped_column(index=True)


class PriceRow(Base):
    __tablename__ = "prices"
    offer: Mapped[str] = mapped_column(primary_key=True)
    price_usd_per_hour: Mapped[float]
    source: Mapped[str]
    observed_at: Mapped[datetime]


class MachineFactsRow(Base):
    """What somebody says of a machine type, or what was measured of this computer (instance type "local")."""

    __tablename__ = "machine_facts"
    instance_type: Mapped[str] = mapped_column(primary_key=True)
    facts: Mapped[dict[str, Any]] = mapped_column(JSONB)
    source: Mapped[str]
    seen_at: Mapped[datetime]


class ScoreRow(Base):
    """AWS's placement score of a spot offer."""

    __tablename__ = "placement_scores"
    offer: Mapped[str] = mapped_column(primary_key=True)
    score: Mapped[int] = mapped_column(Integer)
    seen_at: Mapped[datetime]


class FeedRow(Claimable, Base):
    """One kind of fact in one region: due when it has to be asked for again, and how the last time went."""

    __tablename__ = "feeds"
    region: Mapped[str] = mapped_column(primary_key=True)
    kind: Mapped[str] = mapped_column(primary_key=True)
    refreshed_at: Mapped[datetime | None]
    facts: Mapped[int] = mapped_column(Integer)
    error: Mapped[str | None]  # of the last time; none: it went well


class DenialRow(Base):
    """An offer that had no machine to give: when last, and how often since when."""

    __tablename__ = "denials"
    offer: Mapped[str] = mapped_column(primary_key=True)
    denied_at: Mapped[datetime]
    denials: Mapped[int] = mapped_column(Integer)
    since: Mapped[datetime]


class CorrectionRow(Base):
    """What measured step times had taught when a plan was made, by its version: the sums of `throughput.Measured`."""

    __tablename__ = "corrections"
    version: Mapped[str] = mapped_column(primary_key=True)
    measured: Mapped[list[Any]] = mapped_column(JSONB)
    learnt_at: Mapped[datetime] = mapped_column(index=True)


class MeasurementRow(Base):
    """One attempt: its step time beside what the roofline said, what its checkpoints took, how long it lived."""

    __tablename__ = "measurements"
    job_id: Mapped[str] = mapped_column(primary_key=True)
    attempt: Mapped[int] = mapped_column(Integer, primary_key=True)
    tenant_id: Mapped[str]
    region: Mapped[str]
    instance_type: Mapped[str]
    spot: Mapped[bool] = mapped_column(Boolean)
    family: Mapped[str]
    hardware: Mapped[str]
    method: Mapped[str]
    roofline_step_seconds: Mapped[float]
    tokens_per_micro_batch: Mapped[float]
    step_seconds: Mapped[float | None]
    save_seconds: Mapped[float | None]
    stall_seconds: Mapped[float | None]
    started_at: Mapped[datetime] = mapped_column(index=True)
    ended_at: Mapped[datetime | None]
    interrupted: Mapped[bool] = mapped_column(Boolean)
