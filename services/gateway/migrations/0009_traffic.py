"""Sampled requests with feedback, datasets to cut from them, and what a version was cut from."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

SCHEMA = "gateway"


def text(name: str) -> sa.Column[str]:
    return sa.Column(name, sa.Text(), nullable=False)


def moment(name: str, *, nullable: bool = True, index: bool = False) -> sa.Column[sa.DateTime]:
    return sa.Column(name, sa.DateTime(timezone=True), nullable=nullable, index=index)


def upgrade() -> None:
    op.add_column("datasets", sa.Column("lineage", JSONB()), schema=SCHEMA)
    op.create_table(
        "traffic",
        sa.Column("endpoint_id", sa.Text(), primary_key=True),
        sa.Column("inference_id", sa.Text(), primary_key=True),
        text("tenant_id"),
        moment("asked_at"),
        *map(text, ("input_text", "output_text", "error", "finish_reason")),
        moment("given_at"),
        sa.Column("score", sa.Float()),
        *map(text, ("label", "correction")),
        moment("kept_at", nullable=False, index=True),
        schema=SCHEMA,
    )
    op.create_index("ix_traffic_endpoint_id_kept_at", "traffic", ["endpoint_id", "kept_at"], schema=SCHEMA)
    op.create_table(
        "cuts",
        sa.Column("retrain_id", sa.Text(), primary_key=True),
        text("tenant_id"),
        sa.Column("request", sa.LargeBinary(), nullable=False),
        sa.Column("traceparent", sa.Text()),
        sa.Column("tries", sa.Integer(), nullable=False),
        moment("asked_at", nullable=False, index=True),
        sa.Column("due_at", sa.DateTime(timezone=True), server_default=sa.func.now(), index=True),
        sa.Column("lease_until", sa.DateTime(timezone=True)),
        sa.Column("lease_token", sa.Text()),
        schema=SCHEMA,
    )


def downgrade() -> None:
    op.drop_table("cuts", schema=SCHEMA)
    op.drop_table("traffic", schema=SCHEMA)
    op.drop_column("datasets", "lineage", schema=SCHEMA)
