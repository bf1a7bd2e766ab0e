"""A database of its own for a rebuild, on the same server, and rows that go between it and the service's database."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import psycopg
from sqlalchemy.engine import make_url

from sskai import contract
from sskai.database import CONNECTION, Database, migrate, plain_url
from sskai.rebuilding.states import Connection

VARIABLE = "SSKAI_REBUILD_DATABASE_URL"
OPTIONS = "-c timezone=UTC -c lock_timeout=10000"  # and no limit of a statement's time: tables may be large


class ScratchError(Exception):
    """There is no database for the rebuild; says what to do."""


async def connect(url: str, *, autocommit: bool = False) -> Connection:
    """A connection of one's own."""
    return await psycopg.AsyncConnection.connect(
        plain_url(url), autocommit=autocommit, options=OPTIONS, connect_timeout=CONNECTION["connect_timeout"]
    )


@asynccontextmanager
async def scratch(url: str, service: str, given: str) -> AsyncIterator[Database]:
    """With the service's schema and no rows; dropped at the end. `given`: the URL of an empty database to use instead,
    where the service's account may not make one. Raises ScratchError."""
    if given:
        async with _filled(given, service) as database:
            yield database
        return
    name = contract.new_id(f"sskai_rebuild_{service}")
    async with await connect(url, autocommit=True) as server:
        try:
            await server.execute(f'CREATE DATABASE "{name}"'.encode())
        except psycopg.errors.InsufficientPrivilege as error:
            raise ScratchError(
                f"The service's account may not make databases: give it CREATEDB, or name an empty one by {VARIABLE}."
            ) from error
        try:
            # What a crash of the server takes from it, a rebuild makes again.
            await server.execute(f'ALTER DATABASE "{name}" SET synchronous_commit = off'.encode())
            beside = make_url(url).set(database=name).render_as_string(hide_password=False)
            async with _filled(beside, service) as database:
                yield database
        finally:
            await server.execute(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)'.encode())


@asynccontextmanager
async def _filled(url: str, service: str) -> AsyncIterator[Database]:
    async with await connect(url, autocommit=True) as connection:
        cursor = await connection.execute("SELECT 1 FROM pg_namespace WHERE nspname = %s", (service,))
        if await cursor.fetchone():
            raise ScratchError(f"The database for the rebuild has a schema {service} already: name an empty one.")
    database = Database(url, service, pool_size=2)
    try:
        await asyncio.to_thread(migrate, url, service)
        yield database
    finally:
        await database.close()
        async with await connect(url, autocommit=True) as connection:
            await connection.execute(f'DROP SCHEMA IF EXISTS "{service}" CASCADE'.encode())


async def copy(source: Connection, query: str, to: Connection, table: str, columns: list[str]) -> None:
    """The rows that the query gives, into a table. Generated numbers are taken over as well."""
    names = ", ".join(f'"{column}"' for column in columns)
    async with (
        source.cursor().copy(f"COPY ({query}) TO STDOUT (FORMAT binary)".encode()) as out,
        to.cursor().copy(f"COPY {table} ({names}) FROM STDIN (FORMAT binary)".encode()) as into,
    ):
        async for part in out:
            await into.write(bytes(part))
