"""Plans of endpoints: what is asked for, and what was decided with its inputs."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
SCHEMA = "optimizer"


def upgrade() -> None:
    op.create_table(
        "endpoint_requests",
        sa.Column("plan_id", sa.Text, primary_key=True),
        sa.Column("tenant_id", sa.Text, nullable=False),
        sa.Column("spec", sa.LargeBinary, nullable=False),
        sa.Column("tries", sa.Integer, nullable=False),
        sa.Column("traceparent", sa.Text),
        sa.Column("requested_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("due_at", sa.DateTime(timezone=True), server_default=sa.func.now(), index=True),
        sa.Column("lease_until", sa.DateTime(timezone=True)),
        sa.Column("lease_token", sa.Text),
        schema=SCHEMA,
    )
    op.create_table(
        "endpoint_plans",
        sa.Column("plan_id", sa.Text, primary_key=True),
        sa.Column("tenant_id", sa.Text, nullable=False),
        sa.Column("inputs", sa.Text),
        sa.Column("market_sha256", sa.Text),
        sa.Column("snapshot_sha256", sa.Text),
        sa.Column("event", sa.LargeBinary, nullable=False),
        sa.Column("decided_at", sa.DateTime(timezone=True), nullable=False, index=True),
        schema=SCHEMA,
    )


def downgrade() -> None:
    op.drop_table("endpoint_plans", schema=SCHEMA)
    op.drop_table("endpoint_requests", schema=SCHEMA)
