"""The event log is read by type, too: the newest of each for the first page."""

from alembic import op

revision = "0017"
down_revision = "0016"
branch_labels = None
depends_on = None

SCHEMA = "gateway"


def upgrade() -> None:
    op.create_index("ix_events_tenant_id_type_id", "events", ["tenant_id", "type", "id"], schema=SCHEMA)


def downgrade() -> None:
    op.drop_index("ix_events_tenant_id_type_id", "events", schema=SCHEMA)
