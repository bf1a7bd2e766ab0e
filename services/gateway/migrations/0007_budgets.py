"""Budgets of tenants, projects, endpoints and jobs."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

SCHEMA = "gateway"


def upgrade() -> None:
    op.create_table(
        "budgets",
        *(
            sa.Column(name, sa.Text(), nullable=False)
            for name in ("budget_id", "tenant_id", "scope", "target", "period", "action")
        ),
        sa.Column("amount_nano_usd", sa.BigInteger(), nullable=False),
        sa.Column("thresholds", JSONB(), nullable=False),
        sa.Column("set_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("budget_id", name="pk_budgets"),
        schema=SCHEMA,
    )
    op.create_index("ix_budgets_tenant_id", "budgets", ["tenant_id"], schema=SCHEMA)


def downgrade() -> None:
    op.drop_table("budgets", schema=SCHEMA)
