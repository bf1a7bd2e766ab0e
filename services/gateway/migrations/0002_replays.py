"""Plans of endpoints beside those of jobs, the optimizer's own plan ids, and replays."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

SCHEMA = "gateway"


def upgrade() -> None:
    # Every plan that was stored before this revision is a job's.
    op.add_column("plans", sa.Column("kind", sa.Text, nullable=False, server_default="finetune"), schema=SCHEMA)
    op.alter_column("plans", "kind", server_default=None, schema=SCHEMA)
    op.add_column("plans", sa.Column("plan_id", sa.Text), schema=SCHEMA)
    op.execute(f"""UPDATE "{SCHEMA}".plans SET plan_id = nullif(body->>'plan_id', '')""")  # noqa: S608 (a constant)
    op.create_index("ix_plans_plan_id", "plans", ["plan_id"], schema=SCHEMA)
    op.create_index("ix_plans_created_at", "plans", ["created_at"], schema=SCHEMA)
    op.create_table(
        "replays",
        sa.Column("replay_id", sa.Text, primary_key=True),
        sa.Column("tenant_id", sa.Text, nullable=False),
        sa.Column("plan_id", sa.Text, nullable=False),
        sa.Column("policy", sa.Text, nullable=False),
        sa.Column("status", sa.Text, nullable=False),
        sa.Column("body", JSONB, nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False, index=True),
        schema=SCHEMA,
    )


def downgrade() -> None:
    op.drop_table("replays", schema=SCHEMA)
    op.drop_index("ix_plans_created_at", "plans", schema=SCHEMA)
    op.drop_index("ix_plans_plan_id", "plans", schema=SCHEMA)
    op.drop_column("plans", "plan_id", schema=SCHEMA)
    op.drop_column("plans", "kind", schema=SCHEMA)
