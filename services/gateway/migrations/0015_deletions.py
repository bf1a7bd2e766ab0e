"""Versions can be deleted, files have names, and jobs are found by what they are made of."""

import sqlalchemy as sa
from alembic import op

from sskai.events import v1 as events

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None

SCHEMA = "gateway"
OF_SPECIFICATION = ("kind", "model_id", "dataset_id")
JOBS_AT_ONCE = 1_000


def words(name: str) -> sa.Column[sa.Text]:
    return sa.Column(name, sa.Text(), server_default=sa.text("''"), nullable=False)


def upgrade() -> None:
    op.add_column("datasets", words("filename"), schema=SCHEMA)
    for table in ("datasets", "models"):
        op.add_column(table, sa.Column("deleted_at", sa.DateTime(timezone=True)), schema=SCHEMA)
    for name in OF_SPECIFICATION:
        op.add_column("jobs", words(name), schema=SCHEMA)
    _fill()
    op.create_index(
        "ix_jobs_active",
        "jobs",
        ["tenant_id"],
        schema=SCHEMA,
        postgresql_where=sa.text("state NOT IN ('succeeded', 'failed', 'cancelled')"),
    )


def _fill() -> None:
    """Of the jobs that are there already, batch after batch."""
    jobs = sa.table("jobs", *(sa.column(name) for name in ("job_id", "spec", *OF_SPECIFICATION)), schema=SCHEMA)
    connection, after = op.get_bind(), ""
    while rows := connection.execute(
        sa.select(jobs.c.job_id, jobs.c.spec)
        .where(jobs.c.job_id > after, jobs.c.spec.is_not(None))
        .order_by(jobs.c.job_id)
        .limit(JOBS_AT_ONCE)
    ).all():
        for job_id, written in rows:
            spec = events.JobSpec.FromString(bytes(written))
            told = {"kind": spec.kind, "model_id": spec.model.model_id, "dataset_id": spec.dataset.dataset_id}
            connection.execute(sa.update(jobs).where(jobs.c.job_id == job_id).values(**told))
        after = rows[-1][0]


def downgrade() -> None:
    op.drop_index("ix_jobs_active", "jobs", schema=SCHEMA)
    for name in OF_SPECIFICATION:
        op.drop_column("jobs", name, schema=SCHEMA)
    for table in ("datasets", "models"):
        op.drop_column(table, "deleted_at", schema=SCHEMA)
    op.drop_column("datasets", "filename", schema=SCHEMA)
