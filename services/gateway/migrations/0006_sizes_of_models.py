"""How large an uploaded model is."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

SCHEMA = "gateway"


def upgrade() -> None:
    for name in ("parameters", "bytes"):
        op.add_column("models", sa.Column(name, sa.BigInteger, nullable=False, server_default="0"), schema=SCHEMA)


def downgrade() -> None:
    for name in ("parameters", "bytes"):
        op.drop_column("models", name, schema=SCHEMA)
