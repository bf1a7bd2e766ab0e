"""What timelines of jobs are made of: marks, notices of machines, prices of offers."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

SCHEMA = "gateway"


def upgrade() -> None:
    op.create_table(
        "marks",
        sa.Column("job_id", sa.Text, primary_key=True),
        sa.Column("key", sa.Text, primary_key=True),
        sa.Column("tenant_id", sa.Text, nullable=False),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("body", JSONB, nullable=False),
        schema=SCHEMA,
    )
    op.create_table(
        "notices",
        sa.Column("machine_id", sa.Text, primary_key=True),
        sa.Column("at", sa.DateTime(timezone=True), primary_key=True, index=True),
        sa.Column("action", sa.Text, primary_key=True),
        sa.Column("terminates_at", sa.DateTime(timezone=True)),
        schema=SCHEMA,
    )
    op.create_table(
        "prices",
        sa.Column("offer", sa.Text, primary_key=True),
        sa.Column("at", sa.DateTime(timezone=True), primary_key=True, index=True),
        sa.Column("usd_per_hour", sa.Float, nullable=False),
        schema=SCHEMA,
    )


def downgrade() -> None:
    for table in ("prices", "notices", "marks"):
        op.drop_table(table, schema=SCHEMA)
