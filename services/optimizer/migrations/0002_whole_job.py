"""Plans that say what they expected; attempts' lives, saves and step times; what was learnt, by version."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0002"
down_revision = "0001"
SCHEMA = "optimizer"


def upgrade() -> None:
    # Profiles are counted anew in more detail; measurements held less than is asked of them now. Both come back by
    # themselves.
    op.execute("DELETE FROM optimizer.profiles")
    op.execute("DELETE FROM optimizer.measurements")
    op.drop_column("plans", "roofline_step_seconds", schema=SCHEMA)
    for column in (
        sa.Column("expected_steps", JSONB, nullable=False, server_default="{}"),
        sa.Column("planner_version", sa.Text, nullable=False, server_default="1"),
        sa.Column("throughput_version", sa.Text, nullable=False, server_default=""),
        sa.Column("cause", sa.Text, nullable=False, server_default=""),
    ):
        op.add_column("plans", column, schema=SCHEMA)
        op.alter_column("plans", column.name, server_default=None, schema=SCHEMA)
    op.add_column("denials", sa.Column("denials", sa.Integer, nullable=False, server_default="1"), schema=SCHEMA)
    op.add_column(
        "denials", sa.Column("since", sa.DateTime(timezone=True), nullable=False, server_default=sa.func.now()),
        schema=SCHEMA,
    )  # fmt: skip
    op.alter_column("denials", "denials", server_default=None, schema=SCHEMA)
    op.alter_column("denials", "since", server_default=None, schema=SCHEMA)
    for column in (
        sa.Column("region", sa.Text, nullable=False),
        sa.Column("spot", sa.Boolean, nullable=False),
        sa.Column("family", sa.Text, nullable=False),
        sa.Column("tokens_per_micro_batch", sa.Double, nullable=False),
        sa.Column("save_seconds", sa.Double),
        sa.Column("stall_seconds", sa.Double),
        sa.Column("ended_at", sa.DateTime(timezone=True)),
        sa.Column("interrupted", sa.Boolean, nullable=False),
    ):
        op.add_column("measurements", column, schema=SCHEMA)
    op.create_table(
        "corrections",
        sa.Column("version", sa.Text, primary_key=True),
        sa.Column("measured", JSONB, nullable=False),
        sa.Column("learnt_at", sa.DateTime(timezone=True), nullable=False, index=True),
        schema=SCHEMA,
    )


def downgrade() -> None:
    op.drop_table("corrections", schema=SCHEMA)
    for column in (
        "region", "spot", "family", "tokens_per_micro_batch", "save_seconds", "stall_seconds", "ended_at",
        "interrupted",
    ):  # fmt: skip
        op.drop_column("measurements", column, schema=SCHEMA)
    op.drop_column("denials", "since", schema=SCHEMA)
    op.drop_column("denials", "denials", schema=SCHEMA)
    for column in ("cause", "throughput_version", "planner_version", "expected_steps"):
        op.drop_column("plans", column, schema=SCHEMA)
    op.add_column(
        "plans", sa.Column("roofline_step_seconds", JSONB, nullable=False, server_default="{}"), schema=SCHEMA
    )
