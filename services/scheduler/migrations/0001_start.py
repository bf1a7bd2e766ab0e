"""Jobs, attempts, early answers."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

from sskai.delivery import create_delivery_tables

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

SCHEMA = "scheduler"


def moment(name: str, **options: object) -> sa.Column:
    return sa.Column(name, sa.DateTime(timezone=True), **options)


def upgrade() -> None:
    create_delivery_tables(op, SCHEMA)
    op.create_table(
        "jobs",
        sa.Column("job_id", sa.Text, primary_key=True),
        sa.Column("tenant_id", sa.Text, nullable=False, index=True),
        sa.Column("spec", sa.LargeBinary, nullable=False),
        sa.Column("state", sa.Text, nullable=False, index=True),
        sa.Column("plan", sa.LargeBinary),
        sa.Column("attempts", sa.Integer, nullable=False),
        sa.Column("steps_saved", sa.Integer, nullable=False),
        sa.Column("steps_told", sa.Integer, nullable=False),
        moment("told_at"),
        sa.Column("checkpoint_uri", sa.Text, nullable=False),
        sa.Column("spent_nano_usd", sa.BigInteger, nullable=False),
        sa.Column("intervals", sa.Integer, nullable=False),
        sa.Column("errors", sa.Integer, nullable=False),
        sa.Column("stop_reason", sa.Text),
        moment("stop_by"),
        moment("waiting_since"),
        sa.Column("held_rule", sa.Text, nullable=False),
        sa.Column("admitted", sa.Boolean, nullable=False),
        sa.Column("denied_until", postgresql.JSONB, nullable=False),
        sa.Column("step_seconds", sa.Float, nullable=False),
        moment("submitted_at", nullable=False),
        sa.Column("traceparent", sa.Text, nullable=False),
        moment("due_at", index=True, server_default=sa.func.now()),
        moment("lease_until"),
        sa.Column("lease_token", sa.Text),
        schema=SCHEMA,
    )
    op.create_table(
        "attempts",
        sa.Column("job_id", sa.Text, sa.ForeignKey(f"{SCHEMA}.jobs.job_id"), primary_key=True),
        sa.Column("number", sa.Integer, primary_key=True),
        sa.Column("placement", sa.LargeBinary, nullable=False),
        sa.Column("machine_id", sa.Text, nullable=False, index=True),
        moment("started_at", nullable=False),
        moment("launched_at"),
        moment("metered_until"),
        moment("ended_at"),
        sa.Column("end_reason", sa.Text, nullable=False),
        sa.Column("first_step", sa.Integer),
        sa.Column("last_step", sa.Integer, nullable=False),
        sa.Column("drain_signalled", sa.Boolean, nullable=False),
        schema=SCHEMA,
    )
    op.create_table(
        "early_answers",
        sa.Column("job_id", sa.Text, primary_key=True),
        sa.Column("plan", sa.LargeBinary),
        sa.Column("refusal", sa.LargeBinary),
        moment("came_at", nullable=False, server_default=sa.func.now()),
        schema=SCHEMA,
    )


def downgrade() -> None:
    for table in ("early_answers", "attempts", "jobs", "outbox", "inbox"):
        op.drop_table(table, schema=SCHEMA)
    op.execute(f'DROP FUNCTION "{SCHEMA}".wake_relay()')
