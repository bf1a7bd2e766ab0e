"""Requests run as a role of their own, which sees the rows of one tenant; what they change is noted."""

from alembic import op

from services.gateway import rowsecurity
from services.gateway.rowsecurity import ROLE, SCHEMA, grant, isolate, note_changes

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None

# Tables of tenants, and by what their rows are named.
ISOLATED = {
    "keys": "key_id",
    "members": "member_id",
    "datasets": "dataset_id",
    "models": "model_id",
    "aliases": "name",
    "jobs": "job_id",
    "spends": "job_id",
    "plans": "id",
    "replays": "replay_id",
    "endpoints": "endpoint_id",
    "receipts": "job_id",
    "budgets": "budget_id",
    "retrains": "job_id",
    "traffic": "endpoint_id",
    "cuts": "retrain_id",
    "webhooks": "webhook_id",
    "deliveries": "webhook_id",
    "events": "subject",
    "marks": "job_id",
}


def upgrade() -> None:
    rowsecurity.create_role(op)
    for table, id_column in ISOLATED.items():
        isolate(op, table, id_column)
    # Answers to requests that may be sent again say nothing new.
    isolate(op, "answers", "", noted=False)
    # Entries of the audit log are written by a function of the owner's alone, and so is their end.
    isolate(op, "audit", "", privileges="SELECT", noted=False)
    isolate(op, "tenants", "tenant_id", privileges="SELECT, UPDATE (name)", noted=False)
    note_changes(op, "tenants", "tenant_id", of="name")
    # Sessions and links say who somebody is: looked up by the owner. A key may make a link.
    isolate(op, "sessions", "session_id", privileges="SELECT")
    isolate(op, "links", "key_id", privileges="INSERT")
    grant(op, "outbox", "INSERT, SELECT (id)")
    note_changes(op, "outbox")
    for market in ("notices", "prices"):
        grant(op, market, "SELECT")
    op.execute(
        f"""
        DO $$ BEGIN
            REVOKE ALL ON FUNCTION "{SCHEMA}".write_audit FROM PUBLIC;
            IF EXISTS (SELECT FROM pg_roles WHERE rolname = '{ROLE}') THEN
                GRANT EXECUTE ON FUNCTION "{SCHEMA}".write_audit TO {ROLE};
                GRANT USAGE ON ALL SEQUENCES IN SCHEMA "{SCHEMA}" TO {ROLE};
            END IF;
        END $$
        """
    )


def downgrade() -> None:
    for table in (*ISOLATED, "answers", "audit", "tenants", "sessions", "links"):
        op.execute(f'DROP POLICY of_tenant ON "{SCHEMA}".{table}')
        op.execute(f'ALTER TABLE "{SCHEMA}".{table} DISABLE ROW LEVEL SECURITY')
    for table in (*ISOLATED, "tenants", "sessions", "links", "outbox"):
        op.execute(f'DROP TRIGGER note_change ON "{SCHEMA}".{table}')
    op.execute(
        f"""
        DO $$ BEGIN
            IF EXISTS (SELECT FROM pg_roles WHERE rolname = '{ROLE}') THEN
                REVOKE ALL ON ALL TABLES IN SCHEMA "{SCHEMA}" FROM {ROLE};
                REVOKE ALL ON ALL SEQUENCES IN SCHEMA "{SCHEMA}" FROM {ROLE};
                REVOKE ALL ON SCHEMA "{SCHEMA}" FROM {ROLE};
            END IF;
        END $$
        """  # noqa: S608 (no user input)
    )
