"""A database for each run, copied from one whose schemas stand."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
from sqlalchemy.engine import make_url

from sskai.contract import new_id
from sskai.database import migrate

SCHEMAS = ("gateway", "scheduler", "trainer", "monitor")


class Databases:
    """`server_url`: of a server, where we may create databases."""

    def __init__(self, server_url: str) -> None:
        self._url = make_url(server_url)
        self._template = new_id("template")
        self._run(f'CREATE DATABASE "{self._template}"')
        for schema in SCHEMAS:
            migrate(self._of(self._template), schema)

    @contextmanager
    def fresh(self) -> Iterator[str]:
        """The URL of an empty one, dropped afterwards."""
        name = new_id("run")
        self._run(f'CREATE DATABASE "{name}" TEMPLATE "{self._template}"')
        try:
            yield self._of(name)
        finally:
            self._run(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')

    def close(self) -> None:
        self._run(f'DROP DATABASE IF EXISTS "{self._template}" WITH (FORCE)')

    def _of(self, name: str) -> str:
        return self._url.set(database=name).render_as_string(hide_password=False)

    def _run(self, statement: str) -> None:
        plain = self._url.set(drivername="postgresql").render_as_string(hide_password=False)
        with psycopg.connect(plain, autocommit=True) as connection:
            connection.execute(statement)  # type: ignore[call-overload]
