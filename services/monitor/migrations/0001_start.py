"""The monitor's first tables."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

from sskai.delivery import create_delivery_tables

revision = "0001"
down_revision = None

SCHEMA = "monitor"


def upgrade() -> None:
    create_delivery_tables(op, SCHEMA)
    op.create_table(
        "attempts",
        sa.Column("job_id", sa.Text(), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("tenant_id", sa.Text(), nullable=False),
        sa.Column("resumed_from_step", sa.Integer(), nullable=True),
        sa.Column("resumed_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("first_step", sa.Integer(), nullable=True),
        sa.Column("first_step_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("last_step", sa.Integer(), nullable=True),
        sa.Column("last_step_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("step_seconds", sa.Double(), nullable=True),
        sa.Column("step_seconds_at_step", sa.Integer(), nullable=True),
        sa.Column("stopped", sa.Boolean(), nullable=False),
        sa.Column("requeued", sa.Boolean(), nullable=False),
        sa.Column("finished", sa.Boolean(), nullable=False),
        sa.PrimaryKeyConstraint("job_id", "attempt", name="pk_attempts"),
        schema=SCHEMA,
    )
    op.create_table(
        "cursors",
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("sequence", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("source", name="pk_cursors"),
        schema=SCHEMA,
    )
    op.create_table(
        "drift_references",
        sa.Column("model_id", sa.Text(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("tenant_id", sa.Text(), nullable=False),
        sa.Column("texts", JSONB(), nullable=True),
        sa.Column("problem", sa.Text(), nullable=True),
        sa.Column("due_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=True),
        sa.Column("lease_until", sa.DateTime(timezone=True), nullable=True),
        sa.Column("lease_token", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("model_id", "version", name="pk_drift_references"),
        schema=SCHEMA,
    )
    op.create_index("ix_drift_references_due_at", "drift_references", ["due_at"], unique=False, schema=SCHEMA)
    op.create_table(
        "drift_tests",
        sa.Column("endpoint_id", sa.Text(), nullable=False),
        sa.Column("tenant_id", sa.Text(), nullable=False),
        sa.Column("model_id", sa.Text(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("scores", sa.LargeBinary(), nullable=False),
        sa.Column("stakes", JSONB(), nullable=False),
        sa.Column("capital", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("endpoint_id", name="pk_drift_tests"),
        schema=SCHEMA,
    )
    op.create_table(
        "endpoints",
        sa.Column("endpoint_id", sa.Text(), nullable=False),
        sa.Column("tenant_id", sa.Text(), nullable=False),
        sa.Column("model_id", sa.Text(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("deleted", sa.Boolean(), nullable=False),
        sa.Column("retrain_id", sa.Text(), nullable=False),
        sa.Column("retrain_requested_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("retrain_job_id", sa.Text(), nullable=False),
        sa.Column("retrain_ended_at", sa.DateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("endpoint_id", name="pk_endpoints"),
        schema=SCHEMA,
    )
    op.create_table(
        "jobs",
        sa.Column("job_id", sa.Text(), nullable=False),
        sa.Column("tenant_id", sa.Text(), nullable=False),
        sa.Column("submitted_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("budget_nano_usd", sa.BigInteger(), nullable=True),
        sa.Column("budget_fraction_told", sa.Double(), nullable=False),
        sa.Column("retrain_endpoint_id", sa.Text(), nullable=True),
        sa.Column("outcome", sa.Text(), nullable=True),
        sa.Column("metered_intervals", sa.Integer(), nullable=True),
        sa.Column("final_attempt", sa.Integer(), nullable=True),
        sa.Column("ended_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("closed_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("traceparent", sa.Text(), nullable=True),
        sa.Column("due_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=True),
        sa.Column("lease_until", sa.DateTime(timezone=True), nullable=True),
        sa.Column("lease_token", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("job_id", name="pk_jobs"),
        schema=SCHEMA,
    )
    op.create_index("ix_jobs_due_at", "jobs", ["due_at"], unique=False, schema=SCHEMA)
    op.create_index("ix_jobs_retrain_endpoint_id", "jobs", ["retrain_endpoint_id"], unique=False, schema=SCHEMA)
    op.create_table(
        "model_versions",
        sa.Column("model_id", sa.Text(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("tenant_id", sa.Text(), nullable=False),
        sa.Column("job_id", sa.Text(), nullable=False),
        sa.Column("dataset_uri", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("model_id", "version", name="pk_model_versions"),
        schema=SCHEMA,
    )
    op.create_table(
        "notices",
        sa.Column("notice_id", sa.Text(), nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("problem", sa.Text(), nullable=True),
        sa.Column("body", sa.Text(), nullable=True),
        sa.Column("received_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("notice_id", name="pk_notices"),
        schema=SCHEMA,
    )
    op.create_index("ix_notices_received_at", "notices", ["received_at"], unique=False, schema=SCHEMA)
    op.create_table(
        "receipts",
        sa.Column("job_id", sa.Text(), nullable=False),
        sa.Column("tenant_id", sa.Text(), nullable=False),
        sa.Column("body", JSONB(), nullable=False),
        sa.Column("issued_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("job_id", name="pk_receipts"),
        schema=SCHEMA,
    )
    op.create_table(
        "series",
        sa.Column("series_id", sa.BigInteger(), autoincrement=True, nullable=False),
        sa.Column("tenant_id", sa.Text(), nullable=False),
        sa.Column("service", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("model_version", sa.Text(), nullable=False),
        sa.Column("endpoint_id", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("series_id", name="pk_series"),
        sa.UniqueConstraint(
            "tenant_id", "service", "name", "model", "model_version", "endpoint_id", name="uq_series_labels"
        ),
        schema=SCHEMA,
    )
    op.create_table(
        "spend",
        sa.Column("job_id", sa.Text(), nullable=False),
        sa.Column("interval", sa.Integer(), nullable=False),
        sa.Column("tenant_id", sa.Text(), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("machine_id", sa.Text(), nullable=False),
        sa.Column("cloud", sa.Text(), nullable=False),
        sa.Column("region", sa.Text(), nullable=False),
        sa.Column("zone", sa.Text(), nullable=False),
        sa.Column("instance_type", sa.Text(), nullable=False),
        sa.Column("capacity_type", sa.Text(), nullable=False),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("ended_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("price_usd_per_hour", sa.Double(), nullable=False),
        sa.Column("amount_nano_usd", sa.BigInteger(), nullable=False),
        sa.Column("on_demand_nano_usd", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("job_id", "interval", name="pk_spend"),
        schema=SCHEMA,
    )
    op.create_table(
        "traces",
        sa.Column("trace_id", sa.Text(), nullable=False),
        sa.Column("names", JSONB(), nullable=False),
        sa.Column("spans", sa.Integer(), nullable=False),
        sa.Column("last_received_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("trace_id", name="pk_traces"),
        schema=SCHEMA,
    )
    op.create_index("ix_traces_last_received_at", "traces", ["last_received_at"], unique=False, schema=SCHEMA)
    op.create_table(
        "cells",
        sa.Column("series_id", sa.BigInteger(), nullable=False),
        sa.Column("window_seconds", sa.Integer(), nullable=False),
        sa.Column("window_start", sa.DateTime(timezone=True), nullable=False),
        sa.Column("bucket", sa.Integer(), nullable=False),
        sa.Column("spans", sa.BigInteger(), nullable=False),
        sa.Column("errors", sa.BigInteger(), nullable=False),
        sa.Column("seconds", sa.Double(), nullable=False),
        sa.ForeignKeyConstraint(["series_id"], [f"{SCHEMA}.series.series_id"], name="fk_cells_series_id"),
        sa.PrimaryKeyConstraint("series_id", "window_seconds", "window_start", "bucket", name="pk_cells"),
        schema=SCHEMA,
    )
    op.create_index(
        "ix_cells_window_seconds_window_start", "cells", ["window_seconds", "window_start"], unique=False, schema=SCHEMA
    )
    op.create_table(
        "spans",
        sa.Column("trace_id", sa.Text(), nullable=False),
        sa.Column("span_id", sa.Text(), nullable=False),
        sa.Column("body", JSONB(), nullable=True),
        sa.ForeignKeyConstraint(
            ["trace_id"], [f"{SCHEMA}.traces.trace_id"], name="fk_spans_trace_id", ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("trace_id", "span_id", name="pk_spans"),
        schema=SCHEMA,
    )


def downgrade() -> None:
    for table in (
        "spans",
        "cells",
        "traces",
        "spend",
        "series",
        "receipts",
        "notices",
        "model_versions",
        "jobs",
        "endpoints",
        "drift_tests",
        "drift_references",
        "cursors",
        "attempts",
    ):
        op.drop_table(table, schema=SCHEMA)
    for table in ("inbox", "outbox"):
        op.drop_table(table, schema=SCHEMA)
    op.execute(f"DROP FUNCTION {SCHEMA}.wake_relay")
