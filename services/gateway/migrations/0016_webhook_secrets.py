"""A webhook's secret can be changed: the one before signs beside it for a while."""

import sqlalchemy as sa
from alembic import op

revision = "0016"
down_revision = "0015"
branch_labels = None
depends_on = None

SCHEMA = "gateway"


def upgrade() -> None:
    op.add_column("webhooks", sa.Column("previous_secret", sa.Text()), schema=SCHEMA)
    op.add_column("webhooks", sa.Column("previous_secret_until", sa.DateTime(timezone=True)), schema=SCHEMA)


def downgrade() -> None:
    op.drop_column("webhooks", "previous_secret_until", schema=SCHEMA)
    op.drop_column("webhooks", "previous_secret", schema=SCHEMA)
