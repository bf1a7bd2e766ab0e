"""What live feeds tell beside prices: facts of machine types, placement scores, and how fresh each feed is."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0003"
down_revision = "0002"
SCHEMA = "optimizer"


def upgrade() -> None:
    op.create_table(
        "machine_facts",
        sa.Column("instance_type", sa.Text, primary_key=True),
        sa.Column("facts", JSONB, nullable=False),
        sa.Column("source", sa.Text, nullable=False),
        sa.Column("seen_at", sa.DateTime(timezone=True), nullable=False),
        schema=SCHEMA,
    )
    op.create_table(
        "placement_scores",
        sa.Column("offer", sa.Text, primary_key=True),
        sa.Column("score", sa.Integer, nullable=False),
        sa.Column("seen_at", sa.DateTime(timezone=True), nullable=False),
        schema=SCHEMA,
    )
    op.create_table(
        "feeds",
        sa.Column("region", sa.Text, primary_key=True),
        sa.Column("kind", sa.Text, primary_key=True),
        sa.Column("refreshed_at", sa.DateTime(timezone=True)),
        sa.Column("facts", sa.Integer, nullable=False),
        sa.Column("error", sa.Text),
        sa.Column("due_at", sa.DateTime(timezone=True), server_default=sa.func.now(), index=True),
        sa.Column("lease_until", sa.DateTime(timezone=True)),
        sa.Column("lease_token", sa.Text),
        schema=SCHEMA,
    )


def downgrade() -> None:
    for table in ("feeds", "placement_scores", "machine_facts"):
        op.drop_table(table, schema=SCHEMA)
