"""Files in parts, OpenAI-shaped jobs, and objects that are to go."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

from services.gateway.rowsecurity import isolate

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None

SCHEMA = "gateway"


def words(name: str, *, nullable: bool = False, empty: bool = False, **options: bool) -> sa.Column[sa.Text]:
    default = sa.text("''") if empty else None
    return sa.Column(name, sa.Text(), nullable=nullable, server_default=default, **options)


def moment(name: str, *, nullable: bool = True, index: bool = False) -> sa.Column[sa.DateTime]:
    return sa.Column(name, sa.DateTime(timezone=True), nullable=nullable, index=index)


def claimable() -> list[sa.Column]:
    return [
        sa.Column("due_at", sa.DateTime(timezone=True), server_default=sa.func.now(), index=True),
        moment("lease_until"),
        words("lease_token", nullable=True),
    ]


def upgrade() -> None:
    op.create_table(
        "uploads",
        sa.Column("upload_id", sa.Text(), primary_key=True),
        words("tenant_id", index=True),
        words("name"),
        words("filename"),
        words("mime_type"),
        sa.Column("bytes", sa.BigInteger(), nullable=False),
        sa.Column("part_bytes", sa.BigInteger(), nullable=False),
        words("key"),
        words("multipart_id", nullable=True),
        words("state"),
        sa.Column("next_part", sa.Integer(), nullable=False),
        sa.Column("parts", JSONB()),
        words("md5", empty=True),
        words("dataset_id", nullable=True),
        sa.Column("problem", JSONB()),
        sa.Column("tries", sa.Integer(), server_default=sa.text("0"), nullable=False),
        words("traceparent", nullable=True),
        moment("created_at", nullable=False),
        moment("expires_at", nullable=False),
        moment("ended_at", index=True),
        *claimable(),
        schema=SCHEMA,
    )
    op.create_table(
        "fine_tunes",
        sa.Column("job_id", sa.Text(), primary_key=True),
        words("tenant_id"),
        sa.Column("request", JSONB(), nullable=False),
        sa.Column("deploy", sa.Boolean(), nullable=False),
        words("endpoint_id", nullable=True),
        words("refused", empty=True),
        schema=SCHEMA,
    )
    op.create_index("ix_fine_tunes_tenant_id_job_id", "fine_tunes", ["tenant_id", "job_id"], schema=SCHEMA)
    op.create_table(
        "purges",
        sa.Column("key", sa.Text(), primary_key=True),
        words("tenant_id"),
        words("model_id", empty=True),
        sa.Column("version", sa.Integer(), server_default=sa.text("0"), nullable=False),
        moment("asked_at", nullable=False),
        *claimable(),
        schema=SCHEMA,
    )
    isolate(op, "uploads", "upload_id")
    isolate(op, "fine_tunes", "job_id")
    isolate(op, "purges", "key")


def downgrade() -> None:
    for table in ("purges", "fine_tunes", "uploads"):
        op.drop_table(table, schema=SCHEMA)
