"""Movable names of a model's versions; keys whose words are not told."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

SCHEMA = "gateway"


def upgrade() -> None:
    op.create_table(
        "aliases",
        sa.Column("tenant_id", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("alias", sa.Text(), nullable=False),
        sa.Column("model_id", sa.Text(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=True),
        sa.Column("moved_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("tenant_id", "name", "alias", name="pk_aliases"),
        schema=SCHEMA,
    )
    sampled = sa.Column("sampled", sa.Boolean(), nullable=False, server_default=sa.text("true"))
    op.add_column("keys", sampled, schema=SCHEMA)


def downgrade() -> None:
    op.drop_column("keys", "sampled", schema=SCHEMA)
    op.drop_table("aliases", schema=SCHEMA)
