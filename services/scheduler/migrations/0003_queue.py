"""Places and waits: the queue, what waits were like, what was foretold, and what tenants spend a month."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

SCHEMA = "scheduler"


def moment(name: str, **options: object) -> sa.Column:
    return sa.Column(name, sa.DateTime(timezone=True), **options)


def number(name: str) -> sa.Column:
    return sa.Column(name, sa.Integer, nullable=False)


def seconds(name: str) -> sa.Column:
    return sa.Column(name, sa.Float, nullable=False)


def upgrade() -> None:
    op.create_table(
        "queue",
        sa.Column("job_id", sa.Text, sa.ForeignKey(f"{SCHEMA}.jobs.job_id"), primary_key=True),
        sa.Column("tenant_id", sa.Text, nullable=False, index=True),
        number("priority"),
        moment("submitted_at", nullable=False),
        number("machines"),
        number("accelerators"),
        number("vcpus"),
        seconds("seconds_low"),
        seconds("seconds_expected"),
        seconds("seconds_high"),
        number("total_steps"),
        sa.Column("committed_nano_usd", sa.BigInteger, nullable=False),
        sa.Column("budget_nano_usd", sa.BigInteger),
        sa.Column("placed", sa.Boolean, nullable=False),
        moment("placed_at"),
        sa.Column("month", sa.Text, nullable=False),
        sa.Column("counted_nano_usd", sa.BigInteger, nullable=False),
        sa.Column("rule", sa.Text, nullable=False),
        sa.Column("kind", sa.Text, nullable=False),
        moment("since"),
        moment("told_at"),
        moment("earliest"),
        moment("expected"),
        moment("latest"),
        schema=SCHEMA,
    )
    op.create_table(
        "waits",
        sa.Column("wait_id", sa.BigInteger, sa.Identity(), primary_key=True),
        sa.Column("rule", sa.Text, nullable=False),
        sa.Column("kind", sa.Text, nullable=False),
        seconds("seconds"),
        sa.Column("ended", sa.Boolean, nullable=False),
        moment("at", nullable=False),
        schema=SCHEMA,
    )
    op.create_index("ix_waits_rule_kind_wait_id", "waits", ["rule", "kind", "wait_id"], schema=SCHEMA)
    op.create_table(
        "wait_predictions",
        sa.Column("prediction_id", sa.BigInteger, sa.Identity(), primary_key=True),
        sa.Column("job_id", sa.Text, nullable=False, index=True),
        sa.Column("rule", sa.Text, nullable=False),
        moment("made_at", nullable=False),
        seconds("low_seconds"),
        seconds("expected_seconds"),
        seconds("high_seconds"),
        sa.Column("actual_seconds", sa.Float),
        schema=SCHEMA,
    )
    op.create_table(
        "wait_calibrations",
        sa.Column("rule", sa.Text, primary_key=True),
        sa.Column("low", sa.Float, nullable=False),
        sa.Column("high", sa.Float, nullable=False),
        sa.Column("predictions", sa.BigInteger, nullable=False),
        sa.Column("covered", sa.BigInteger, nullable=False),
        schema=SCHEMA,
    )
    op.create_table(
        "tenant_months",
        sa.Column("tenant_id", sa.Text, primary_key=True),
        sa.Column("month", sa.Text, primary_key=True),
        sa.Column("spent_nano_usd", sa.BigInteger, nullable=False),
        schema=SCHEMA,
    )


def downgrade() -> None:
    for table in ("tenant_months", "wait_calibrations", "wait_predictions", "waits", "queue"):
        op.drop_table(table, schema=SCHEMA)
