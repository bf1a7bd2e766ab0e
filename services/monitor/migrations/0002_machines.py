"""What is known of the end of each machine, and how the sources of such messages do."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"

SCHEMA = "monitor"


def upgrade() -> None:
    op.create_table(
        "machines",
        sa.Column("machine_id", sa.Text(), nullable=False),
        sa.Column("ours", sa.Boolean(), server_default=sa.false(), nullable=False),
        sa.Column("tenant_id", sa.Text(), server_default="", nullable=False),
        sa.Column("traceparent", sa.Text(), nullable=True),
        sa.Column("notice", sa.LargeBinary(), nullable=True),
        sa.Column("notice_told", sa.Boolean(), server_default=sa.false(), nullable=False),
        sa.Column("loss", sa.LargeBinary(), nullable=True),
        sa.Column("loss_told", sa.Boolean(), server_default=sa.false(), nullable=False),
        sa.Column("due_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("seen_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("machine_id", name="pk_machines"),
        schema=SCHEMA,
    )
    op.create_index("ix_machines_due_at", "machines", ["due_at"], schema=SCHEMA)
    op.create_index("ix_machines_seen_at", "machines", ["seen_at"], schema=SCHEMA)
    op.create_table(
        "sources",
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("answered_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("failing_since", sa.DateTime(timezone=True), nullable=True),
        sa.Column("problem", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("source", name="pk_sources"),
        schema=SCHEMA,
    )
