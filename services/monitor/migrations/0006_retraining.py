"""Policies of retraining and suggestions; jobs know their datasets (of jobs from before, nobody does)."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0006"
down_revision = "0005"

SCHEMA = "monitor"


def upgrade() -> None:
    op.add_column("jobs", sa.Column("dataset_name", sa.Text(), nullable=False, server_default=""), schema=SCHEMA)
    op.add_column("jobs", sa.Column("dataset_version", sa.Integer(), nullable=False, server_default="0"), schema=SCHEMA)
    op.create_table(
        "retraining",
        *_text("endpoint_id", "tenant_id", "mode", "schedule", "data", "dataset_name"),
        sa.Column("on_drift", sa.Boolean(), nullable=False),
        sa.Column("on_new_dataset", sa.Boolean(), nullable=False),
        sa.Column("cooldown_seconds", sa.Double(), nullable=True),
        sa.Column("budget_usd", sa.Double(), nullable=True),
        sa.Column("confirm_alarms", sa.Integer(), nullable=False),
        sa.Column("confirm_samples", sa.Integer(), nullable=False),
        sa.Column("max_job_budget_usd", sa.Double(), nullable=True),
        _moment("set_at", nullable=False),
        _moment("scheduled_for"),
        sa.Column("alarms", JSONB(), nullable=False),
        sa.Column("dataset_version", sa.Integer(), nullable=False),
        *_claims(),
        sa.PrimaryKeyConstraint("endpoint_id", name="pk_retraining"),
        schema=SCHEMA,
    )
    op.create_table(
        "retrain_suggestions",
        *_text("retrain_id", "endpoint_id", "tenant_id", "model_id", "reason", "detail", "data", "state", "decided_by"),
        sa.Column("version", sa.Integer(), nullable=False),
        _moment("suggested_at", nullable=False),
        _moment("expires_at"),
        _moment("decided_at"),
        *_claims(),
        sa.PrimaryKeyConstraint("retrain_id", name="pk_retrain_suggestions"),
        schema=SCHEMA,
    )
    op.create_index("ix_retraining_tenant_id", "retraining", ["tenant_id"], schema=SCHEMA)
    op.create_index("ix_retraining_due_at", "retraining", ["due_at"], schema=SCHEMA)
    op.create_index("ix_retrain_suggestions_endpoint_id", "retrain_suggestions", ["endpoint_id"], schema=SCHEMA)
    op.create_index("ix_retrain_suggestions_due_at", "retrain_suggestions", ["due_at"], schema=SCHEMA)


def _text(*names: str) -> list[sa.Column[str]]:
    return [sa.Column(name, sa.Text(), nullable=False) for name in names]


def _moment(name: str, *, nullable: bool = True) -> sa.Column[object]:
    return sa.Column(name, sa.DateTime(timezone=True), nullable=nullable)


def _claims() -> list[sa.Column[object]]:
    return [
        sa.Column("due_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=True),
        _moment("lease_until"),
        sa.Column("lease_token", sa.Text(), nullable=True),
    ]


def downgrade() -> None:
    op.drop_table("retrain_suggestions", schema=SCHEMA)
    op.drop_table("retraining", schema=SCHEMA)
    op.drop_column("jobs", "dataset_version", schema=SCHEMA)
    op.drop_column("jobs", "dataset_name", schema=SCHEMA)
