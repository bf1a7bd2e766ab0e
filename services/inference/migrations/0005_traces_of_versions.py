"""A version knows the trace of the training that made it."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    op.add_column(
        "model_versions",
        sa.Column("traceparent", sa.Text(), server_default=sa.text("''"), nullable=False),
        schema="inference",
    )
