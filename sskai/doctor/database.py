"""The database: reachable, rights, migrations, row-level security, connections, outboxes and inboxes, its clock."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import datetime
from typing import Any

import psycopg
from alembic.config import Config
from alembic.script import ScriptDirectory
from alembic.util import CommandError
from sqlalchemy.engine import make_url

from sskai.database import POOL_SIZE, SERVICES, migrations_folder, plain_url
from sskai.delivery import backlog_query
from sskai.doctor import Finding, Findings, clock
from sskai.doctor.settings import Settings

OLDEST = 14
CONNECT_SECONDS = 5
OPTIONS = "-c statement_timeout=10000 -c timezone=UTC"
PER_PROCESS = 2 * POOL_SIZE + 1  # and the relay's own
TO_SPARE = 10
OUTBOX_SECONDS = 60
INBOX_ROWS = 50_000_000
IDLE_SECONDS = 60
WRAPAROUND = 1_000_000_000  # of 2^31 transactions, after which the server stops
Connection = psycopg.AsyncConnection[Any]


async def look(settings: Settings, now: Callable[[], datetime]) -> list[Finding]:
    said = Findings("database")
    url = make_url(settings.database_url.get_secret_value())
    shown = f"{url.database} at {url.host}:{url.port or 5432}"
    address = plain_url(settings.database_url.get_secret_value())
    try:
        connection = await psycopg.AsyncConnection.connect(
            address, autocommit=True, connect_timeout=CONNECT_SECONDS, options=OPTIONS
        )
    except psycopg.OperationalError as error:
        said.fail(
            "reachable",
            f"{shown}: {str(error).strip().splitlines()[0]}",
            "Start PostgreSQL, or mend SSKAI_DATABASE_URL (host, name, role and password).",
        )
        return said.found
    async with connection:
        await _version(said, connection, shown)
        started = time.monotonic()
        told: datetime = (await _row(connection, "SELECT clock_timestamp()"))[0]
        clock.judge(said, "clock", told, now(), exact_seconds=time.monotonic() - started)
        schemas = await _schemas(connection)
        await _rights(said, connection, schemas)
        for service in SERVICES:
            await _migrations(said, connection, service, schemas)
        await _row_security(said, connection)
        await _connections(said, connection)
        await _delivery(said, connection, schemas)
        await _age(said, connection)
    return said.found


async def _row(connection: Connection, query: str, *values: Any) -> Any:
    return await (await connection.execute(query, values)).fetchone()


async def _version(said: Findings, connection: Connection, shown: str) -> None:
    (number,) = await _row(connection, "SELECT current_setting('server_version_num')::int")
    says = f"PostgreSQL {number // 10000}.{number % 10000}, {shown}"
    if number // 10000 < OLDEST:
        said.fail("version", says, f"Upgrade to PostgreSQL {OLDEST} or newer.")
    else:
        said.ok("version", says)
    (readonly,) = await _row(
        connection, "SELECT pg_is_in_recovery() OR current_setting('transaction_read_only') = 'on'"
    )
    if readonly:
        said.fail(
            "writable",
            "it takes no writes: a replica, or set read-only",
            "Let SSKAI_DATABASE_URL name the primary; a full disk or a failover leaves a server so.",
        )


async def _schemas(connection: Connection) -> dict[str, bool]:
    """Those of the services that exist; whether this role may do everything there."""
    rows = await (
        await connection.execute(
            "SELECT nspname, pg_has_role(nspowner, 'USAGE') FROM pg_namespace WHERE nspname = ANY(%s)",
            (list(SERVICES),),
        )
    ).fetchall()
    return dict(rows)


async def _rights(said: Findings, connection: Connection, schemas: dict[str, bool]) -> None:
    role, create = await _row(connection, "SELECT current_user, has_database_privilege(current_database(), 'CREATE')")
    foreign = [name for name, ours in schemas.items() if not ours]
    if foreign:
        said.fail(
            "rights",
            f"{role} does not own the schemas {', '.join(foreign)}",
            f"Connect as their owner, or ALTER SCHEMA ... OWNER TO {role}, and its tables too.",
        )
    elif not create and len(schemas) < len(SERVICES):
        said.fail("rights", f"{role} may not create schemas here", f"GRANT CREATE ON DATABASE to {role}.")
    else:
        said.ok("rights", f"{role} owns what is there")


def revisions(service: str) -> tuple[str, list[str]]:
    """A service's newest revision, and all that this release knows, oldest first."""
    config = Config()
    folder = str(migrations_folder(service))
    config.set_main_option("script_location", folder)
    config.set_main_option("version_locations", folder)
    config.set_main_option("path_separator", "os")
    script = ScriptDirectory.from_config(config)
    head = script.get_current_head()
    assert head is not None, service
    return head, [one.revision for one in reversed(list(script.walk_revisions()))]


