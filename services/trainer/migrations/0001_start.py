"""Results, models, ended jobs."""

import sqlalchemy as sa
from alembic import op

from sskai.delivery import create_delivery_tables

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

SCHEMA = "trainer"


def upgrade() -> None:
    create_delivery_tables(op, SCHEMA)
    op.create_table(
        "models",
        sa.Column("model_id", sa.Text, nullable=False),
        sa.Column("tenant_id", sa.Text, nullable=False),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("newest_version", sa.Integer, nullable=False),
        sa.PrimaryKeyConstraint("model_id", name="pk_models"),
        sa.UniqueConstraint("tenant_id", "name", name="uq_models_tenant_id_name"),
        schema=SCHEMA,
    )
    op.create_table(
        "results",
        sa.Column("job_id", sa.Text, nullable=False),
        sa.Column("tenant_id", sa.Text, nullable=False),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("artifact_uri", sa.Text, nullable=False),
        sa.Column("base_model_id", sa.Text, nullable=False),
        sa.Column("base_uri", sa.Text, nullable=False),
        sa.Column("method", sa.Text, nullable=False),
        sa.Column("dataset_id", sa.Text, nullable=False),
        sa.Column("dataset_uri", sa.Text, nullable=False),
        sa.Column("eval_loss_before", sa.Double, nullable=False),
        sa.Column("eval_loss_after", sa.Double, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("detail", sa.Text, nullable=False),
        sa.Column("model_id", sa.Text),
        sa.Column("version", sa.Integer),
        sa.Column("traceparent", sa.Text),
        *_claim_columns(),
        sa.PrimaryKeyConstraint("job_id", name="pk_results"),
        sa.ForeignKeyConstraint(["model_id"], [f"{SCHEMA}.models.model_id"], name="fk_results_model_id"),
        sa.UniqueConstraint("model_id", "version", name="uq_results_model_id_version"),
        schema=SCHEMA,
    )
    op.create_table(
        "ended_jobs",
        sa.Column("job_id", sa.Text, nullable=False),
        sa.Column("tenant_id", sa.Text, nullable=False),
        sa.Column("artifact_uri", sa.Text, nullable=False),
        sa.Column("ended_at", sa.DateTime(timezone=True), nullable=False),
        *_claim_columns(),
        sa.PrimaryKeyConstraint("job_id", name="pk_ended_jobs"),
        schema=SCHEMA,
    )
    for table in ("results", "ended_jobs"):
        op.create_index(f"ix_{table}_tenant_id", table, ["tenant_id"], schema=SCHEMA)
        op.create_index(f"ix_{table}_due_at", table, ["due_at"], schema=SCHEMA)


def downgrade() -> None:
    for table in ("ended_jobs", "results", "models", "outbox", "inbox"):
        op.drop_table(table, schema=SCHEMA)
    op.execute(f'DROP FUNCTION "{SCHEMA}".wake_relay()')


def _claim_columns() -> list[sa.Column]:
    return [
        sa.Column("due_at", sa.DateTime(timezone=True), server_default=sa.func.now()),
        sa.Column("lease_until", sa.DateTime(timezone=True)),
        sa.Column("lease_token", sa.Text),
    ]
