"""Projects, people, sessions; what a key may do and for how long."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import ARRAY

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None

SCHEMA = "gateway"
DEVELOPER = "ARRAY['read', 'infer', 'write']"
EVERYTHING = "ARRAY['read', 'infer', 'write', 'admin']"


def text(name: str, **options: object) -> sa.Column:
    return sa.Column(name, sa.Text(), **{"nullable": False, **options})


def moment(name: str, **options: object) -> sa.Column:
    return sa.Column(name, sa.DateTime(timezone=True), **{"nullable": False, **options})


def upgrade() -> None:
    op.create_table(
        "tenants",
        text("tenant_id", primary_key=True),
        text("name"),
        moment("created_at"),
        sa.Column("audit_seq", sa.BigInteger(), server_default="0", nullable=False),
        text("audit_sha256", server_default=sa.text("''")),
        schema=SCHEMA,
    )
    op.create_table(
        "users",
        text("user_id", primary_key=True),
        text("issuer"),
        text("subject"),
        text("email"),
        text("name"),
        moment("created_at"),
        sa.UniqueConstraint("issuer", "subject"),
        schema=SCHEMA,
    )
    op.create_table(
        "members",
        text("member_id", primary_key=True),
        text("tenant_id"),
        text("email", index=True),
        text("name"),
        text("role"),
        text("user_id", nullable=True, index=True),
        moment("created_at"),
        sa.UniqueConstraint("tenant_id", "email"),
        schema=SCHEMA,
    )
    op.create_table(
        "sessions",
        text("session_id", primary_key=True),
        text("token_sha256", unique=True),
        text("user_id", nullable=True),
        text("key_id", nullable=True),
        text("tenant_id"),
        moment("created_at"),
        moment("expires_at", index=True),
        moment("ends_at"),
        schema=SCHEMA,
    )
    op.create_table(
        "links",
        text("token_sha256", primary_key=True),
        text("tenant_id"),
        text("key_id"),
        moment("expires_at", index=True),
        schema=SCHEMA,
    )
    op.alter_column("keys", "admin", new_column_name="operator", schema=SCHEMA)
    # What keys could do before there were scopes, they can do still.
    op.add_column(
        "keys", sa.Column("scopes", ARRAY(sa.Text()), server_default=sa.text(DEVELOPER), nullable=False), schema=SCHEMA
    )
    op.execute(f'UPDATE "{SCHEMA}".keys SET scopes = {EVERYTHING}')  # noqa: S608 (no user input)
    op.alter_column("keys", "scopes", server_default=None, schema=SCHEMA)
    op.add_column("keys", text("created_by", server_default=sa.text("''")), schema=SCHEMA)
    op.add_column("keys", moment("expires_at", nullable=True), schema=SCHEMA)
    op.add_column("keys", moment("last_used_at", nullable=True), schema=SCHEMA)
    # Projects were known by their keys alone.
    op.execute(
        f"""
        INSERT INTO "{SCHEMA}".tenants (tenant_id, name, created_at)
        SELECT tenant_id, CASE tenant_id WHEN 'tenant_default' THEN 'Default' ELSE substr(tenant_id, 8) END, created_at
        FROM (SELECT tenant_id, min(created_at) AS created_at FROM "{SCHEMA}".keys GROUP BY tenant_id
              UNION SELECT 'tenant_default', now()
              WHERE NOT EXISTS (SELECT FROM "{SCHEMA}".keys WHERE tenant_id = 'tenant_default')) AS known
        """  # noqa: S608 (no user input)
    )


def downgrade() -> None:
    for column in ("last_used_at", "expires_at", "created_by", "scopes"):
        op.drop_column("keys", column, schema=SCHEMA)
    op.alter_column("keys", "operator", new_column_name="admin", schema=SCHEMA)
    for table in ("links", "sessions", "members", "users", "tenants"):
        op.drop_table(table, schema=SCHEMA)