async def _migrations(said: Findings, connection: Connection, service: str, schemas: dict[str, bool]) -> None:
    check = f"migrations of {service}"
    try:
        head, known = revisions(service)
    except (LookupError, CommandError) as error:
        said.skip(check, f"this installation of sskai has none to compare with: {error}")
        return
    exists = service in schemas and (await _row(connection, "SELECT to_regclass(%s)", f"{service}.alembic_version"))[0]
    at = await _row(connection, f'SELECT version_num FROM "{service}".alembic_version') if exists else None  # noqa: S608
    if at is None:
        said.fail(
            check,
            "the schema is not there",
            f"Run `python -m sskai.database migrate {service}` (a starting service does it).",
        )
    elif at[0] == head:
        said.ok(check, f"at {head}")
    elif at[0] in known:
        said.fail(check, f"at {at[0]}, this release needs {head}", f"Run `python -m sskai.database migrate {service}`.")
    else:
        said.warn(
            check,
            f"at {at[0]}, newer than this release's {head}",
            "Finish the upgrade: this release runs beside the next one, and no longer than that.",
        )


async def _row_security(said: Findings, connection: Connection) -> None:
    """Tables with policies bind everybody but their owner: somebody else must be there, and we allowed to be it."""
    rows = await (
        await connection.execute(
            "SELECT n.nspname, count(*), count(*) FILTER (WHERE EXISTS (SELECT FROM aclexplode(c.relacl) AS a "
            "JOIN pg_roles AS r ON r.oid = a.grantee WHERE a.grantee <> c.relowner AND NOT r.rolbypassrls "
            "AND NOT r.rolsuper AND pg_has_role(r.oid, 'MEMBER') AND has_schema_privilege(r.oid, n.oid, 'USAGE'))) "
            "FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace "
            "WHERE c.relrowsecurity AND n.nspname = ANY(%s) GROUP BY 1",
            (list(SERVICES),),
        )
    ).fetchall()
    open_ = [f"{schema} ({tables - bound} of {tables} tables)" for schema, tables, bound in rows if bound < tables]
    if open_:
        said.warn(
            "row-level security",
            f"requests run as the owner, whom policies do not bind: {', '.join(open_)}",
            "Let an administrator make and grant the role of docs/guides/accounts.md, and repeat the grants.",
        )
    elif rows:
        said.ok("row-level security", f"{sum(one[1] for one in rows)} tables, by a role that owns nothing")
    else:
        said.skip("row-level security", "no table has policies yet")


async def _connections(said: Findings, connection: Connection) -> None:
    most, used, dead = await _row(
        connection,
        "SELECT current_setting('max_connections')::int - current_setting('superuser_reserved_connections')::int, "
        "count(*), count(*) FILTER (WHERE state LIKE 'idle in transaction%%' AND datname = current_database() "
        "AND clock_timestamp() - state_change > make_interval(secs => %s)) FROM pg_stat_activity "
        "WHERE backend_type = 'client backend'",
        IDLE_SECONDS,
    )
    needed = PER_PROCESS * len(SERVICES) + TO_SPARE
    says = f"{used} of {most} used; one replica of each service takes {needed} at most"
    if used > 0.9 * most:
        said.fail("connections", says, "Raise max_connections, or stop what else uses this server (pg_stat_activity).")
    elif most < needed:
        said.warn(
            "connections", says, f"Raise max_connections to {needed}, and by {PER_PROCESS} for each further replica."
        )
    else:
        said.ok("connections", says)
    if dead:
        said.warn(
            "dead connections",
            f"{dead} idle in a transaction for over a minute",
            "End them with pg_terminate_backend: they hold locks and keep tables from being cleaned.",
        )


async def _delivery(said: Findings, connection: Connection, schemas: dict[str, bool]) -> None:
    waiting, large = 0, []
    for service in (one for one in SERVICES if one in schemas):
        if (await _row(connection, "SELECT to_regclass(%s)", f"{service}.outbox"))[0] is None:
            continue
        count, age = await _row(connection, backlog_query(service))
        waiting += count
        if age > OUTBOX_SECONDS:
            said.fail(
                f"outbox of {service}",
                f"{count} events wait, the oldest for {age:.0f} s",
                "See docs/runbooks.md, SSKAIOutboxStuck: nothing is lost, and nobody hears of it.",
            )
        # An estimate: counting a large table takes minutes.
        (rows,) = await _row(
            connection, "SELECT reltuples::bigint FROM pg_class WHERE oid = to_regclass(%s)", f"{service}.inbox"
        )
        if rows > INBOX_ROWS:
            large.append(f"{service} {rows}")
    said.ok("outboxes", f"{waiting} events wait")
    if large:
        said.warn(
            "inboxes",
            f"rows: {', '.join(large)}",
            "Look why `forget_old_events` fails in that service's log; autovacuum must run.",
        )
    else:
        said.ok("inboxes", f"below {INBOX_ROWS} rows each")


async def _age(said: Findings, connection: Connection) -> None:
    (age,) = await _row(connection, "SELECT age(datfrozenxid) FROM pg_database WHERE datname = current_database()")
    if age > WRAPAROUND:
        said.fail(
            "vacuum",
            f"{age} transactions since the oldest row was frozen",
            "Run VACUUM (FREEZE) and find what keeps autovacuum from it (old transactions, slots).",
        )
    else:
        said.ok("vacuum", f"{age} transactions old, of 2,147,483,648")
