"""An evaluation says against which version it was made."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    op.add_column("evaluations", sa.Column("champion_version", sa.Integer(), nullable=True), schema="inference")


def downgrade() -> None:
    op.drop_column("evaluations", "champion_version", schema="inference")
