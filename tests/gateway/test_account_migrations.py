"""Accounts come to an installation that has keys already, and to a database user who may not make roles."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import psycopg
from sqlalchemy import text
from sqlalchemy.engine import make_url

from services.gateway.asking import OWNER, Asking, Requests
from sskai.contract import new_id
from sskai.database import Database, migrate, plain_url
from tests.gateway.test_audit import SOMEBODY, answering


@asynccontextmanager
async def empty_database(server_url: str, *, owner: str = "") -> AsyncIterator[str]:
    """One without a schema; `owner`: a user who may do nothing but own it."""
    name, url = new_id("test"), make_url(server_url)
    plain = url.set(drivername="postgresql").render_as_string(hide_password=False)
    async with await psycopg.AsyncConnection.connect(plain, autocommit=True) as connection:
        if owner:
            await connection.execute(f"CREATE ROLE {owner} LOGIN PASSWORD 'x'")
            url = url.set(username=owner, password="x")
        await connection.execute(f'CREATE DATABASE "{name}"' + (f" OWNER {owner}" if owner else ""))
        yield url.set(database=name).render_as_string(hide_password=False)
        await connection.execute(f'DROP DATABASE "{name}" WITH (FORCE)')
        if owner:
            await connection.execute(f"DROP ROLE {owner}")


async def test_projects_that_had_keys_are_shown_and_their_keys_go_on(postgres: str) -> None:
    async with empty_database(postgres) as url:
        await asyncio.to_thread(migrate, url, "gateway", "0010")
        plain = plain_url(url)
        async with await psycopg.AsyncConnection.connect(plain, autocommit=True) as connection:
            for key_id, tenant_id, admin in (("key_1", "tenant_default", True), ("key_2", "tenant_acme", False)):
                await connection.execute(
                    "INSERT INTO gateway.keys (key_id, tenant_id, name, prefix, sha256, admin, created_at) "
                    "VALUES (%s, %s, 'ci', 'sskai_x', 'x', %s, now())",
                    (key_id, tenant_id, admin),
                )
        await asyncio.to_thread(migrate, url, "gateway")
        database = Database(url, "gateway")
        async with database.transaction() as session:
            tenants = await session.execute(text("SELECT tenant_id, name FROM gateway.tenants ORDER BY tenant_id"))
            assert [tuple(row) for row in tenants] == [("tenant_acme", "acme"), ("tenant_default", "Default")]
            keys = await session.execute(text("SELECT operator, scopes FROM gateway.keys ORDER BY key_id"))
            everything = ["read", "infer", "write", "admin"]
            assert [tuple(row) for row in keys] == [(True, everything), (False, everything)]
        await database.close()


async def test_who_may_not_make_roles_has_a_gateway_all_the_same(postgres: str) -> None:
    user = new_id("user")
    async with empty_database(postgres, owner=user) as url:
        await asyncio.to_thread(migrate, url, "gateway")
        database = Database(url, "gateway")
        requests = await Requests.of(database)
        assert requests._role == OWNER
        database.around = requests.around
        with answering(Asking("tenant_default", SOMEBODY, "tenant.update")):
            async with database.transaction() as session:
                await session.execute(text("UPDATE gateway.tenants SET name = 'Ours'"))
        async with database.transaction() as session:
            assert await session.scalar(text("SELECT action FROM gateway.audit")) == "tenant.update"
        await database.close()
