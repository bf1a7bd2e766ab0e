"""PostgreSQL through SQLAlchemy: a schema per service, short transactions, Alembic migrations without ceremony.

`python -m sskai.database migrate all|NAME` brings schemas up to date; every service does it for itself at start, too.
"""

from __future__ import annotations

import argparse
import asyncio
import importlib.util
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from datetime import datetime
from pathlib import Path
from typing import Any

import psycopg
import structlog
from alembic.config import Config
from alembic.runtime.environment import EnvironmentContext
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, MetaData, create_engine, event, make_url, text
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.exc import DBAPIError, InvalidatePoolError, OperationalError
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker, create_async_engine
from sqlalchemy.pool import ConnectionPoolEntry, PoolProxiedConnection

from sskai import delivery, failpoints
from sskai.clock import DatabaseClock
from sskai.statements import EXECUTE

log = structlog.get_logger()

# A query that hangs would hold its locks: 30 s is far above anything the services do on purpose.
CONNECTION: Mapping[str, Any] = {
    "options": "-c timezone=UTC -c statement_timeout=30000 -c idle_in_transaction_session_timeout=60000",
    "connect_timeout": 5,
}
POOL_SIZE = 10  # of a process; as many again are opened when all are in use
TRUSTED_SECONDS = 1.0  # how long a connection may lie idle, and be taken for alive
_DRIVER = "driver"  # of a session's `info`: its connection without SQLAlchemy

SERVICES = ("gateway", "optimizer", "scheduler", "trainer", "inference", "monitor")

NAMING = {
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
    "fk": "fk_%(table_name)s_%(column_0_N_name)s",
    "pk": "pk_%(table_name)s",
}


def service_metadata(schema: str) -> MetaData:
    """The tables of one service: its own schema, with the inbox and outbox already in it.

    >>> class Base(DeclarativeBase):
    ...     metadata = service_metadata("scheduler")
    """
    metadata = MetaData(schema=schema, naming_convention=NAMING)
    delivery.add_tables(metadata)
    return metadata


def plain_url(url: str) -> str:
    """A database's URL without SQLAlchemy's name of a driver, as PostgreSQL's own clients take it."""
    return make_url(url).set(drivername="postgresql").render_as_string(hide_password=False)


def _away(problem: str) -> OperationalError:
    return OperationalError(problem, None, ConnectionError(problem))


@failpoints.boundary("database", _away)
class Database:
    """One service's door to PostgreSQL. What is told in a transaction goes out only if the transaction commits.

    `around` surrounds the work of every transaction, inside of it: what it does at its end commits with the work.
    """

    around: Callable[[AsyncSession], AbstractAsyncContextManager[None]]

    def __init__(self, url: str, schema: str, *, pool_size: int = POOL_SIZE) -> None:
        self.url = url
        self.schema = schema
        self.around = _alone
        self.clock = DatabaseClock()
        self.max_connections = 2 * pool_size
        self._engine = create_async_engine(
            url,
            pool_size=pool_size,
            max_overflow=self.max_connections - pool_size,
            pool_timeout=10,
            connect_args=CONNECTION,
        )
        self._broke_at = 0.0
        self._ping_what_lay_idle()
        info = {"schema": schema, EXECUTE: self._execute}
        self._sessions = async_sessionmaker(self._engine, expire_on_commit=False, info=info)

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[AsyncSession]:
        """Commit at the end, roll back on any exception. Keep the network out of it."""
        async with self._session() as session, self.around(session):
            yield session

    @asynccontextmanager
    async def snapshot(self) -> AsyncIterator[AsyncSession]:
        """A transaction whose questions are all answered by one moment's state (REPEATABLE READ)."""
        async with self._session() as session:
            await session.connection(execution_options={"isolation_level": "REPEATABLE READ"})
            async with self.around(session):
                yield session

    async def own_connection(self, *, waits_for_disk: bool = True) -> psycopg.AsyncConnection[Any]:
        """A connection outside of the pool, each of whose statements commits by itself: for who listens, or holds a
        lock for long. `waits_for_disk`: a commit that was answered outlives the server's crash."""
        connection = await psycopg.AsyncConnection.connect(plain_url(self.url), autocommit=True, **CONNECTION)
        if not waits_for_disk:
            await connection.execute("SET synchronous_commit = off")
        return connection

    @asynccontextmanager
    async def pooled_connection(self) -> AsyncIterator[psycopg.AsyncConnection[Any]]:
        """The same of the pool, for a moment."""
        async with self._engine.connect() as connection:
            await connection.execution_options(isolation_level="AUTOCOMMIT")
            driver = (await connection.get_raw_connection()).driver_connection
            assert isinstance(driver, psycopg.AsyncConnection)
            yield driver

    @failpoints.stays
    async def read_clock(self) -> None:
        """Set `clock` by what the server says now. Raises what a transaction raises."""
        async with self.transaction() as session:
            asked = time.monotonic()
            said: datetime = (await session.execute(text("SELECT clock_timestamp()"))).scalar_one()
            self.clock.set(said, asked)

    async def ping(self) -> None:
        """Raise if the database does not answer."""
        async with self._engine.connect() as connection:
            await connection.execute(text("SELECT 1"))

    @failpoints.stays
    def connections(self) -> int:
        """How many are in use now, of `max_connections`."""
        return int(self._engine.pool.checkedout())  # type: ignore[attr-defined]

    async def close(self) -> None:
        await self._engine.dispose()

    @asynccontextmanager
    async def _session(self) -> AsyncIterator[AsyncSession]:
        """As `async with sessions.begin()` has it, which needs a task and two switches of context more."""
        session = self._sessions()
        try:
            yield session
            await session.commit()
        except BaseException:
            await asyncio.shield(session.close())  # which rolls back
            raise
        session.sync_session.close()  # it has no connection any more

    async def _execute(self, session: AsyncSession, statement: str, values: Mapping[str, Any]) -> Sequence[Any]:
        """For `sskai.statements`: by the driver, in the session's transaction."""
        driver: psycopg.AsyncConnection[Any] | None = session.info.get(_DRIVER)
        if driver is None:
            connection = (await session.connection()).sync_connection
            assert connection is not None, "it was just made"
            driver = session.info[_DRIVER] = connection.connection.driver_connection
            assert driver is not None, "a connection that was handed out has one"
        try:
            cursor = await driver.execute(statement, values)
            assert cursor.pgresult is not None, "it was executed"
            return await cursor.fetchall() if cursor.pgresult.nfields else []
        except psycopg.Error as error:
            if driver.broken:
                self._broke_at = time.monotonic()
            raised = DBAPIError.instance(statement, None, error, psycopg.Error, connection_invalidated=driver.broken)
            raise raised from error

    def _ping_what_lay_idle(self) -> None:
        """A connection that nobody used for a while, or that lay idle when another broke, may be dead, and is tried
        before it is handed out.

        To try every one costs as much as a short transaction."""
        engine = self._engine.sync_engine

        @event.listens_for(engine, "checkin")
        def left(_connection: DBAPIConnection, record: ConnectionPoolEntry) -> None:
            record.info["idle_since"] = time.monotonic()

        @event.listens_for(engine, "checkout")
        def taken(connection: DBAPIConnection, record: ConnectionPoolEntry, _proxy: PoolProxiedConnection) -> None:
            now = time.monotonic()
            idle_since = record.info.get("idle_since", now)
            if now - idle_since < TRUSTED_SECONDS and idle_since >= self._broke_at:
                return
            try:
                engine.dialect.do_ping(connection)
            except engine.dialect.loaded_dbapi.Error as error:
                raise InvalidatePoolError from error  # the pool connects anew


