"""The ledger's rows have kinds; daily totals, budgets with reserves, meters of what is kept; the naive choice."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0004"
down_revision = "0003"

SCHEMA = "monitor"

_ADDED = {
    "kind": (sa.Text(), "compute"),
    "endpoint_id": (sa.Text(), ""),
    "machines": (sa.Integer(), "1"),
    "quantity": (sa.Double(), "0"),
    "unit": (sa.Text(), ""),
    "input_tokens": (sa.BigInteger(), "0"),
    "output_tokens": (sa.BigInteger(), "0"),
}
_FACTS = (
    ("jobs", "planned", sa.Boolean(), "false"),
    ("jobs", "dataset_bytes", sa.BigInteger(), "0"),
    ("jobs", "weight_bytes", sa.BigInteger(), "0"),
    ("jobs", "weights_are_ours", sa.Boolean(), "false"),
    ("attempts", "cloud", sa.Text(), ""),
    ("attempts", "region", sa.Text(), ""),
)
_TABLES = ("items", "meters", "reserves", "budgets_told", "budgets", "spend_days", "owners")


def _text(*names: str) -> list[sa.Column[str]]:
    return [sa.Column(name, sa.Text(), nullable=False) for name in names]


def _whole(*names: str) -> list[sa.Column[int]]:
    return [sa.Column(name, sa.BigInteger(), nullable=False) for name in names]


def _moment(name: str, *, nullable: bool = False) -> sa.Column[object]:
    return sa.Column(name, sa.DateTime(timezone=True), nullable=nullable)


def upgrade() -> None:
    for name, (kind, default) in _ADDED.items():
        op.add_column("spend", sa.Column(name, kind, nullable=False, server_default=default), schema=SCHEMA)
        op.alter_column("spend", name, server_default=None, schema=SCHEMA)
    op.drop_constraint("pk_spend", "spend", schema=SCHEMA, type_="primary")
    op.create_primary_key("pk_spend", "spend", ["job_id", "kind", "interval"], schema=SCHEMA)
    order = ["tenant_id", "started_at", "job_id", "kind", "interval"]
    op.create_index("ix_spend_of_tenant", "spend", order, schema=SCHEMA)
    op.add_column("jobs", sa.Column("naive", JSONB(), nullable=True), schema=SCHEMA)
    for table, name, kind, default in _FACTS:
        op.add_column(table, sa.Column(name, kind, nullable=False, server_default=default), schema=SCHEMA)
        op.alter_column(table, name, server_default=None, schema=SCHEMA)
    op.add_column("attempts", _moment("started_at", nullable=True), schema=SCHEMA)
    _create_totals()
    _create_budgets()
    _create_meters()


def _create_totals() -> None:
    op.create_table(
        "owners",
        *_text("owner_id", "tenant_id", "name", "project"),
        sa.Column("keep", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("owner_id", name="pk_owners"),
        schema=SCHEMA,
    )
    op.create_table(
        "spend_days",
        sa.Column("tenant_id", sa.Text(), nullable=False),
        sa.Column("day", sa.Date(), nullable=False),
        *_text("job_id", "kind", "endpoint_id"),
        *_whole("amount_nano_usd", "on_demand_nano_usd", "machine_microseconds", "input_tokens", "output_tokens"),
        sa.Column("rows", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("tenant_id", "day", "job_id", "kind", "endpoint_id", name="pk_spend_days"),
        schema=SCHEMA,
    )
    for name in ("job_id", "endpoint_id"):
        op.create_index(f"ix_spend_days_{name}", "spend_days", [name], schema=SCHEMA)
    op.execute(
        """
        INSERT INTO monitor.spend_days
        SELECT tenant_id, (started_at AT TIME ZONE 'UTC')::date, job_id, kind, endpoint_id, sum(amount_nano_usd),
               sum(on_demand_nano_usd), sum(extract(epoch FROM ended_at - started_at) * 1000000), 0, 0, count(*)
        FROM monitor.spend GROUP BY 1, 2, 3, 4, 5
        """
    )


def _create_budgets() -> None:
    op.create_table(
        "budgets",
        *_text("budget_id", "tenant_id", "scope", "target", "period", "action"),
        *_whole("amount_nano_usd"),
        sa.Column("thresholds", JSONB(), nullable=False),
        _moment("set_at"),
        sa.Column("removed", sa.Boolean(), nullable=False),
        sa.PrimaryKeyConstraint("budget_id", name="pk_budgets"),
        schema=SCHEMA,
    )
    op.create_index("ix_budgets_tenant_id", "budgets", ["tenant_id"], schema=SCHEMA)
    op.create_table(
        "budgets_told",
        *_text("budget_id", "period"),
        sa.Column("fraction", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("budget_id", "period", name="pk_budgets_told"),
        schema=SCHEMA,
    )
    op.create_table(
        "reserves",
        *_text("owner_id", "tenant_id", "project", "endpoint_id"),
        sa.Column("number", sa.Integer(), nullable=False),
        *_whole("limit_nano_usd"),
        sa.Column("minimum_nano_usd", sa.BigInteger(), nullable=True),
        sa.Column("wanted_nano_usd", sa.BigInteger(), nullable=True),
        _moment("asked_at"),
        _moment("release_at", nullable=True),
        sa.PrimaryKeyConstraint("owner_id", name="pk_reserves"),
        schema=SCHEMA,
    )
    op.create_index("ix_reserves_tenant_id", "reserves", ["tenant_id"], schema=SCHEMA)


def _create_meters() -> None:
    op.create_table(
        "meters",
        *_text("kind", "thing_id", "tenant_id"),
        sa.Column("keep", sa.Integer(), nullable=False),
        _moment("since"),
        _moment("gone_at", nullable=True),
        sa.Column("rows", sa.Integer(), nullable=False),
        sa.Column("told_amount", sa.Numeric(40, 0), nullable=False),
        *_whole("told_nano_usd"),
        sa.Column("due_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=True),
        _moment("lease_until", nullable=True),
        sa.Column("lease_token", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("kind", "thing_id", name="pk_meters"),
        schema=SCHEMA,
    )
    op.create_index("ix_meters_due_at", "meters", ["due_at"], schema=SCHEMA)
    op.create_table(
        "items",
        *_text("thing_id"),
        sa.Column("attempt", sa.Integer(), nullable=False, autoincrement=False),
        sa.Column("step", sa.Integer(), nullable=False, autoincrement=False),
        _moment("at"),
        *_whole("bytes"),
        sa.PrimaryKeyConstraint("thing_id", "attempt", "step", name="pk_items"),
        schema=SCHEMA,
    )


def downgrade() -> None:
    for name in _TABLES:
        op.drop_table(name, schema=SCHEMA)
    op.drop_column("attempts", "started_at", schema=SCHEMA)
    for table, name, *_ in _FACTS:
        op.drop_column(table, name, schema=SCHEMA)
    op.drop_column("jobs", "naive", schema=SCHEMA)
    op.drop_index("ix_spend_of_tenant", "spend", schema=SCHEMA)
    op.execute("DELETE FROM monitor.spend WHERE kind <> 'compute'")
    op.drop_constraint("pk_spend", "spend", schema=SCHEMA, type_="primary")
    op.create_primary_key("pk_spend", "spend", ["job_id", "interval"], schema=SCHEMA)
    for name in _ADDED:
        op.drop_column("spend", name, schema=SCHEMA)
