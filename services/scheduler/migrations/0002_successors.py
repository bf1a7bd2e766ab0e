"""Successors, gangs, and what has been tried in vain."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import ARRAY, JSONB

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

SCHEMA = "scheduler"


def upgrade() -> None:
    for column in (
        sa.Column("current_attempt", sa.Integer),
        sa.Column("successor_attempt", sa.Integer),
        sa.Column("recoveries", JSONB, nullable=False, server_default="[]"),
        sa.Column("denials", sa.Integer, nullable=False, server_default="0"),
        sa.Column("not_before", sa.DateTime(timezone=True)),
        sa.Column("outgrown_bytes", sa.BigInteger, nullable=False, server_default="0"),
    ):
        op.add_column("jobs", column, schema=SCHEMA)
    for column in (
        sa.Column("planned", sa.LargeBinary),
        sa.Column("member_ids", ARRAY(sa.Text), nullable=False, server_default="{}"),
        sa.Column("heard_at", sa.DateTime(timezone=True)),
        sa.Column("pending", sa.Text, nullable=False, server_default=""),
    ):
        op.add_column("attempts", column, schema=SCHEMA)
    op.execute("UPDATE scheduler.jobs SET current_attempt = attempts WHERE attempts > 0")
    op.execute("UPDATE scheduler.attempts SET member_ids = ARRAY[machine_id] WHERE machine_id <> ''")
    for table, name in (
        ("jobs", "recoveries"),
        ("jobs", "denials"),
        ("jobs", "outgrown_bytes"),
        ("attempts", "member_ids"),
        ("attempts", "pending"),
    ):
        op.alter_column(table, name, server_default=None, schema=SCHEMA)
    op.create_index("ix_attempts_member_ids", "attempts", ["member_ids"], schema=SCHEMA, postgresql_using="gin")


def downgrade() -> None:
    op.drop_index("ix_attempts_member_ids", "attempts", schema=SCHEMA)
    for name in ("pending", "heard_at", "member_ids", "planned"):
        op.drop_column("attempts", name, schema=SCHEMA)
    for name in ("outgrown_bytes", "not_before", "denials", "recoveries", "successor_attempt", "current_attempt"):
        op.drop_column("jobs", name, schema=SCHEMA)
