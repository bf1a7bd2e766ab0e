"""The audit log: who changed what, in a chain of hashes for each project."""

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None

SCHEMA = "gateway"


def text(name: str, **options: object) -> sa.Column:
    return sa.Column(name, sa.Text(), **{"nullable": False, **options})


def upgrade() -> None:
    op.create_table(
        "audit",
        text("tenant_id", primary_key=True),
        sa.Column("seq", sa.BigInteger(), primary_key=True, autoincrement=False),
        text("entry_id", unique=True),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        *(text(name) for name in ("actor_kind", "actor_id", "actor_name", "action", "target")),
        sa.Column("status", sa.Integer(), nullable=False),
        text("before_sha256", nullable=True),
        text("after_sha256", nullable=True),
        text("previous_sha256"),
        text("sha256"),
        schema=SCHEMA,
    )
    # Each row that a request changes is hashed into what was before and what is after; the first names the target. What
    # the request itself made was not there before.
    op.execute(
        f"""
        CREATE FUNCTION "{SCHEMA}".note_change() RETURNS trigger LANGUAGE plpgsql AS
        $$ DECLARE
            new_row jsonb := CASE TG_OP WHEN 'DELETE' THEN NULL ELSE to_jsonb(NEW) END;
            old_row jsonb := CASE TG_OP WHEN 'INSERT' THEN NULL ELSE to_jsonb(OLD) END;
            id text := coalesce(coalesce(new_row, old_row) ->> TG_ARGV[0], '');
            made text := current_setting('sskai.made');
        BEGIN
            IF TG_OP = 'INSERT' THEN
                PERFORM set_config('sskai.made', made || TG_TABLE_NAME || '/' || id || ' ', true);
            ELSIF strpos(made, TG_TABLE_NAME || '/' || id || ' ') = 0 THEN
                PERFORM set_config('sskai.before', encode(sha256(convert_to(
                    current_setting('sskai.before') || TG_TABLE_NAME || old_row::text, 'UTF8')), 'hex'), true);
            END IF;
            IF TG_OP <> 'DELETE' THEN
                PERFORM set_config('sskai.after', encode(sha256(convert_to(
                    current_setting('sskai.after') || TG_TABLE_NAME || new_row::text, 'UTF8')), 'hex'), true);
            END IF;
            IF id <> '' AND current_setting('sskai.target') = '' THEN
                PERFORM set_config('sskai.target', id, true);
            END IF;
            RETURN NULL;
        END $$
        """
    )
    # The end of the chain is the project's row: who writes an entry holds it until the commit, so entries take turns.
    op.execute(
        f"""
        CREATE FUNCTION "{SCHEMA}".write_audit(
            entry_id text, actor_kind text, actor_id text, actor_name text, action text, target text, status int,
            always boolean
        ) RETURNS void LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS
        $$ DECLARE
            tenant text := current_setting('sskai.tenant', true);
            before text := nullif(current_setting('sskai.before', true), '');
            after text := nullif(current_setting('sskai.after', true), '');
            what text := coalesce(nullif(target, ''), current_setting('sskai.target', true), '');
            previous text;
            number bigint;
            moment timestamptz;
            digest text;
        BEGIN
            IF before IS NULL AND after IS NULL AND NOT always THEN RETURN; END IF;
            SELECT audit_seq + 1, audit_sha256 INTO number, previous
            FROM "{SCHEMA}".tenants AS t WHERE t.tenant_id = tenant FOR UPDATE;
            IF NOT FOUND THEN RAISE EXCEPTION 'no project %', tenant; END IF;
            moment := clock_timestamp();
            digest := encode(sha256(convert_to(concat_ws(E'\\n',
                tenant, number, to_char(moment AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'),
                actor_kind, actor_id, actor_name, action, what, status,
                coalesce(before, ''), coalesce(after, ''), previous), 'UTF8')), 'hex');
            INSERT INTO "{SCHEMA}".audit VALUES (tenant, number, entry_id, moment, actor_kind, actor_id, actor_name,
                action, what, status, before, after, previous, digest);
            UPDATE "{SCHEMA}".tenants AS t SET audit_seq = number, audit_sha256 = digest WHERE t.tenant_id = tenant;
            PERFORM set_config('sskai.before', '', true), set_config('sskai.after', '', true),
                set_config('sskai.made', '', true);
        END $$
        """  # noqa: S608 (no user input)
    )


def downgrade() -> None:
    op.execute(f'DROP FUNCTION "{SCHEMA}".write_audit')
    op.execute(f'DROP FUNCTION "{SCHEMA}".note_change CASCADE')
    op.drop_table("audit", schema=SCHEMA)
