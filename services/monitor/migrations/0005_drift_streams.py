"""Drift is tested on many streams, by version. Tests that ran begin anew: the old ones kept scores, not counts."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0005"
down_revision = "0004"

SCHEMA = "monitor"
SAMPLES_INDEX = "ix_drift_samples_endpoint_id_model_id_version_number"


def upgrade() -> None:
    op.drop_table("drift_tests", schema=SCHEMA)
    op.create_table(
        "drift_watches",
        *_version(),
        sa.Column("state", JSONB(), nullable=False),
        sa.Column("rows", sa.BigInteger(), nullable=False),
        sa.Column("window_after", sa.BigInteger(), nullable=False),
        sa.Column("alarms", JSONB(), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("endpoint_id", "model_id", "version", name="pk_drift_watches"),
        schema=SCHEMA,
    )
    op.create_index("ix_drift_watches_updated_at", "drift_watches", ["updated_at"], unique=False, schema=SCHEMA)
    op.create_table(
        "drift_windows",
        *_version(),
        sa.Column("inputs", JSONB(), nullable=False),
        sa.Column("outputs", JSONB(), nullable=False),
        sa.PrimaryKeyConstraint("endpoint_id", "model_id", "version", name="pk_drift_windows"),
        schema=SCHEMA,
    )
    op.create_table(
        "drift_samples",
        *_version(),
        sa.Column("inference_id", sa.Text(), nullable=False),
        sa.Column("number", sa.BigInteger(), nullable=False),
        sa.Column("input_text", sa.Text(), nullable=True),
        sa.Column("output_text", sa.Text(), nullable=True),
        sa.Column("feedback", JSONB(), nullable=True),
        sa.PrimaryKeyConstraint("endpoint_id", "inference_id", name="pk_drift_samples"),
        schema=SCHEMA,
    )
    columns = ["endpoint_id", "model_id", "version", "number"]
    op.create_index(SAMPLES_INDEX, "drift_samples", columns, unique=False, schema=SCHEMA)


def _version() -> list[sa.Column[object]]:
    return [
        sa.Column("endpoint_id", sa.Text(), nullable=False),
        sa.Column("model_id", sa.Text(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("tenant_id", sa.Text(), nullable=False),
    ]


def downgrade() -> None:
    for table in ("drift_samples", "drift_windows", "drift_watches"):
        op.drop_table(table, schema=SCHEMA)
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
