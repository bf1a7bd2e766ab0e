"""Fresh databases by the dozen: each service's migrations run once, and its schema is copied for every test."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import psycopg
import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from sqlalchemy.engine import make_url

from sskai import contract, telemetry
from sskai.database import Database, migrate, plain_url

TEMPLATES: dict[str, str] = {}


@pytest.fixture(scope="session", autouse=True)
def traced() -> None:
    """Spans are drawn as in a service: none of them may find its way into a state that events make."""
    trace.set_tracer_provider(TracerProvider(id_generator=telemetry.OwnIds()))


@pytest.fixture
def copy_of(postgres: str) -> Callable[[str], AbstractAsyncContextManager[Database]]:
    """`async with copy_of("gateway") as database:` a fresh one with the service's schema."""

    @asynccontextmanager
    async def copied(service: str) -> AsyncIterator[Database]:
        url, name = make_url(postgres), contract.new_id("test")
        plain = plain_url(postgres)
        async with await psycopg.AsyncConnection.connect(plain, autocommit=True) as server:
            if service not in TEMPLATES:
                template = contract.new_id("template")
                await server.execute(f'CREATE DATABASE "{template}"')
                migrate(url.set(database=template).render_as_string(hide_password=False), service)
                TEMPLATES[service] = template
            await server.execute(f'CREATE DATABASE "{name}" TEMPLATE "{TEMPLATES[service]}"')
            await server.execute(f'ALTER DATABASE "{name}" SET synchronous_commit = off')
        database = Database(url.set(database=name).render_as_string(hide_password=False), service, pool_size=5)
        try:
            yield database
        finally:
            await database.close()
            async with await psycopg.AsyncConnection.connect(plain, autocommit=True) as server:
                await server.execute(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')

    return copied
