"""Rows of others are not seen even by a query that forgets to ask whose they are."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from sqlalchemy import Boolean, DateTime, Float, LargeBinary, Table, insert, select, text
from sqlalchemy.dialects.postgresql import ARRAY, JSONB
from sqlalchemy.exc import ProgrammingError
from sqlalchemy.types import Integer

from services.gateway import asking
from services.gateway.asking import Asking, Requests
from services.gateway.base import Base
from services.gateway.rowsecurity import ROLE
from sskai.contract import new_id
from sskai.database import Database
from tests.gateway.test_audit import SOMEBODY, answering

SERVICE = "gateway"
TABLES: dict[str, Table] = {table.name: table for table in Base.metadata.sorted_tables}
OF_TENANTS = {name: table for name, table in TABLES.items() if "tenant_id" in table.c}
# What a request may not even look into, and what says nothing of a tenant.
CLOSED = {"links"}
NOBODYS = {"inbox", "outbox", "users", "notices", "prices"}
NOT_NOTED = {"answers", "audit"}


def a_value(column: Any, number: int) -> Any:
    kinds = {Boolean: False, DateTime: datetime.now(UTC), Float: 0.5, Integer: number, LargeBinary: b"x", JSONB: {}}
    if isinstance(column.type, ARRAY):
        return []
    return next((value for kind, value in kinds.items() if isinstance(column.type, kind)), f"{column.name}-{number}")


async def test_every_table_of_tenants_has_a_policy_and_notes_changes(database: Database) -> None:
    assert set(TABLES) - set(OF_TENANTS) == NOBODYS
    async with database.transaction() as session:
        secured = set(await session.scalars(text(
            "SELECT tablename FROM pg_policies JOIN pg_tables USING (schemaname, tablename) "
            "WHERE schemaname = 'gateway' AND rowsecurity AND policyname = 'of_tenant'"
        )))  # fmt: skip
        noted = set(await session.scalars(text(
            "SELECT relname FROM pg_trigger JOIN pg_class ON pg_class.oid = tgrelid WHERE tgname = 'note_change'"
        )))  # fmt: skip
    assert secured == set(OF_TENANTS), "a new table needs isolate() in its migration: services/gateway/rowsecurity.py"
    assert noted == set(OF_TENANTS) - NOT_NOTED | {"outbox"}


async def test_a_query_without_a_tenant_finds_nothing_of_others(database: Database) -> None:
    tenants = [new_id("tenant"), new_id("tenant")]
    async with database.transaction() as session:
        for number, tenant_id in enumerate(tenants):
            for table in OF_TENANTS.values():
                row = {column.name: a_value(column, number) for column in table.c if column.identity is None}
                await session.execute(insert(table).values({**row, "tenant_id": tenant_id}))
    requests = await Requests.of(database)
    database.around = requests.around
    async with database.transaction() as session:
        assert await session.scalar(text("SELECT current_user")) != ROLE
        everything = {name: len((await session.execute(select(table))).all()) for name, table in OF_TENANTS.items()}
    assert min(everything.values()) >= 2
    with answering(Asking(tenants[0], SOMEBODY)):
        async with database.transaction() as session:
            assert await session.scalar(text("SELECT current_user")) == ROLE
            for name, table in OF_TENANTS.items():
                if name not in CLOSED:
                    seen = [row.tenant_id for row in await session.execute(select(table))]
                    assert seen == [tenants[0]], name
        row = {column.name: a_value(column, 7) for column in TABLES["jobs"].c} | {"tenant_id": tenants[1]}
        with pytest.raises(ProgrammingError, match="row-level security"):
            async with database.transaction() as session:
                await session.execute(insert(TABLES["jobs"]).values(row))
    with answering(Asking("", SOMEBODY)):
        async with database.transaction() as session:
            assert list(await session.execute(select(TABLES["jobs"]))) == []
    # Nothing of a request is left to the next transaction of its connection.
    async with database.transaction() as session:
        assert await session.scalar(text("SELECT count(*) FROM gateway.jobs")) == everything["jobs"]


async def test_without_the_role_requests_run_as_the_owner_and_it_is_said(
    database: Database, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(asking, "ROLE", "no_such_role")
    requests = await Requests.of(database)
    assert "row-level security" in capsys.readouterr().out
    database.around = requests.around
    with answering(Asking("tenant_a", SOMEBODY)):
        async with database.transaction() as session:
            assert await session.scalar(text("SELECT current_user = session_user"))
