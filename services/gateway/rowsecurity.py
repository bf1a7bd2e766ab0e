"""What migrations do for a new table: rows by tenant, and notes of changes for the audit log.

Requests run as ROLE, which owns nothing: it sees the rows of the tenant in `sskai.tenant` (set by `asking.py`) and may
do to a table what its migration grants. A table without a grant is closed to requests.
"""

from __future__ import annotations

from typing import Any

SCHEMA = "gateway"
ROLE = "sskai_gateway_requests"
EVERYTHING = "SELECT, INSERT, UPDATE, DELETE"


def isolate(op: Any, table: str, id_column: str, *, privileges: str = EVERYTHING, noted: bool = True) -> None:
    """For a table with a `tenant_id`: requests see their tenant's rows only, and what they change is noted.

    `id_column` names what was changed where a request's path does not.
    """
    of_tenant = "tenant_id = current_setting('sskai.tenant', true)"
    op.execute(f'ALTER TABLE "{SCHEMA}".{table} ENABLE ROW LEVEL SECURITY')
    op.execute(f'CREATE POLICY of_tenant ON "{SCHEMA}".{table} USING ({of_tenant}) WITH CHECK ({of_tenant})')
    grant(op, table, privileges)
    if noted:
        note_changes(op, table, id_column)


def grant(op: Any, table: str, privileges: str) -> None:
    """Lets requests do so much, if there is a role for them."""
    op.execute(
        f"""
        DO $$ BEGIN
            IF EXISTS (SELECT FROM pg_roles WHERE rolname = '{ROLE}') THEN
                GRANT {privileges} ON "{SCHEMA}".{table} TO {ROLE};
            END IF;
        END $$
        """
    )


def note_changes(op: Any, table: str, id_column: str = "", *, of: str = "") -> None:
    """Rows that a request changes are hashed for its entry in the audit log; `of`: when such a column changes."""
    events = f"INSERT OR DELETE OR UPDATE{f' OF {of}' if of else ''}"
    op.execute(
        f"""
        CREATE TRIGGER note_change AFTER {events} ON "{SCHEMA}".{table}
        FOR EACH ROW WHEN (current_setting('sskai.audited', true) = 'on')
        EXECUTE FUNCTION "{SCHEMA}".note_change('{id_column}')
        """
    )


def create_role(op: Any) -> None:
    """Roles are the whole server's: another database may make this one just now. Who may not make roles has none."""
    op.execute(
        f"""
        DO $$ BEGIN
            IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = '{ROLE}') THEN
                CREATE ROLE {ROLE} NOLOGIN;
            END IF;
        EXCEPTION
            WHEN duplicate_object OR unique_violation THEN NULL;
            WHEN insufficient_privilege THEN RAISE WARNING 'no role {ROLE}: requests will run as the owner';
        END $$
        """
    )
    op.execute(
        f"""
        DO $$ BEGIN
            IF EXISTS (SELECT FROM pg_roles WHERE rolname = '{ROLE}') THEN
                IF NOT (SELECT rolsuper FROM pg_roles WHERE rolname = current_user) THEN
                    EXECUTE format('GRANT {ROLE} TO %I', current_user);
                END IF;
                GRANT USAGE ON SCHEMA "{SCHEMA}" TO {ROLE};
            END IF;
        EXCEPTION
            WHEN unique_violation OR internal_error THEN NULL;
            WHEN insufficient_privilege THEN RAISE WARNING 'may not become {ROLE}: requests will run as the owner';
        END $$
        """  # noqa: S608 (no user input)
    )
