"""Endpoints, rollouts, sets of replicas and versions know the trace of what began them."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    for table in ("endpoints", "model_versions", "rollouts", "replica_sets"):
        op.add_column(
            table, sa.Column("traceparent", sa.Text(), server_default=sa.text("''"), nullable=False), schema="inference"
        )
