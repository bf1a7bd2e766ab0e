"""Keys, answers, datasets, models, read models of jobs, plans, endpoints and receipts, and the event log."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

from sskai.delivery import create_delivery_tables

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

SCHEMA = "gateway"
TABLES = (
    "keys",
    "answers",
    "datasets",
    "models",
    "jobs",
    "spends",
    "plans",
    "endpoints",
    "receipts",
    "retrains",
    "events",
)


def text(name: str, **options: object) -> sa.Column:
    return sa.Column(name, sa.Text, **{"nullable": False, **options})


def big(name: str) -> sa.Column:
    return sa.Column(name, sa.BigInteger, nullable=False)


def moment(name: str, **options: object) -> sa.Column:
    return sa.Column(name, sa.DateTime(timezone=True), **{"nullable": False, **options})


def upgrade() -> None:
    create_delivery_tables(op, SCHEMA)
    op.create_table(
        "keys",
        text("key_id", primary_key=True),
        text("tenant_id", index=True),
        text("name"),
        text("prefix", index=True),
        text("sha256"),
        sa.Column("admin", sa.Boolean, nullable=False),
        moment("created_at"),
        moment("revoked_at", nullable=True),
        schema=SCHEMA,
    )
    op.create_table(
        "answers",
        text("tenant_id", primary_key=True),
        text("idempotency_key", primary_key=True),
        text("request_sha256"),
        sa.Column("status", sa.Integer),
        sa.Column("body", JSONB),
        moment("created_at", index=True),
        schema=SCHEMA,
    )
    op.create_table(
        "datasets",
        text("dataset_id", primary_key=True),
        text("tenant_id"),
        text("name"),
        sa.Column("version", sa.Integer, nullable=False),
        text("uri"),
        text("format"),
        big("rows"),
        big("bytes"),
        text("sha256"),
        big("estimated_tokens"),
        moment("created_at"),
        sa.UniqueConstraint("tenant_id", "name", "version"),
        schema=SCHEMA,
    )
    op.create_table(
        "models",
        text("model_id", primary_key=True),
        sa.Column("version", sa.Integer, primary_key=True),
        text("tenant_id"),
        text("name"),
        text("origin"),
        text("base_model_id"),
        text("base_uri"),
        text("artifact_uri"),
        text("config_json"),
        text("method"),
        text("job_id"),
        text("dataset_uri"),
        sa.Column("eval_loss_before", sa.Float),
        sa.Column("eval_loss_after", sa.Float),
        moment("created_at"),
        sa.Index("ix_models_tenant_id_name", "tenant_id", "name"),
        schema=SCHEMA,
    )
    op.create_table(
        "jobs",
        text("job_id", primary_key=True),
        text("tenant_id"),
        text("name"),
        text("state"),
        sa.Column("spec", sa.LargeBinary),
        sa.Column("view", JSONB, nullable=False),
        big("spent_nano_usd"),
        big("on_demand_nano_usd"),
        text("trace_id"),
        moment("submitted_at", nullable=True),
        moment("updated_at"),
        sa.Index("ix_jobs_tenant_id_job_id", "tenant_id", "job_id"),
        schema=SCHEMA,
    )
    op.create_table(
        "spends",
        text("job_id", primary_key=True),
        sa.Column("interval", sa.Integer, primary_key=True),
        text("tenant_id"),
        big("amount_nano_usd"),
        schema=SCHEMA,
    )
    op.create_table(
        "plans",
        text("id", primary_key=True),
        text("tenant_id", index=True),
        text("job_id", index=True),
        sa.Column("preview", sa.Boolean, nullable=False),
        text("status"),
        sa.Column("body", JSONB, nullable=False),
        moment("created_at"),
        schema=SCHEMA,
    )
    op.create_table(
        "endpoints",
        text("endpoint_id", primary_key=True),
        text("tenant_id", index=True),
        text("name"),
        text("kind"),
        text("model"),
        text("model_id"),
        sa.Column("version", sa.Integer, nullable=False),
        sa.Column("sample_rate", sa.Float, nullable=False),
        text("state"),
        sa.Column("view", JSONB, nullable=False),
        moment("created_at"),
        sa.Index(
            "uq_endpoints_live_name",
            "tenant_id",
            "name",
            unique=True,
            postgresql_where=sa.text("state NOT IN ('deleting', 'deleted')"),
        ),
        schema=SCHEMA,
    )
    op.create_table(
        "receipts",
        text("job_id", primary_key=True),
        text("tenant_id", index=True),
        sa.Column("body", JSONB, nullable=False),
        moment("issued_at"),
        schema=SCHEMA,
    )
    op.create_table(
        "retrains",
        text("retrain_id", primary_key=True),
        text("tenant_id"),
        text("job_id"),
        schema=SCHEMA,
    )
    op.create_table(
        "events",
        sa.Column("id", sa.BigInteger, sa.Identity(), primary_key=True),
        text("tenant_id"),
        text("subject"),
        text("type"),
        sa.Column("event", JSONB, nullable=False),
        moment("at", index=True),
        sa.Index("ix_events_tenant_id_id", "tenant_id", "id"),
        schema=SCHEMA,
    )
    # Whoever waits for an event of a subject, in whichever replica, is woken when it commits.
    op.execute(
        f"""
        CREATE FUNCTION "{SCHEMA}".wake_readers() RETURNS trigger LANGUAGE plpgsql AS
        $$ BEGIN PERFORM pg_notify('{SCHEMA}_events', NEW.tenant_id || ' ' || NEW.subject); RETURN NULL; END $$
        """
    )
    op.execute(
        f"""
        CREATE TRIGGER wake_readers AFTER INSERT ON "{SCHEMA}".events
        FOR EACH ROW EXECUTE FUNCTION "{SCHEMA}".wake_readers()
        """
    )


def downgrade() -> None:
    for table in (*reversed(TABLES), "outbox", "inbox"):
        op.drop_table(table, schema=SCHEMA)
    for function in ("wake_readers", "wake_relay"):
        op.execute(f'DROP FUNCTION "{SCHEMA}".{function}()')
