"""Where lives are lived, one after the other: a database as migrations leave it, and the services' doors to it.

A database, an event loop or a connection for each life would cost more than the life itself: every connection reads the
catalogue, and every engine compiles its statements, anew.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from functools import cached_property
from typing import Any, TypeVar

import psycopg
from psycopg import sql
from sqlalchemy.engine import URL, make_url

from sskai.contract import new_id
from sskai.database import Database, migrate

SCHEMAS = ("gateway", "scheduler", "trainer", "monitor")
# Of a life in which something hung or was killed a transaction may still be open, and hold locks.
LEFT_OPEN = """
SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity
WHERE datname = %s AND pid <> pg_backend_pid() AND state <> 'idle'
"""
TABLES = """
SELECT schemaname, tablename FROM pg_tables
WHERE schemaname = ANY(%s) AND tablename <> 'alembic_version' ORDER BY 1, 2
"""
T = TypeVar("T")


class Stage:
    """`server_url`: of a server, as its superuser: triggers and foreign keys are passed over when it is emptied."""

    def __init__(self, server_url: str) -> None:
        server = make_url(server_url)
        self._server, self._name = _text(server.set(drivername="postgresql")), new_id("run")
        with psycopg.connect(self._server, autocommit=True) as connection:
            connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(self._name)))
        url = _text(server.set(database=self._name))
        for schema in SCHEMAS:
            migrate(url, schema)
        self.databases = {schema: Database(url, schema, pool_size=5) for schema in SCHEMAS}
        self._runner = asyncio.Runner()
        self._connection = psycopg.connect(_text(server.set(drivername="postgresql", database=self._name)))
        self._tables = [sql.Identifier(*names) for names in self._connection.execute(TABLES, [list(SCHEMAS)])]
        # What migrations write, the default tenant say, is there again before each life.
        self._written = [(self._tables[n], sql.Identifier(f"written_{n}")) for n in self._filled()]
        for table, kept in self._written:
            self._connection.execute(sql.SQL("CREATE TABLE {} AS TABLE {}").format(kept, table))
        # Neither triggers nor foreign keys: some tables are only ever added to.
        self._connection.execute("SET session_replication_role = replica")
        self._connection.commit()

    def live(self, life: Coroutine[Any, Any, T]) -> T:
        """To its end, on a database as migrations leave it."""
        with self._connection.transaction():
            self._connection.execute(LEFT_OPEN, [self._name])
            for n in self._filled():
                self._connection.execute(sql.SQL("DELETE FROM {}").format(self._tables[n]))
            for table, kept in self._written:
                self._connection.execute(sql.SQL("INSERT INTO {} TABLE {}").format(table, kept))
        return self._runner.run(life)

    def close(self) -> None:
        for database in self.databases.values():
            self._runner.run(database.close())
        self._runner.close()
        self._connection.close()
        with psycopg.connect(self._server, autocommit=True) as connection:
            connection.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(self._name)))

    def _filled(self) -> list[int]:
        """Which of the tables have rows."""
        return [n for (n,) in self._connection.execute(self._rows)]

    @cached_property
    def _rows(self) -> sql.Composed:
        return sql.SQL(" UNION ALL ").join(
            sql.SQL("SELECT {} WHERE EXISTS (SELECT FROM {})").format(sql.Literal(n), table)
            for n, table in enumerate(self._tables)
        )


def _text(url: URL) -> str:
    return url.render_as_string(hide_password=False)
