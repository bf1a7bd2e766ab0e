"""The event log is read by subject, too: an endpoint's loop."""

from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

SCHEMA = "gateway"


def upgrade() -> None:
    columns = ["tenant_id", "subject", "id"]
    op.create_index("ix_events_tenant_id_subject_id", "events", columns, schema=SCHEMA)


def downgrade() -> None:
    op.drop_index("ix_events_tenant_id_subject_id", "events", schema=SCHEMA)
