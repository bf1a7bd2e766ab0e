"""What was last seen of each spot offer."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

SCHEMA = "scheduler"


def upgrade() -> None:
    op.create_table(
        "spot_offers",
        sa.Column("offer", sa.Text, primary_key=True),
        sa.Column("priors", sa.Text, nullable=False),
        sa.Column("belief", postgresql.ARRAY(sa.Float), nullable=False),
        sa.Column("available", sa.Boolean, nullable=False),
        sa.Column("seen_at", sa.DateTime(timezone=True), nullable=False, index=True),
        schema=SCHEMA,
    )


def downgrade() -> None:
    op.drop_table("spot_offers", schema=SCHEMA)