def _alone(_session: AsyncSession) -> AbstractAsyncContextManager[None]:
    return nullcontext()


def migrations_folder(service: str) -> Path:
    """Where a service keeps its revisions, found without importing the service."""
    found = importlib.util.find_spec(f"services.{service}")
    if found is None or not found.submodule_search_locations:
        raise LookupError(f"no package services.{service}: known services are {', '.join(SERVICES)}")
    return Path(next(iter(found.submodule_search_locations))) / "migrations"


def migrate(url: str, service: str, revision: str = "head") -> None:
    """Bring the schema of one service to `revision`. Safe to call by many processes at once: they take turns.

    A schema of a newer release is left as it is: while an upgrade lasts, this release works beside that one, whose
    migrations only add (docs/operations/upgrade.md).
    """
    config = Config()
    config.set_main_option("script_location", str(migrations_folder(service)))
    config.set_main_option("version_locations", str(migrations_folder(service)))
    config.set_main_option("path_separator", "os")
    script = ScriptDirectory.from_config(config)
    engine = create_engine(url, connect_args={"connect_timeout": 5})
    try:
        with engine.begin() as connection:
            connection.execute(text("SELECT pg_advisory_xact_lock(hashtext(:name))"), {"name": f"migrate:{service}"})
            connection.execute(text(f'CREATE SCHEMA IF NOT EXISTS "{service}"'))
            if revision == "head" and (newer := _unknown(script, connection, service)):
                log.warning("the schema is of a newer release; left as it is", service=service, revisions=newer)
                return
            _run(config, script, connection, service, revision)
    finally:
        engine.dispose()


def _unknown(script: ScriptDirectory, connection: Connection, service: str) -> list[str]:
    """Revisions at which the schema is and of which this release has not heard."""
    context = MigrationContext.configure(connection, opts={"version_table_schema": service})
    known = {one.revision for one in script.walk_revisions()}
    return [revision for revision in context.get_current_heads() if revision not in known]


def _run(config: Config, script: ScriptDirectory, connection: Connection, service: str, revision: str) -> None:
    environment = EnvironmentContext(
        config,
        script,
        fn=lambda current, _context: script._upgrade_revs(revision, current),
        destination_rev=revision,
    )
    with environment:
        environment.configure(
            connection=connection,
            version_table_schema=service,
            transactional_ddl=True,
            target_metadata=MetaData(naming_convention=NAMING),
        )
        environment.run_migrations()


def main() -> None:
    from sskai.settings import Settings

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("command", choices=["migrate"])
    parser.add_argument("service", choices=[*SERVICES, "all"])
    arguments = parser.parse_args()
    url = Settings().database_url.get_secret_value()
    for service in SERVICES if arguments.service == "all" else (arguments.service,):
        migrate(url, service)
        print(f"{service}: up to date", flush=True)


if __name__ == "__main__":
    main()
