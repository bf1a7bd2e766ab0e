"""PostgreSQL through SQLAlchemy: a schema per service, short transactions, Alembic migrations without ceremony.

`python -m sskai.database migrate all|NAME` brings schemas up to date; every service does it for itself at start, too.
"""

from __future__ import annotations

import argparse
import importlib.util
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from pathlib import Path

from alembic.config import Config
from alembic.runtime.environment import EnvironmentContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, MetaData, create_engine, text
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker, create_async_engine

from sskai import delivery

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


class Database:
    """One service's door to PostgreSQL. What is told in a transaction goes out only if the transaction commits.

    `around` surrounds the work of every transaction, inside of it: what it does at its end commits with the work.
    """

    around: Callable[[AsyncSession], AbstractAsyncContextManager[None]]

    def __init__(self, url: str, schema: str, *, pool_size: int = 10) -> None:
        self.url = url
        self.schema = schema
        self.around = _alone
        # A query that hangs would hold its locks: 30 s is far above anything the services do on purpose.
        options = "-c timezone=UTC -c statement_timeout=30000 -c idle_in_transaction_session_timeout=60000"
        self._engine = create_async_engine(
            url,
            pool_size=pool_size,
            max_overflow=pool_size,
            pool_timeout=10,
            pool_pre_ping=True,
            connect_args={"options": options, "connect_timeout": 5},
        )
        self._sessions = async_sessionmaker(self._engine, expire_on_commit=False, info={"schema": schema})

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[AsyncSession]:
        """Commit at the end, roll back on any exception. Keep the network out of it."""
        async with self._sessions() as session, session.begin(), self.around(session):
            yield session

    @asynccontextmanager
    async def snapshot(self) -> AsyncIterator[AsyncSession]:
        """A transaction whose questions are all answered by one moment's state (REPEATABLE READ)."""
        async with self._sessions() as session, session.begin():
            await session.connection(execution_options={"isolation_level": "REPEATABLE READ"})
            async with self.around(session):
                yield session

    async def ping(self) -> None:
        """Raise if the database does not answer."""
        async with self._engine.connect() as connection:
            await connection.execute(text("SELECT 1"))

    async def close(self) -> None:
        await self._engine.dispose()


def _alone(_session: AsyncSession) -> AbstractAsyncContextManager[None]:
    return nullcontext()


def migrations_folder(service: str) -> Path:
    """Where a service keeps its revisions, found without importing the service."""
    found = importlib.util.find_spec(f"services.{service}")
    if found is None or not found.submodule_search_locations:
        raise LookupError(f"no package services.{service}: known services are {', '.join(SERVICES)}")
    return Path(next(iter(found.submodule_search_locations))) / "migrations"


def migrate(url: str, service: str, revision: str = "head") -> None:
    """Bring the schema of one service to `revision`. Safe to call by many processes at once: they take turns."""
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
            _run(config, script, connection, service, revision)
    finally:
        engine.dispose()


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
