"""What an endpoint's replicas have reserved of the budgets that they are under."""

from __future__ import annotations

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0006"
down_revision: str | None = "0005"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None

SCHEMA = "inference"
_ADDED = (
    ("project", sa.Text(), "''"),
    ("spent_nano_usd", sa.BigInteger(), "0"),
    ("ask_number", sa.Integer(), "0"),
    ("asking", sa.Boolean(), "false"),
)


def upgrade() -> None:
    for name, kind, default in _ADDED:
        column = sa.Column(name, kind, nullable=False, server_default=sa.text(default))
        op.add_column("replica_sets", column, schema=SCHEMA)
    op.add_column("replica_sets", sa.Column("limit_nano_usd", sa.BigInteger(), nullable=True), schema=SCHEMA)
    op.create_table(
        "budgets",
        *(sa.Column(name, sa.Text(), nullable=False) for name in ("budget_id", "tenant_id", "scope", "target")),
        sa.Column("stops", sa.Boolean(), nullable=False),
        sa.Column("set_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("budget_id", name="pk_budgets"),
        schema=SCHEMA,
    )
    op.create_index("ix_budgets_tenant_id", "budgets", ["tenant_id"], schema=SCHEMA)


def downgrade() -> None:
    op.drop_table("budgets", schema=SCHEMA)
    for name in ("limit_nano_usd", *(name for name, *_ in _ADDED)):
        op.drop_column("replica_sets", name, schema=SCHEMA)
