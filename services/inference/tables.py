"""Inference's tables."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, Boolean, DateTime, Double, Identity, Index, Integer, Text, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from sskai.claims import Claimable
from sskai.database import service_metadata
from sskai.known_budgets import KnownBudget


class Base(DeclarativeBase):
    metadata = service_metadata("inference")


class EndpointRow(Claimable, Base):
    __tablename__ = "endpoints"

    endpoint_id: Mapped[str] = mapped_column(Text, primary_key=True)
    order: Mapped[int] = mapped_column(BigInteger, Identity())
    tenant_id: Mapped[str] = mapped_column(Text)
    name: Mapped[str] = mapped_column(Text)
    kind: Mapped[str] = mapped_column(Text)
    model_id: Mapped[str] = mapped_column(Text)
    version: Mapped[int] = mapped_column(Integer)
    base_model_id: Mapped[str] = mapped_column(Text)
    base_uri: Mapped[str] = mapped_column(Text)
    artifact_uri: Mapped[str] = mapped_column(Text)
    sample_rate: Mapped[float] = mapped_column(Double)
    state: Mapped[str] = mapped_column(Text, index=True)
    replicas: Mapped[int] = mapped_column(Integer)
    tries: Mapped[int] = mapped_column(Integer)
    failure: Mapped[str] = mapped_column(Text)
    requested_at: Mapped[datetime] = mapped_column(DateTime(timezone=True))
    ready_at: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))
    # The endpoint whose new version this one serves while it is tried; empty: it has a name of its own.
    canary_of: Mapped[str] = mapped_column(Text, server_default=text("''"))
    promotion_mode: Mapped[str] = mapped_column(Text, server_default=text("''"))
    # What of promotion.Rules is not the default.
    rules: Mapped[dict[str, Any]] = mapped_column(JSONB, server_default=text("'{}'"))
    traceparent: Mapped[str] = mapped_column(Text, server_default=text("''"))  # of the request for it


class ModelVersionRow(Base):
    """Where a version comes from: which manifest its artefact must have, and what `/v1/models` tells of it."""

    __tablename__ = "model_versions"

    model_id: Mapped[str] = mapped_column(Text, primary_key=True)
    version: Mapped[int] = mapped_column(Integer, primary_key=True)
    tenant_id: Mapped[str] = mapped_column(Text)
    name: Mapped[str] = mapped_column(Text)
    job_id: Mapped[str] = mapped_column(Text)
    base_model_id: Mapped[str] = mapped_column(Text)
    base_uri: Mapped[str] = mapped_column(Text, server_default=text("''"))
    dataset_id: Mapped[str] = mapped_column(Text)
    artifact_uri: Mapped[str] = mapped_column(Text)
    manifest_sha256: Mapped[str] = mapped_column(Text)
    ready_at: Mapped[datetime] = mapped_column(DateTime(timezone=True))
    traceparent: Mapped[str] = mapped_column(Text, server_default=text("''"))  # of the training's trace


class RolloutRow(Claimable, Base):
    """One version's way to an endpoint's name (`promotion.Rollout`). Of an endpoint, one at a time is under way."""

    __tablename__ = "rollouts"
    __table_args__ = (
        Index(
            "uq_rollouts_under_way",
            "endpoint_id",
            unique=True,
            postgresql_where=text("stage NOT IN ('promoted', 'rolled-back')"),
        ),
    )

    rollout_id: Mapped[str] = mapped_column(Text, primary_key=True)
    endpoint_id: Mapped[str] = mapped_column(Text, index=True)
    tenant_id: Mapped[str] = mapped_column(Text)
    model_id: Mapped[str] = mapped_column(Text)
    version: Mapped[int] = mapped_column(Integer)
    from_version: Mapped[int] = mapped_column(Integer)
    # The artefact that answered before: to it the endpoint goes back when somebody wants so after the promotion.
    previous: Mapped[dict[str, Any]] = mapped_column(JSONB)
    rules: Mapped[dict[str, Any]] = mapped_column(JSONB)
    stage: Mapped[str] = mapped_column(Text)
    step: Mapped[int] = mapped_column(Integer)
    promote_when_loaded: Mapped[bool] = mapped_column(Boolean)
    reason: Mapped[str] = mapped_column(Text)
    # When the step began, and how many requests the canary had had by then.
    step_started_at: Mapped[datetime] = mapped_column(DateTime(timezone=True))
    requests_before: Mapped[int] = mapped_column(BigInteger)
    started_at: Mapped[datetime] = mapped_column(DateTime(timezone=True))
    ended_at: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))
    traceparent: Mapped[str] = mapped_column(Text, server_default=text("''"))  # of what began it


class FigureRow(Base):
    """How many requests of a version fell into a latency bucket (-1: failed), in a rollout or outside of any ("")."""

    __tablename__ = "figures"

    endpoint_id: Mapped[str] = mapped_column(Text, primary_key=True)
    rollout_id: Mapped[str] = mapped_column(Text, primary_key=True)
    version: Mapped[int] = mapped_column(Integer, primary_key=True)
    shadow: Mapped[bool] = mapped_column(Boolean, primary_key=True)
    bucket: Mapped[int] = mapped_column(Integer, primary_key=True)
    requests: Mapped[int] = mapped_column(BigInteger)


class AnswerRow(Base):
    """Which version gave an answer, so that feedback finds it; kept for days."""

    __tablename__ = "answers"

    inference_id: Mapped[str] = mapped_column(Text, primary_key=True)
    tenant_id: Mapped[str] = mapped_column(Text)
    endpoint_id: Mapped[str] = mapped_column(Text)
    rollout_id: Mapped[str] = mapped_column(Text)
    version: Mapped[int] = mapped_column(Integer)
    at: Mapped[datetime] = mapped_column(DateTime(timezone=True), index=True)


class FeedbackRow(Base):
    """What a user thought of an answer; the newest word counts. `score` in [0, 1], None: only words were given."""

    __tablename__ = "feedback"
    __table_args__ = (Index("ix_feedback_endpoint_id_rollout_id", "endpoint_id", "rollout_id"),)

    inference_id: Mapped[str] = mapped_column(Text, primary_key=True)
    tenant_id: Mapped[str] = mapped_column(Text)
    endpoint_id: Mapped[str] = mapped_column(Text)
    rollout_id: Mapped[str] = mapped_column(Text)
    version: Mapped[int] = mapped_column(Integer)
    score: Mapped[float | None] = mapped_column(Double)
    label: Mapped[str] = mapped_column(Text)
    correction: Mapped[str] = mapped_column(Text)
    at: Mapped[datetime] = mapped_column(DateTime(timezone=True))


class EvaluationRow(Base):
    """A version measured against the champion, by metric; it may come before or after its rollout begins."""

    __tablename__ = "evaluations"

    model_id: Mapped[str] = mapped_column(Text, primary_key=True)
    version: Mapped[int] = mapped_column(Integer, primary_key=True)
    metric: Mapped[str] = mapped_column(Text, primary_key=True)
    tenant_id: Mapped[str] = mapped_column(Text)
    value: Mapped[float] = mapped_column(Double)
    champion_value: Mapped[float] = mapped_column(Double)
    sample_size: Mapped[int] = mapped_column(BigInteger)
    standard_error: Mapped[float] = mapped_column(Double)
    champion_version: Mapped[int | None] = mapped_column(Integer)
    evaluated_at: Mapped[datetime] = mapped_column(DateTime(timezone=True))


class ReplicaSetRow(Claimable, Base):
    """What an endpoint of kind spot wants of its replicas, and what its loop remembers."""

    __tablename__ = "replica_sets"

    endpoint_id: Mapped[str] = mapped_column(Text, primary_key=True)
    tenant_id: Mapped[str] = mapped_column(Text)
    minimum: Mapped[int] = mapped_column(Integer)
    maximum: Mapped[int] = mapped_column(Integer)
    on_demand: Mapped[int] = mapped_column(Integer)
    most_tokens_per_second: Mapped[float] = mapped_column(Double)
    engine: Mapped[str] = mapped_column(Text)
    placements: Mapped[list[dict[str, Any]]] = mapped_column(JSONB)
    # scaling.Scale, and when somebody came last and found no replica.
    wanted: Mapped[int] = mapped_column(Integer)
    above_since: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))
    below_since: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))
    scaled_at: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))
    busy_at: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))
    asked_at: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))
    # The newest replica's number, and the ledger's newest row.
    numbers: Mapped[int] = mapped_column(Integer, server_default=text("0"))
    intervals: Mapped[int] = mapped_column(Integer, server_default=text("0"))
    # Answered, and of that what the ledger has been told.
    input_tokens: Mapped[int] = mapped_column(BigInteger, server_default=text("0"))
    output_tokens: Mapped[int] = mapped_column(BigInteger, server_default=text("0"))
    told_input_tokens: Mapped[int] = mapped_column(BigInteger, server_default=text("0"))
    told_output_tokens: Mapped[int] = mapped_column(BigInteger, server_default=text("0"))
    traceparent: Mapped[str] = mapped_column(Text, server_default=text("''"))  # of the request for the endpoint
    # What its replicas cost so far, and have reserved of budgets (reserving.Purse); the number of the newest request.
    project: Mapped[str] = mapped_column(Text, server_default=text("''"))
    spent_nano_usd: Mapped[int] = mapped_column(BigInteger, server_default=text("0"))
    limit_nano_usd: Mapped[int | None] = mapped_column(BigInteger)
    ask_number: Mapped[int] = mapped_column(Integer, server_default=text("0"))
    asking: Mapped[bool] = mapped_column(server_default=text("false"))


class BudgetRow(KnownBudget, Base):
    """What endpoints spend may be under."""


class ReplicaRow(Base):
    """`replica_set.Replica`. `token`: by which the replica and the service know each other."""

    __tablename__ = "replicas"
    __table_args__ = (Index("ix_replicas_endpoint_id_state", "endpoint_id", "state"),)

    replica_id: Mapped[str] = mapped_column(Text, primary_key=True)
    endpoint_id: Mapped[str] = mapped_column(Text)
    number: Mapped[int] = mapped_column(Integer)
    tenant_id: Mapped[str] = mapped_column(Text)
    token: Mapped[str] = mapped_column(Text)
    capacity: Mapped[str] = mapped_column(Text)
    price_usd_per_hour: Mapped[float] = mapped_column(Double)
    placement: Mapped[dict[str, Any]] = mapped_column(JSONB)
    base_uri: Mapped[str] = mapped_column(Text)
    artifact_uri: Mapped[str] = mapped_column(Text)
    state: Mapped[str] = mapped_column(Text)
    reason: Mapped[str] = mapped_column(Text)
    detail: Mapped[str] = mapped_column(Text)
    machine_id: Mapped[str] = mapped_column(Text, index=True)
    url: Mapped[str] = mapped_column(Text)
    load_seconds: Mapped[float] = mapped_column(Double)
    active: Mapped[int] = mapped_column(Integer)
    waiting: Mapped[int] = mapped_column(Integer)
    tokens_per_second: Mapped[float] = mapped_column(Double)
    requested_at: Mapped[datetime] = mapped_column(DateTime(timezone=True))
    launched_at: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))
    ready_at: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))
    heard_at: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))
    terminates_at: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))
    draining_at: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))
    ended_at: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))
    metered_until: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))
    # When the cluster took our word: SIGTERM was sent, the machine was given back.
    stop_sent_at: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))
    deleted_at: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))
