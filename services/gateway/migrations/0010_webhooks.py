"""Webhooks, and what is to be sent to them."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import ARRAY, JSONB

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None

SCHEMA = "gateway"


def moment(name: str, *, nullable: bool = True, index: bool = False) -> sa.Column[sa.DateTime]:
    return sa.Column(name, sa.DateTime(timezone=True), nullable=nullable, index=index)


def upgrade() -> None:
    op.create_table(
        "webhooks",
        sa.Column("webhook_id", sa.Text(), primary_key=True),
        sa.Column("tenant_id", sa.Text(), nullable=False, index=True),
        sa.Column("url", sa.Text(), nullable=False),
        sa.Column("types", ARRAY(sa.Text()), nullable=False),
        sa.Column("secret", sa.Text(), nullable=False),
        moment("created_at", nullable=False),
        moment("disabled_at"),
        schema=SCHEMA,
    )
    op.create_table(
        "deliveries",
        sa.Column("delivery_id", sa.Text(), primary_key=True),
        sa.Column("webhook_id", sa.Text(), nullable=False, index=True),
        sa.Column("tenant_id", sa.Text(), nullable=False),
        sa.Column("type", sa.Text(), nullable=False),
        sa.Column("event", JSONB(), nullable=False),
        sa.Column("tries", sa.Integer(), nullable=False),
        sa.Column("last_status", sa.Integer()),
        sa.Column("last_problem", sa.Text(), server_default=sa.text("''"), nullable=False),
        moment("told_at", nullable=False, index=True),
        moment("delivered_at"),
        sa.Column("due_at", sa.DateTime(timezone=True), server_default=sa.func.now(), index=True),
        moment("lease_until"),
        sa.Column("lease_token", sa.Text()),
        schema=SCHEMA,
    )


def downgrade() -> None:
    op.drop_table("deliveries", schema=SCHEMA)
    op.drop_table("webhooks", schema=SCHEMA)
