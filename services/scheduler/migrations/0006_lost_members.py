"""A gang that lost a machine goes on with the others, and is paid for them alone."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

SCHEMA = "scheduler"


def upgrade() -> None:
    op.add_column("attempts", sa.Column("lost", sa.Integer, nullable=False, server_default="0"), schema=SCHEMA)
    op.alter_column("attempts", "lost", server_default=None, schema=SCHEMA)


def downgrade() -> None:
    op.drop_column("attempts", "lost", schema=SCHEMA)
