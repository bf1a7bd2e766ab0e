"""What the migrations make is what the models say, for every service; and they can be run by many at once."""

from __future__ import annotations

import asyncio
import importlib
import importlib.util

import psycopg
import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import create_engine
from sqlalchemy.engine import make_url

from sskai import contract
from sskai.database import SERVICES, migrate, plain_url


@pytest.mark.parametrize("service", SERVICES)
async def test_models_and_migrations_agree(service: str, postgres: str) -> None:
    name = contract.new_id("test")
    plain = plain_url(postgres)
    async with await psycopg.AsyncConnection.connect(plain, autocommit=True) as connection:
        await connection.execute(f'CREATE DATABASE "{name}"')
    url = make_url(postgres).set(database=name).render_as_string(hide_password=False)
    await asyncio.gather(*(asyncio.to_thread(migrate, url, service) for _ in range(3)))
    tables = "tables" if importlib.util.find_spec(f"services.{service}.tables") else "store"
    metadata = importlib.import_module(f"services.{service}.{tables}").Base.metadata
    engine = create_engine(url)
    with engine.connect() as connection:
        context = MigrationContext.configure(
            connection,
            opts={
                "include_schemas": True,
                "include_name": lambda named, kind, _: kind != "schema" or named == service,
                "include_object": lambda _object, named, kind, *_: not (kind == "table" and named == "alembic_version"),
                "compare_type": True,
            },
        )
        differences = compare_metadata(context, metadata)
    engine.dispose()
    assert not differences


def test_a_schema_of_a_newer_release_is_left_as_it_is(postgres: str) -> None:
    name = contract.new_id("test")
    plain = plain_url(postgres)
    with psycopg.connect(plain, autocommit=True) as connection:
        connection.execute(f'CREATE DATABASE "{name}"')
    url = make_url(postgres).set(database=name)
    migrate(url.render_as_string(hide_password=False), "trainer")
    with psycopg.connect(url.set(drivername="postgresql").render_as_string(hide_password=False)) as connection:
        connection.execute("UPDATE trainer.alembic_version SET version_num = 'of-tomorrow'")
        connection.commit()
        migrate(url.render_as_string(hide_password=False), "trainer")
        assert connection.execute("SELECT version_num FROM trainer.alembic_version").fetchall() == [("of-tomorrow",)]
