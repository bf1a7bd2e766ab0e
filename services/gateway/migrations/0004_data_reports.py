"""What was counted of a dataset when it was checked."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

SCHEMA = "gateway"


def upgrade() -> None:
    op.add_column("datasets", sa.Column("report", JSONB, nullable=False, server_default=sa.text("'{}'")), schema=SCHEMA)


def downgrade() -> None:
    op.drop_column("datasets", "report", schema=SCHEMA)
