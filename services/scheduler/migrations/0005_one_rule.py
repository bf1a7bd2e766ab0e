"""What holds a job stands in its row of the queue alone."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

SCHEMA = "scheduler"


def upgrade() -> None:
    op.drop_column("jobs", "held_rule", schema=SCHEMA)


def downgrade() -> None:
    op.add_column("jobs", sa.Column("held_rule", sa.Text, nullable=False, server_default=""), schema=SCHEMA)
    op.alter_column("jobs", "held_rule", server_default=None, schema=SCHEMA)
