"""New versions find their way to an endpoint's name: rollouts, what is counted of versions, feedback, evaluations."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0002"
down_revision = "0001"

SCHEMA = "inference"
TIME = sa.DateTime(timezone=True)


def upgrade() -> None:
    _add_columns()
    _create_rollouts()
    op.create_table(
        "figures",
        sa.Column("endpoint_id", sa.Text(), nullable=False),
        sa.Column("rollout_id", sa.Text(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("shadow", sa.Boolean(), nullable=False),
        sa.Column("bucket", sa.Integer(), nullable=False),
        sa.Column("requests", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("endpoint_id", "rollout_id", "version", "shadow", "bucket", name="pk_figures"),
        schema=SCHEMA,
    )
    op.create_table(
        "answers",
        sa.Column("inference_id", sa.Text(), nullable=False),
        sa.Column("tenant_id", sa.Text(), nullable=False),
        sa.Column("endpoint_id", sa.Text(), nullable=False),
        sa.Column("rollout_id", sa.Text(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("at", TIME, nullable=False),
        sa.PrimaryKeyConstraint("inference_id", name="pk_answers"),
        schema=SCHEMA,
    )
    op.create_index("ix_answers_at", "answers", ["at"], schema=SCHEMA)
    op.create_table(
        "feedback",
        sa.Column("inference_id", sa.Text(), nullable=False),
        sa.Column("tenant_id", sa.Text(), nullable=False),
        sa.Column("endpoint_id", sa.Text(), nullable=False),
        sa.Column("rollout_id", sa.Text(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("score", sa.Double(), nullable=True),
        sa.Column("label", sa.Text(), nullable=False),
        sa.Column("correction", sa.Text(), nullable=False),
        sa.Column("at", TIME, nullable=False),
        sa.PrimaryKeyConstraint("inference_id", name="pk_feedback"),
        schema=SCHEMA,
    )
    op.create_index("ix_feedback_endpoint_id_rollout_id", "feedback", ["endpoint_id", "rollout_id"], schema=SCHEMA)
    op.create_table(
        "evaluations",
        sa.Column("model_id", sa.Text(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("metric", sa.Text(), nullable=False),
        sa.Column("tenant_id", sa.Text(), nullable=False),
        sa.Column("value", sa.Double(), nullable=False),
        sa.Column("champion_value", sa.Double(), nullable=False),
        sa.Column("sample_size", sa.BigInteger(), nullable=False),
        sa.Column("standard_error", sa.Double(), nullable=False),
        sa.Column("evaluated_at", TIME, nullable=False),
        sa.PrimaryKeyConstraint("model_id", "version", "metric", name="pk_evaluations"),
        schema=SCHEMA,
    )


def _add_columns() -> None:
    empty = sa.text("''")
    op.add_column("endpoints", sa.Column("canary_of", sa.Text(), nullable=False, server_default=empty), schema=SCHEMA)
    op.add_column(
        "endpoints", sa.Column("promotion_mode", sa.Text(), nullable=False, server_default=empty), schema=SCHEMA
    )
    op.add_column(
        "endpoints", sa.Column("rules", JSONB(), nullable=False, server_default=sa.text("'{}'")), schema=SCHEMA
    )
    op.add_column(
        "model_versions", sa.Column("base_uri", sa.Text(), nullable=False, server_default=empty), schema=SCHEMA
    )


def _create_rollouts() -> None:
    op.create_table(
        "rollouts",
        sa.Column("rollout_id", sa.Text(), nullable=False),
        sa.Column("endpoint_id", sa.Text(), nullable=False),
        sa.Column("tenant_id", sa.Text(), nullable=False),
        sa.Column("model_id", sa.Text(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("from_version", sa.Integer(), nullable=False),
        sa.Column("previous", JSONB(), nullable=False),
        sa.Column("rules", JSONB(), nullable=False),
        sa.Column("stage", sa.Text(), nullable=False),
        sa.Column("step", sa.Integer(), nullable=False),
        sa.Column("promote_when_loaded", sa.Boolean(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("step_started_at", TIME, nullable=False),
        sa.Column("requests_before", sa.BigInteger(), nullable=False),
        sa.Column("started_at", TIME, nullable=False),
        sa.Column("ended_at", TIME, nullable=True),
        sa.Column("due_at", TIME, server_default=sa.text("now()"), nullable=True),
        sa.Column("lease_until", TIME, nullable=True),
        sa.Column("lease_token", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("rollout_id", name="pk_rollouts"),
        schema=SCHEMA,
    )
    op.create_index("ix_rollouts_endpoint_id", "rollouts", ["endpoint_id"], schema=SCHEMA)
    op.create_index("ix_rollouts_due_at", "rollouts", ["due_at"], schema=SCHEMA)
    op.create_index(
        "uq_rollouts_under_way",
        "rollouts",
        ["endpoint_id"],
        unique=True,
        schema=SCHEMA,
        postgresql_where=sa.text("stage NOT IN ('promoted', 'rolled-back')"),
    )


def downgrade() -> None:
    for table in ("evaluations", "feedback", "answers", "figures", "rollouts"):
        op.drop_table(table, schema=SCHEMA)
    op.drop_column("model_versions", "base_uri", schema=SCHEMA)
    for column in ("rules", "promotion_mode", "canary_of"):
        op.drop_column("endpoints", column, schema=SCHEMA)
