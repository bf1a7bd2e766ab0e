"""Jobs, planning requests, plans with their inputs, prices, denials, profiles and measurements."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

from sskai.delivery import create_delivery_tables

revision = "0001"
down_revision = None
SCHEMA = "optimizer"


def upgrade() -> None:
    create_delivery_tables(op, SCHEMA)
    op.create_table(
        "jobs",
        sa.Column("job_id", sa.Text, primary_key=True),
        sa.Column("tenant_id", sa.Text, nullable=False),
        sa.Column("spec", sa.LargeBinary, nullable=False),
        sa.Column("after_attempt", sa.Integer, nullable=False),
        sa.Column("steps_done", sa.Integer, nullable=False),
        sa.Column("spent_usd", sa.Double, nullable=False),
        sa.Column("ended", sa.Boolean, nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        schema=SCHEMA,
    )
    op.create_table(
        "planning_requests",
        sa.Column("request_id", sa.Text, primary_key=True),
        sa.Column("job_id", sa.Text, nullable=False),
        sa.Column("tenant_id", sa.Text, nullable=False),
        sa.Column("cause", sa.Text, nullable=False),
        sa.Column("preview", sa.Boolean, nullable=False),
        sa.Column("after_attempt", sa.Integer, nullable=False),
        sa.Column("spec", sa.LargeBinary, nullable=False),
        sa.Column("steps_done", sa.Integer, nullable=False),
        sa.Column("spent_usd", sa.Double, nullable=False),
        sa.Column("tries", sa.Integer, nullable=False),
        sa.Column("traceparent", sa.Text),
        sa.Column("requested_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("due_at", sa.DateTime(timezone=True), server_default=sa.func.now(), index=True),
        sa.Column("lease_until", sa.DateTime(timezone=True)),
        sa.Column("lease_token", sa.Text),
        sa.UniqueConstraint("job_id", "cause", name="uq_planning_requests_job_id_cause"),
        schema=SCHEMA,
    )
    op.create_table(
        "plans",
        sa.Column("plan_id", sa.Text, primary_key=True),
        sa.Column("job_id", sa.Text, nullable=False, index=True),
        sa.Column("tenant_id", sa.Text, nullable=False),
        sa.Column("preview", sa.Boolean, nullable=False),
        sa.Column("after_attempt", sa.Integer, nullable=False),
        sa.Column("micro_batch_size", sa.Integer, nullable=False),
        sa.Column("method", sa.Text, nullable=False),
        sa.Column("roofline_step_seconds", JSONB, nullable=False),
        sa.Column("inputs", sa.Text),
        sa.Column("market_sha256", sa.Text),
        sa.Column("snapshot_sha256", sa.Text),
        sa.Column("event", sa.LargeBinary, nullable=False),
        sa.Column("decided_at", sa.DateTime(timezone=True), nullable=False, index=True),
        schema=SCHEMA,
    )
    op.create_table(
        "markets",
        sa.Column("sha256", sa.Text, primary_key=True),
        sa.Column("text", sa.Text, nullable=False),
        sa.Column("seen_at", sa.DateTime(timezone=True), nullable=False),
        schema=SCHEMA,
    )
    op.create_table(
        "profiles",
        sa.Column("key", sa.Text, primary_key=True),
        sa.Column("answer", JSONB, nullable=False),
        sa.Column("used_at", sa.DateTime(timezone=True), nullable=False, index=True),
        schema=SCHEMA,
    )
    op.create_table(
        "prices",
        sa.Column("offer", sa.Text, primary_key=True),
        sa.Column("price_usd_per_hour", sa.Double, nullable=False),
        sa.Column("source", sa.Text, nullable=False),
        sa.Column("observed_at", sa.DateTime(timezone=True), nullable=False),
        schema=SCHEMA,
    )
    op.create_table(
        "denials",
        sa.Column("offer", sa.Text, primary_key=True),
        sa.Column("denied_at", sa.DateTime(timezone=True), nullable=False),
        schema=SCHEMA,
    )
    op.create_table(
        "measurements",
        sa.Column("job_id", sa.Text, primary_key=True),
        sa.Column("attempt", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("tenant_id", sa.Text, nullable=False),
        sa.Column("instance_type", sa.Text, nullable=False),
        sa.Column("hardware", sa.Text, nullable=False),
        sa.Column("method", sa.Text, nullable=False),
        sa.Column("roofline_step_seconds", sa.Double, nullable=False),
        sa.Column("step_seconds", sa.Double),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=False, index=True),
        schema=SCHEMA,
    )


def downgrade() -> None:
    for table in (
        "measurements", "denials", "prices", "profiles", "markets", "plans", "planning_requests", "jobs",
        "outbox", "inbox",
    ):  # fmt: skip
        op.drop_table(table, schema=SCHEMA)
    op.execute(f'DROP FUNCTION IF EXISTS "{SCHEMA}".wake_relay()')
