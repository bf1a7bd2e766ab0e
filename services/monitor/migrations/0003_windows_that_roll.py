"""A cell is a window's whole histogram, of any measure; figures per attempt of a job; sampled traces; objectives."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import ARRAY, JSONB

revision = "0003"
down_revision = "0002"

SCHEMA = "monitor"
LABELS = ("tenant_id", "service", "name", "model", "model_version", "endpoint_id")


def upgrade() -> None:
    op.add_column(
        "traces", sa.Column("notable", sa.Boolean(), nullable=False, server_default=sa.false()), schema=SCHEMA
    )
    op.add_column("traces", sa.Column("kept", sa.Boolean(), nullable=True), schema=SCHEMA)
    for column in ("job_id", "attempt"):
        op.add_column("series", sa.Column(column, sa.Text(), nullable=False, server_default=""), schema=SCHEMA)
    op.drop_constraint("uq_series_labels", "series", schema=SCHEMA)
    op.create_unique_constraint("uq_series_labels", "series", [*LABELS, "job_id", "attempt"], schema=SCHEMA)
    _replace_cells()
    op.create_table(
        "objectives",
        sa.Column("endpoint_id", sa.Text(), nullable=False),
        sa.Column("objective", sa.Text(), nullable=False),
        sa.Column("tenant_id", sa.Text(), nullable=False),
        sa.Column("endpoint_name", sa.Text(), nullable=False),
        sa.Column("measure", sa.Text(), nullable=True),
        sa.Column("at_most", sa.Double(), nullable=True),
        sa.Column("target", sa.Double(), nullable=False),
        sa.Column("breached", JSONB(), nullable=False, server_default="{}"),
        sa.Column("burn_rates", JSONB(), nullable=False, server_default="{}"),
        sa.Column("set_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("endpoint_id", "objective", name="pk_objectives"),
        schema=SCHEMA,
    )


def _replace_cells() -> None:
    """Minutes were counted into hours at once: so they are rolled, and the hours are still to become days."""
    op.rename_table("cells", "old_cells", schema=SCHEMA)
    op.create_table(
        "cells",
        sa.Column("cell_id", sa.BigInteger(), autoincrement=True, nullable=False),
        sa.Column("series_id", sa.BigInteger(), nullable=False),
        sa.Column("measure", sa.Text(), nullable=False),
        sa.Column("window_seconds", sa.Integer(), nullable=False),
        sa.Column("window_start", sa.DateTime(timezone=True), nullable=False),
        sa.Column("rolled", sa.Boolean(), nullable=False),
        sa.Column("spans", sa.BigInteger(), nullable=False),
        sa.Column("total", sa.Double(), nullable=False),
        sa.Column("buckets", ARRAY(sa.Integer()), nullable=False),
        sa.Column("counts", ARRAY(sa.BigInteger()), nullable=False),
        sa.Column("errors", JSONB(), nullable=True),
        sa.Column("exemplar_values", ARRAY(sa.Double()), nullable=False),
        sa.Column("exemplar_trace_ids", ARRAY(sa.Text()), nullable=False),
        sa.PrimaryKeyConstraint("cell_id", name="pk_rolling_cells"),
        schema=SCHEMA,
    )
    op.execute(
        "INSERT INTO monitor.cells (series_id, measure, window_seconds, window_start, rolled, spans, total, buckets, "
        "counts, errors, exemplar_values, exemplar_trace_ids) "
        "SELECT series_id, 'duration_seconds', window_seconds, window_start, window_seconds = 60, sum(spans), "
        "sum(seconds), array_agg(bucket), array_agg(spans), "
        "CASE WHEN sum(errors) > 0 THEN jsonb_build_object('error', sum(errors)) END, '{}', '{}' "
        "FROM monitor.old_cells GROUP BY series_id, window_seconds, window_start"
    )
    op.drop_table("old_cells", schema=SCHEMA)
    op.execute("ALTER INDEX monitor.pk_rolling_cells RENAME TO pk_cells")
    op.create_index(
        "ix_cells_window_seconds_rolled_window_start",
        "cells",
        ["window_seconds", "rolled", "window_start"],
        schema=SCHEMA,
    )
    op.create_index(
        "ix_cells_series_id_window_seconds_window_start",
        "cells",
        ["series_id", "window_seconds", "window_start"],
        schema=SCHEMA,
    )


def downgrade() -> None:
    """Figures begin anew: what was counted in windows of 10 s and of days has no place in the older table."""
    op.drop_table("objectives", schema=SCHEMA)
    op.drop_table("cells", schema=SCHEMA)
    op.create_table(
        "cells",
        sa.Column("series_id", sa.BigInteger(), nullable=False),
        sa.Column("window_seconds", sa.Integer(), nullable=False),
        sa.Column("window_start", sa.DateTime(timezone=True), nullable=False),
        sa.Column("bucket", sa.Integer(), nullable=False),
        sa.Column("spans", sa.BigInteger(), nullable=False),
        sa.Column("errors", sa.BigInteger(), nullable=False),
        sa.Column("seconds", sa.Double(), nullable=False),
        sa.ForeignKeyConstraint(["series_id"], [f"{SCHEMA}.series.series_id"], name="fk_cells_series_id"),
        sa.PrimaryKeyConstraint("series_id", "window_seconds", "window_start", "bucket", name="pk_cells"),
        schema=SCHEMA,
    )
    op.create_index("ix_cells_window_seconds_window_start", "cells", ["window_seconds", "window_start"], schema=SCHEMA)
    op.execute("DELETE FROM monitor.series WHERE job_id <> ''")
    op.drop_constraint("uq_series_labels", "series", schema=SCHEMA)
    op.create_unique_constraint("uq_series_labels", "series", [*LABELS], schema=SCHEMA)
    for column in ("job_id", "attempt"):
        op.drop_column("series", column, schema=SCHEMA)
    for column in ("notable", "kept"):
        op.drop_column("traces", column, schema=SCHEMA)
