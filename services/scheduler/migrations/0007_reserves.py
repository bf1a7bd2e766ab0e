"""What a job has reserved of the budgets that it is under."""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

SCHEMA = "scheduler"


def upgrade() -> None:
    op.add_column("jobs", sa.Column("limit_nano_usd", sa.BigInteger, nullable=True), schema=SCHEMA)
    for name, kind, default in (
        ("ask_number", sa.Integer, "0"),
        ("asking", sa.Boolean, "false"),
        ("ask_detail", sa.Text, ""),
    ):
        op.add_column("jobs", sa.Column(name, kind, nullable=False, server_default=default), schema=SCHEMA)
        op.alter_column("jobs", name, server_default=None, schema=SCHEMA)
    op.create_table(
        "budgets",
        sa.Column("budget_id", sa.Text(), nullable=False),
        sa.Column("tenant_id", sa.Text(), nullable=False),
        sa.Column("scope", sa.Text(), nullable=False),
        sa.Column("target", sa.Text(), nullable=False),
        sa.Column("stops", sa.Boolean(), nullable=False),
        sa.Column("set_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("budget_id", name="pk_budgets"),
        schema=SCHEMA,
    )
    op.create_index("ix_budgets_tenant_id", "budgets", ["tenant_id"], schema=SCHEMA)


def downgrade() -> None:
    op.drop_table("budgets", schema=SCHEMA)
    for name in ("limit_nano_usd", "ask_number", "asking", "ask_detail"):
        op.drop_column("jobs", name, schema=SCHEMA)
