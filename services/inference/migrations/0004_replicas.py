"""Endpoints of kind spot: what they want of their replicas, and the replicas."""

from __future__ import annotations

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision: str = "0004"
down_revision: str | None = "0003"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None

SCHEMA = "inference"
TIME = sa.DateTime(timezone=True)


def _counts(*names: str) -> list[sa.Column[int]]:
    return [sa.Column(name, sa.BigInteger(), server_default=sa.text("0"), nullable=False) for name in names]


def _times(*names: str) -> list[sa.Column[object]]:
    return [sa.Column(name, TIME, nullable=True) for name in names]


def upgrade() -> None:
    op.create_table(
        "replica_sets",
        sa.Column("endpoint_id", sa.Text(), nullable=False),
        sa.Column("tenant_id", sa.Text(), nullable=False),
        sa.Column("minimum", sa.Integer(), nullable=False),
        sa.Column("maximum", sa.Integer(), nullable=False),
        sa.Column("on_demand", sa.Integer(), nullable=False),
        sa.Column("most_tokens_per_second", sa.Double(), nullable=False),
        sa.Column("engine", sa.Text(), nullable=False),
        sa.Column("placements", JSONB(), nullable=False),
        sa.Column("wanted", sa.Integer(), nullable=False),
        *_times("above_since", "below_since", "scaled_at", "busy_at", "asked_at"),
        sa.Column("numbers", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("intervals", sa.Integer(), server_default=sa.text("0"), nullable=False),
        *_counts("input_tokens", "output_tokens", "told_input_tokens", "told_output_tokens"),
        sa.Column("due_at", TIME, server_default=sa.text("now()"), nullable=True),
        sa.Column("lease_until", TIME, nullable=True),
        sa.Column("lease_token", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("endpoint_id", name="pk_replica_sets"),
        schema=SCHEMA,
    )
    op.create_index("ix_replica_sets_due_at", "replica_sets", ["due_at"], schema=SCHEMA)
    op.create_table(
        "replicas",
        sa.Column("replica_id", sa.Text(), nullable=False),
        sa.Column("endpoint_id", sa.Text(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("tenant_id", sa.Text(), nullable=False),
        sa.Column("token", sa.Text(), nullable=False),
        sa.Column("capacity", sa.Text(), nullable=False),
        sa.Column("price_usd_per_hour", sa.Double(), nullable=False),
        sa.Column("placement", JSONB(), nullable=False),
        sa.Column("base_uri", sa.Text(), nullable=False),
        sa.Column("artifact_uri", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("detail", sa.Text(), nullable=False),
        sa.Column("machine_id", sa.Text(), nullable=False),
        sa.Column("url", sa.Text(), nullable=False),
        sa.Column("load_seconds", sa.Double(), nullable=False),
        sa.Column("active", sa.Integer(), nullable=False),
        sa.Column("waiting", sa.Integer(), nullable=False),
        sa.Column("tokens_per_second", sa.Double(), nullable=False),
        sa.Column("requested_at", TIME, nullable=False),
        *_times("launched_at", "ready_at", "heard_at", "terminates_at", "draining_at", "ended_at", "metered_until"),
        *_times("stop_sent_at", "deleted_at"),
        sa.PrimaryKeyConstraint("replica_id", name="pk_replicas"),
        schema=SCHEMA,
    )
    op.create_index("ix_replicas_endpoint_id_state", "replicas", ["endpoint_id", "state"], schema=SCHEMA)
    op.create_index("ix_replicas_machine_id", "replicas", ["machine_id"], schema=SCHEMA)


def downgrade() -> None:
    op.drop_table("replicas", schema=SCHEMA)
    op.drop_table("replica_sets", schema=SCHEMA)
